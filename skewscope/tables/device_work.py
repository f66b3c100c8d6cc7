"""Work of the device with the host call that launched it: kernels, copies, fills and waits; read only in detail."""

from ._schema import END_NS, JOB, RANK, SOURCE, START_NS, STEP, Column, Table

TABLE = Table(
    "device_work",
    __doc__ or "",
    ("job", "rank", "stream", "start_ns"),
    (
        JOB,
        RANK,
        STEP,
        Column("device", "i16", "device of the rank's process", optional=True, ordinal=True),
        Column("stream", "i32", "stream of the device, numbered as in `ops`", ordinal=True),
        Column("kind", "str", "kernel, communication, memcpy, memset or wait"),
        Column("name", "str", "name of the kernel; of a copy its direction and memory, HtoD (Pageable -> Device)"),
        START_NS,
        END_NS,
        Column("launch_ns", "i64", "when the host's launch call began", optional=True),
        Column("launch_end_ns", "i64", "when it returned", optional=True),
        Column("call", "i64", "innermost operator that launched it, in `operators`", optional=True, ordinal=True),
        Column("correlation", "i64", "as recorded", optional=True, ordinal=True),
        Column("message_bytes", "i64", "bytes copied or filled; of a collective its input", optional=True),
        Column("grid", "str", "blocks as recorded: [128, 1, 1]", optional=True),
        Column("block", "str", "threads of a block as recorded", optional=True),
        Column("registers", "i32", "registers of a thread", optional=True, ordinal=True),
        Column("shared_memory_bytes", "i64", "of a block", optional=True),
        Column("occupancy_percent", "f64", "estimated achieved occupancy as recorded", optional=True),
        Column("graph", "i64", "CUDA graph it was launched by", optional=True, ordinal=True),
        SOURCE,
    ),
)
