"""Recommendations: what to do, with the predicted gain."""

from ._schema import Column, Table

TABLE = Table(
    "recommendations",
    __doc__ or "",
    ("recommendation",),
    (
        Column("recommendation", "str", "id"),
        Column("finding", "str", "what it answers"),
        Column("planner", "str", "who computed it"),
        Column("kind", "str", "move-rank, replicate-expert, ..."),
        Column("subject", "str", "who"),
        Column("target", "str", "where to", optional=True),
        Column("before_ratio", "f64", "before", optional=True),
        Column("after_ratio", "f64", "after", optional=True),
        Column("bound_ratio", "f64", "bound", optional=True),
        Column("gain_s", "f64", "GPU-seconds per hour"),
        Column("cost_s", "f64", "GPU-seconds once", optional=True),
        Column("expires_ns", "i64", "stale after", optional=True),
        Column("args", "str", "JSON", optional=True),
        Column("why", "str", "one sentence"),
    ),
)
