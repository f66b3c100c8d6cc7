"""Metric series cut into windows: the mean, extremes or growth of each in each window.

Made of `samples` where it is not given: it is a hundredth of their size, and so what is kept and passed on.
"""

from ._schema import NODE, Column, Table

TABLE = Table(
    "windows",
    __doc__ or "",
    ("metric", "labels", "node", "device", "rank", "t_ns"),
    (
        Column("t_ns", "i64", "end of the window, Unix epoch"),
        Column("window_ns", "i64", "length of the window"),
        NODE,
        Column("device", "str", "gpu3, mlx5_0 or empty for the host", optional=True),
        Column("metric", "str", "metric name, as exported"),
        Column("labels", "str", "other labels of the metric, as reason=hw_thermal; in declared order", optional=True),
        Column("job", "str", "job that ran there", optional=True),
        Column("rank", "i32", "rank that ran there", optional=True, ordinal=True),
        Column("mean_value", "f64", "gauges: mean of the samples, in the metric's base unit", optional=True),
        Column("low_value", "f64", "gauges: smallest sample", optional=True),
        Column("high_value", "f64", "gauges: largest sample", optional=True),
        Column("last_value", "f64", "last sample", optional=True),
        Column("increase_value", "f64", "counters: growth in the window, resets taken out", optional=True),
        Column("samples_count", "i64", "samples in the window"),
    ),
)
