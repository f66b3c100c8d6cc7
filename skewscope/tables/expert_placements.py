"""Which expert lies in which slot, per layer and from which step on."""

from ._schema import JOB, NODE, SOURCE, Column, Table

TABLE = Table(
    "expert_placements",
    __doc__ or "",
    ("job", "step", "layer", "slot", "source"),
    (
        JOB,
        Column("step", "i64", "first step for which the map holds", ordinal=True),
        Column("layer", "i32", "model layer", ordinal=True),
        Column("slot", "i32", "physical expert, counted over all ranks", ordinal=True),
        Column("expert", "i32", "logical expert in the slot, -1 where it is empty", ordinal=True),
        Column("rank", "i32", "expert-parallel rank that holds the slot, -1 unknown", ordinal=True, joins="ranks"),
        NODE,
        SOURCE,
    ),
)
