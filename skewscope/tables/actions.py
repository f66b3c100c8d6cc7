"""Actions proposed to or taken by schedulers."""

from ._schema import Column, Table

TABLE = Table(
    "actions",
    __doc__ or "",
    ("action",),
    (
        Column("action", "str", "id"),
        Column("recommendation", "str", "what it carries out"),
        Column("actuator", "str", "which scheduler"),
        Column("state", "str", "proposed, approved, applied, refused, failed, expired, undone"),
        Column("dry_run", "bool", "nothing was changed"),
        Column("requested_ns", "i64", "when asked"),
        Column("finished_ns", "i64", "when done", optional=True),
        Column("actor", "str", "who asked"),
        Column("outcome", "str", "what came back", optional=True),
        Column("observed_gain_s", "f64", "gain seen in the next window", optional=True),
    ),
)
