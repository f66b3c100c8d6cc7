"""What a table is: named columns with a type, a unit in the name and a declared unknown."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import SchemaError

UNITS = ("_ns", "_s", "_bytes", "_bytes_per_s", "_tokens", "_ratio", "_count", "_ppm", "_percent")
TYPES: dict[str, int | float | str | bool] = {
    "i64": -1, "i32": -1, "i16": -1, "f64": float("nan"), "str": "", "bool": False,
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column: name (unit as its last word), type, doc; `unknown` allowed where `optional`.

    `ordinal` marks an integer that is a name or an ordinal (rank, step, seq) and so has no unit.
    """

    name: str
    type: str
    doc: str
    optional: bool = False
    ordinal: bool = False
    joins: str = ""

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise SchemaError(f"column {self.name}: type {self.type!r} is none of {', '.join(TYPES)}")
        plain = self.type in ("str", "bool") or self.ordinal
        if not plain and not self.name.endswith((*UNITS, "value")):
            raise SchemaError(f"column {self.name} hides its unit: end it with one of {', '.join(UNITS)}")
        if not self.doc:
            raise SchemaError(f"column {self.name} has no doc")

    @property
    def unknown(self) -> int | float | str | bool:
        """The declared value that stands for "not known"."""
        return TYPES[self.type]


@dataclass(frozen=True)
class Table:
    """One table: its key and columns; `derived` ones are computed by attribution, never read from files."""

    name: str
    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    derived: bool = False
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})
        missing = [name for name in self.key if name not in self.by_name]
        if missing:
            raise SchemaError(f"table {self.name}: key columns {missing} are not declared")


JOB = Column("job", "str", "job name; 'job' where the recording has none")
RANK = Column("rank", "i32", "global rank", ordinal=True, joins="ranks")
STEP = Column("step", "i64", "step number as the job counts it", optional=True, ordinal=True)
STAGE = Column("stage", "i16", "pipeline stage, 0 is the first", optional=True, ordinal=True)
NODE = Column("node", "str", "host name", optional=True)
SOURCE = Column("source", "str", "format of the recording that the row came from", optional=True)
START_NS = Column("start_ns", "i64", "start, Unix epoch, clock of the rank's host")
END_NS = Column("end_ns", "i64", "end, Unix epoch, clock of the rank's host")
