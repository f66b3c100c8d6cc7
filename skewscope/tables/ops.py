"""Operations: compute, copies and host work of a rank, one row each."""

from ._schema import END_NS, JOB, RANK, SOURCE, STAGE, START_NS, STEP, Column, Table

TABLE = Table(
    "ops",
    __doc__ or "",
    ("job", "rank", "step", "stream", "start_ns"),
    (
        JOB,
        RANK,
        STEP,
        STAGE,
        Column("microbatch", "i32", "microbatch", optional=True, ordinal=True),
        Column("chunk", "i16", "model chunk (virtual pipeline)", optional=True, ordinal=True),
        Column(
            "op",
            "str",
            "forward, backward, send_forward, reduce_scatter, optimizer, kernel, memcpy, cpu, data, gc, ...",
        ),
        Column("stream", "i32", "device stream, or a small number per host thread", ordinal=True),
        Column("name", "str", "kernel or operator name", optional=True),
        START_NS,
        END_NS,
        Column("group", "str", "communicator of a communication op", optional=True),
        Column("seq", "i64", "sequence number in its kind", optional=True, ordinal=True),
        Column("message_bytes", "i64", "bytes moved", optional=True),
        Column("launch_ns", "i64", "when the host launched a device op", optional=True),
        Column("launch_end_ns", "i64", "when that launch call returned", optional=True),
        SOURCE,
    ),
)
