"""How often two experts of two layers served the same token."""

from ._schema import JOB, SOURCE, Column, Table

TABLE = Table(
    "expert_pairs",
    __doc__ or "",
    ("job", "layer", "next_layer", "expert", "next_expert", "source"),
    (
        JOB,
        Column("layer", "i32", "the earlier layer", ordinal=True),
        Column("next_layer", "i32", "the later layer, by default the next one", ordinal=True),
        Column("expert", "i32", "logical expert of the earlier layer", ordinal=True),
        Column("next_expert", "i32", "logical expert of the later layer", ordinal=True),
        Column("routed_tokens", "i64", "tokens (pairs of picks) that both experts served"),
        SOURCE,
    ),
)
