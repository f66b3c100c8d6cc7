"""Things that happened: XID, ECC, link down, restart, hang watchdog, stack dump."""

from ._schema import NODE, Column, Table

TABLE = Table(
    "events",
    __doc__ or "",
    ("t_ns", "node", "device", "event"),
    (
        Column("t_ns", "i64", "time", optional=True),
        NODE,
        Column("device", "str", "gpu3, mlx5_0, rank4 or empty", optional=True),
        Column("event", "str", "xid, ecc, link-down, restart, no-progress, stack, ..."),
        Column("code", "i32", "code of the event", optional=True, ordinal=True),
        Column("message", "str", "text", optional=True),
    ),
)
