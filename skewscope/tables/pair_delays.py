"""Speed and delay between pairs of ranks."""

from ._schema import JOB, SOURCE, Column, Table

TABLE = Table(
    "pair_delays",
    __doc__ or "",
    ("job", "src_rank", "dst_rank", "source"),
    (
        JOB,
        Column("src_rank", "i32", "sender", ordinal=True),
        Column("dst_rank", "i32", "receiver", ordinal=True),
        Column("transfers_count", "i64", "transfers seen"),
        Column("delay_ns", "f64", "median delay beyond both being ready", optional=True),
        Column("speed_bytes_per_s", "f64", "median speed", optional=True),
        Column("ns_per_byte_ratio", "f64", "median delay per byte, ns", optional=True),
        SOURCE,
    ),
    derived=True,
)
