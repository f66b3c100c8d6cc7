"""Ranks: where each rank ran and its place in the parallel layout."""

from ._schema import JOB, NODE, RANK, Column, Table

TABLE = Table(
    "ranks",
    __doc__ or "",
    ("job", "rank"),
    (
        JOB,
        RANK,
        NODE,
        Column("gpu", "i16", "local device index", optional=True, ordinal=True),
        Column("gpu_uuid", "str", "device UUID", optional=True),
        Column("gpu_model", "str", "name of the device as its driver gives it", optional=True),
        Column("dp", "i32", "data-parallel coordinate", optional=True, ordinal=True),
        Column("tp", "i32", "tensor-parallel coordinate", optional=True, ordinal=True),
        Column("pp", "i32", "pipeline-parallel coordinate (stage)", optional=True, ordinal=True),
        Column("cp", "i32", "context-parallel coordinate", optional=True, ordinal=True),
        Column("ep", "i32", "expert-parallel coordinate", optional=True, ordinal=True),
        Column("start_ns", "i64", "start of validity", optional=True),
        Column("end_ns", "i64", "end of validity", optional=True),
    ),
)
