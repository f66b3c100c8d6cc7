"""Collective and point-to-point calls: one row per call and rank that took part."""

from ._schema import JOB, RANK, SOURCE, STEP, Column, Table

TABLE = Table(
    "collectives",
    __doc__ or "",
    ("job", "source", "group", "op_class", "seq", "rank"),
    (
        JOB,
        STEP,
        RANK,
        Column("group", "str", "communicator name, unique in the job; for point to point 'p2p:SRC-DST'"),
        Column("group_size", "i32", "members by declaration", optional=True, ordinal=True),
        Column("seq", "i64", "k-th call of its op_class in the group; the key that joins ranks", ordinal=True),
        Column("op", "str", "all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, send, recv, barrier, ..."),
        Column(
            "op_class",
            "str",
            "what seq counts over: '' = all calls of the group, else the op name, or a channel as 'send'",
            optional=True,
        ),
        Column("dtype", "str", "element type", optional=True),
        Column("algo", "str", "algorithm", optional=True),
        Column("proto", "str", "protocol", optional=True),
        Column("message_bytes", "i64", "input bytes of this rank", optional=True),
        Column("peer", "i32", "the other rank of a point-to-point call", optional=True, ordinal=True),
        Column("ready_ns", "i64", "this rank arrived (called or kernel started), its host's clock", optional=True),
        Column("start_ns", "i64", "work began on this rank", optional=True),
        Column("end_ns", "i64", "complete on this rank", optional=True),
        Column("duration_ns", "i64", "measured execution time where start and end are not known", optional=True),
        Column("blocking", "bool", "the call holds the rank's own timeline until it ends"),
        Column("state", "str", "completed, started, scheduled or empty", optional=True),
        Column("stream", "i32", "device stream or host thread", optional=True, ordinal=True),
        Column(
            "stack", "str", "innermost user frames, file:line function, newest first, joined by ' < '", optional=True
        ),
        SOURCE,
    ),
)
