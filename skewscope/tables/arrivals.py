"""Who arrived when: one row per collective and rank, on the common clock."""

from ._schema import JOB, RANK, SOURCE, STEP, Column, Table

TABLE = Table(
    "arrivals",
    __doc__ or "",
    ("job", "source", "group", "op_class", "seq", "rank"),
    (
        JOB,
        STEP,
        RANK,
        Column("group", "str", "communicator"),
        Column("group_size", "i32", "members by declaration", optional=True, ordinal=True),
        Column("op_class", "str", "see collectives", optional=True),
        Column("seq", "i64", "see collectives", ordinal=True),
        Column("op", "str", "operation"),
        Column("call", "i64", "number of the matched call, unique over groups and seqs", ordinal=True),
        Column("members_count", "i64", "members seen"),
        Column("message_bytes", "i64", "bytes", optional=True),
        Column("ready_ns", "i64", "arrival on the common clock", optional=True),
        Column("end_ns", "i64", "completion on the common clock", optional=True),
        Column("late_ns", "f64", "arrival minus the median arrival of the other members"),
        Column("wait_ns", "f64", "last arrival minus own arrival"),
        Column("transfer_ns", "f64", "completion minus last arrival"),
        Column("last", "bool", "this rank arrived last, by more than the clock uncertainty"),
        Column("by_wait", "bool", "no common clock: derived from the shortest duration"),
        SOURCE,
    ),
    derived=True,
)
