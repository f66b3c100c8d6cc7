"""Members of the communicators: one row per group and rank."""

from ._schema import JOB, RANK, SOURCE, Column, Table

TABLE = Table(
    "groups",
    __doc__ or "",
    ("job", "group", "rank"),
    (
        JOB,
        Column("group", "str", "communicator name, unique in the job"),
        RANK,
        Column("description", "str", "what the job calls it: default_pg, mesh_dp", optional=True),
        Column("group_size", "i32", "members by declaration", optional=True, ordinal=True),
        SOURCE,
    ),
)
