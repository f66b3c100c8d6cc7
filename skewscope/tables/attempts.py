"""Attempts of jobs as a scheduler's accounting tells them: one row per attempt and host that it had."""

from ._schema import SOURCE, Column, Table

TABLE = Table(
    "attempts",
    __doc__ or "",
    ("submission", "attempt", "node"),
    (
        Column("submission", "str", "id that the scheduler gave the job; a requeued job keeps it"),
        Column("attempt", "i32", "0 is the first, each requeue is the next", ordinal=True),
        Column("node", "str", "host that the attempt had"),
        Column("user", "str", "who submitted the job", optional=True),
        Column(
            "state",
            "str",
            "running, completed, failed, node-fail, timeout, out-of-memory, preempted, cancelled, requeued",
        ),
        Column("exit_code", "i32", "exit code of the program, 128 and more for a signal", optional=True, ordinal=True),
        Column("start_ns", "i64", "start, Unix epoch", optional=True),
        Column("end_ns", "i64", "end, Unix epoch; unknown while it runs", optional=True),
        SOURCE,
    ),
)
