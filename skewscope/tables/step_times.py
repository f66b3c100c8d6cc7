"""Time of each step: as measured, as replayed, and ideal."""

from ._schema import JOB, SOURCE, Column, Table

TABLE = Table(
    "step_times",
    __doc__ or "",
    ("job", "step"),
    (
        JOB,
        Column("step", "i64", "step number", ordinal=True),
        Column("start_ns", "i64", "first rank's start"),
        Column("duration_ns", "f64", "measured"),
        Column("replay_ns", "f64", "replayed without change", optional=True),
        Column("ideal_ns", "f64", "replayed with every cause repaired", optional=True),
        Column("planned", "bool", "a checkpoint, evaluation or warm-up step: never judged"),
        Column("ranks_count", "i64", "ranks seen"),
        SOURCE,
    ),
    derived=True,
)
