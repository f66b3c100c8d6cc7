"""Findings: what is wrong, with whom, since when, at what cost."""

from ._schema import Column, Table

TABLE = Table(
    "findings",
    __doc__ or "",
    ("finding",),
    (
        Column("finding", "str", "hash of condition, subject and window"),
        Column("condition", "str", "id of the catalogue"),
        Column("subject", "str", "subject grammar"),
        Column("severity", "str", "S1..S4"),
        Column("role", "str", "culprit, victim or context"),
        Column("job", "str", "job", optional=True),
        Column("first_ns", "i64", "start of the window", optional=True),
        Column("last_ns", "i64", "end of the window", optional=True),
        Column("score_ratio", "f64", "score against its threshold, 1 = at it", optional=True),
        Column("confidence_ratio", "f64", "0..1"),
        Column("lost_s", "f64", "seconds per step that repairing only this would save"),
        Column("evidence", "str", "JSON list of signals"),
        Column("explained_by", "str", "finding that explains this one", optional=True),
    ),
)
