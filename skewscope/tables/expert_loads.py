"""Tokens per expert, layer and step."""

from ._schema import JOB, SOURCE, Column, Table

TABLE = Table(
    "expert_loads",
    __doc__ or "",
    ("job", "step", "layer", "expert", "slot", "rank", "phase", "source"),
    (
        JOB,
        Column("step", "i64", "step number; of a ring buffer only a place", ordinal=True),
        Column("layer", "i32", "model layer", ordinal=True),
        Column("expert", "i32", "logical expert", ordinal=True),
        Column("slot", "i32", "physical replica", optional=True, ordinal=True),
        Column(
            "rank", "i32", "rank whose tokens these are, -1 where the ranks are summed", ordinal=True, joins="ranks"
        ),
        Column("routed_tokens", "i64", "tokens routed"),
        Column("dropped_tokens", "i64", "tokens dropped", optional=True),
        Column("capacity_tokens", "i64", "capacity", optional=True),
        Column("phase", "str", "prefill, decode, train; empty where nobody tells", optional=True),
        Column("top_k", "i16", "experts that a token picks", optional=True, ordinal=True),
        Column("unordered", "bool", "the steps are places of a ring buffer: no order in time", optional=True),
        SOURCE,
    ),
)
