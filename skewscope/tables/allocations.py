"""The allocator's record: every allocation (positive) and release (negative) of memory; read only in detail."""

from ._schema import JOB, RANK, SOURCE, STEP, Column, Table

TABLE = Table(
    "allocations",
    __doc__ or "",
    ("job", "rank", "t_ns", "device"),
    (
        JOB,
        RANK,
        STEP,
        Column("t_ns", "i64", "when, Unix epoch, clock of the rank's host"),
        Column("device", "str", "gpu0, or cpu"),
        Column("size_bytes", "i64", "bytes taken (above 0) or given back (below 0)"),
        Column("allocated_bytes", "i64", "in use by tensors after this, on that device", optional=True),
        Column("reserved_bytes", "i64", "held by the allocator after this", optional=True),
        Column("address", "i64", "as recorded", optional=True, ordinal=True),
        Column("call", "i64", "innermost operator that did it, in `operators`", optional=True, ordinal=True),
        SOURCE,
    ),
)
