"""Each rank's step split into own work, exposed transfer, waiting and idle."""

from ._schema import JOB, NODE, RANK, SOURCE, STAGE, Column, Table

TABLE = Table(
    "rank_steps",
    __doc__ or "",
    ("job", "step", "rank"),
    (
        JOB,
        Column("step", "i64", "step number", ordinal=True),
        RANK,
        NODE,
        STAGE,
        Column("start_ns", "i64", "step start, common clock"),
        Column("end_ns", "i64", "step end, common clock"),
        Column("work_ns", "f64", "what ranks are compared by: own_ns, and gaps of the host where calls are the model"),
        Column("own_ns", "f64", "own work: recorded compute and host work that nothing held up"),
        Column("compute_ns", "f64", "of it compute (device kernels, or host operators in a CPU job)"),
        Column("input_ns", "f64", "of it waiting for the next batch"),
        Column("gc_ns", "f64", "of it Python garbage collection"),
        Column("checkpoint_ns", "f64", "of it checkpoint or evaluation"),
        Column("transfer_ns", "f64", "communication that nothing hid, after everybody had arrived"),
        Column("wait_ns", "f64", "waiting for others to arrive"),
        Column("idle_ns", "f64", "none of these"),
        Column("comm_ns", "f64", "all communication time, hidden or not"),
        Column("hidden_ns", "f64", "of comm_ns, while the rank computed", optional=True),
        Column("wait_for_rank", "i32", "the rank this one waited for longest", optional=True, ordinal=True),
        Column("forward_ns", "f64", "forward work", optional=True),
        Column("backward_ns", "f64", "backward work", optional=True),
        Column("work_tokens", "i64", "tokens", optional=True),
        SOURCE,
    ),
    derived=True,
)
