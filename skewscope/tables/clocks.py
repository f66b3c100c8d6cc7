"""Clock of each node against the reference, estimated from collectives that end together."""

from ._schema import JOB, Column, Table

TABLE = Table(
    "clocks",
    __doc__ or "",
    ("job", "node"),
    (
        JOB,
        Column("node", "str", "host name"),
        Column("offset_ns", "f64", "how far the node is ahead of the common clock; subtracted to align"),
        Column("drift_ppm", "f64", "drift against the reference"),
        Column("uncertainty_ns", "f64", "robust standard error of one aligned time"),
        Column("pairs_count", "i64", "collectives used"),
        Column("aligned", "bool", "the offset was significant and has been applied"),
    ),
    derived=True,
)
