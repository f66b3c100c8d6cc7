"""Traffic and speed of links, as a matrix in long form."""

from ._schema import SOURCE, Column, Table

TABLE = Table(
    "links",
    __doc__ or "",
    ("t_ns", "src", "dst", "medium"),
    (
        Column("t_ns", "i64", "time of the sample", optional=True),
        Column("window_ns", "i64", "length of the window", optional=True),
        Column("src", "str", "sending end: node/gpu3 or rank4"),
        Column("dst", "str", "receiving end"),
        Column("medium", "str", "nvlink, pcie, infiniband, ethernet, tcp, probe"),
        Column("moved_bytes", "i64", "bytes moved in the window", optional=True),
        Column("speed_bytes_per_s", "f64", "measured speed", optional=True),
        Column("peak_bytes_per_s", "f64", "nominal speed", optional=True),
        Column("latency_ns", "i64", "round-trip time", optional=True),
        SOURCE,
    ),
)
