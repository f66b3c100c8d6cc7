"""Tokens per expert, layer and step."""

from ._schema import JOB, RANK, Column, Table

TABLE = Table(
    "expert_loads",
    __doc__ or "",
    ("job", "step", "layer", "expert", "slot", "rank"),
    (
        JOB,
        Column("step", "i64", "step number", ordinal=True),
        Column("layer", "i32", "model layer", ordinal=True),
        Column("expert", "i32", "logical expert", ordinal=True),
        Column("slot", "i32", "physical replica", optional=True, ordinal=True),
        RANK,
        Column("routed_tokens", "i64", "tokens routed"),
        Column("dropped_tokens", "i64", "tokens dropped", optional=True),
        Column("capacity_tokens", "i64", "capacity", optional=True),
    ),
)
