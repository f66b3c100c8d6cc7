"""The price list: seconds per step that repairing one cause alone would save."""

from ._schema import JOB, RANK, STAGE, Column, Table

TABLE = Table(
    "blame",
    __doc__ or "",
    ("job", "kind", "subject", "cause"),
    (
        JOB,
        Column("kind", "str", "rank, stage, link, group, job or op"),
        Column("subject", "str", "subject grammar"),
        RANK,
        Column("peer", "i32", "other end of a link", optional=True, ordinal=True),
        STAGE,
        Column("cause", "str", "compute, input, gc, host, transfer, stage, sequence, operation name or 'rest'"),
        Column("lost_s", "f64", "seconds per step saved by repairing only this"),
        Column("lost_share_ratio", "f64", "the same over the mean step time"),
        Column("rate_ratio", "f64", "own work against peers, 1 = equal", optional=True),
        Column("steps_count", "i64", "steps it was priced on"),
        Column("first_step", "i64", "first step with the effect", optional=True, ordinal=True),
        Column("last_step", "i64", "last step with the effect", optional=True, ordinal=True),
        Column("start_ns", "i64", "start of that window", optional=True),
        Column("end_ns", "i64", "end of that window", optional=True),
        Column("hit_share_ratio", "f64", "share of steps in which this subject was the one", optional=True),
        Column("confidence_ratio", "f64", "0..1"),
        Column("peers_count", "i64", "peers it was compared with"),
        Column("model", "str", "which graph priced it"),
    ),
    derived=True,
)
