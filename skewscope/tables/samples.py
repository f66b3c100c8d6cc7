"""Metric samples: one row per time, node, device and metric."""

from ._schema import NODE, Column, Table

TABLE = Table(
    "samples",
    __doc__ or "",
    ("t_ns", "node", "device", "metric"),
    (
        Column("t_ns", "i64", "time of the sample, Unix epoch"),
        NODE,
        Column("device", "str", "gpu3, mlx5_0 or empty for the host", optional=True),
        Column("metric", "str", "metric name, as exported"),
        Column("labels", "str", "other labels of the metric, as reason=hw_thermal; in declared order", optional=True),
        Column("value", "f64", "value in the metric's base unit"),
        Column("job", "str", "job that ran there", optional=True),
        Column("rank", "i32", "rank that ran there", optional=True, ordinal=True),
    ),
)
