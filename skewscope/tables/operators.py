"""Host calls in their nesting: operators, runtime calls, modules and annotations; read only in detail."""

from ._schema import END_NS, JOB, RANK, SOURCE, START_NS, STEP, Column, Table

TABLE = Table(
    "operators",
    __doc__ or "",
    ("job", "rank", "call"),
    (
        JOB,
        RANK,
        STEP,
        Column("call", "i64", "number of this call in its rank, by thread and start", ordinal=True),
        Column("parent", "i64", "the call that encloses it on its thread; unknown for the outermost", True, True),
        Column("thread", "i32", "host thread, 0 is the one with the steps", ordinal=True),
        Column("kind", "str", "operator, runtime, module, python, annotation or wait"),
        Column("name", "str", "as recorded, such as aten::mm, cudaLaunchKernel, nn.Module: Linear_3"),
        START_NS,
        END_NS,
        Column("shapes", "str", "sizes of the inputs, as recorded: [[64, 128], [128, 32]]", optional=True),
        Column("dtypes", "str", "types of the inputs, as recorded: ['float', 'float']", optional=True),
        Column("values", "str", "scalar inputs, as recorded (Concrete Inputs)", optional=True),
        Column("sequence", "i64", "joins a forward operator with its backward one", optional=True, ordinal=True),
        Column("correlation", "i64", "of runtime calls: joins with the device work it launched", True, ordinal=True),
        SOURCE,
    ),
)
