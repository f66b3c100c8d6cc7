"""Step and phase times: one row per step, rank and phase (phase 'step' is the whole)."""

from ._schema import END_NS, JOB, RANK, SOURCE, START_NS, Column, Table

TABLE = Table(
    "steps",
    __doc__ or "",
    ("job", "step", "rank", "phase", "microbatch"),
    (
        JOB,
        Column("step", "i64", "step number as the job counts it", ordinal=True),
        RANK,
        Column("phase", "str", "step, data, forward, backward, sync, optimizer, checkpoint, eval, gc, other"),
        Column("microbatch", "i32", "microbatch, where the phase is per microbatch", optional=True, ordinal=True),
        START_NS,
        END_NS,
        Column("work_tokens", "i64", "tokens of the step on this rank", optional=True),
        SOURCE,
    ),
)
