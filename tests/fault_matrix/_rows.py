"""What a row of the matrix is, how it is lived through, and the table of outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEAD = """# Fault matrix

What each part does when something goes wrong around it. `make matrix` lives through all rows with real programs, judges
them, and fails where one does not hold; with `SKEWSCOPE_MATRIX_MARKDOWN=docs/fault_matrix.md` it writes this page.

| part | fault | what must hold | what was seen | verdict |
|---|---|---|---|---|
"""


class Impossible(Exception):
    """This machine does not let the fault be made."""


@dataclass(frozen=True)
class Row:
    """`live(folder)` makes the fault and returns what was seen; it raises AssertionError where `must` does not hold."""

    part: str
    fault: str
    must: str
    live: Callable[[Path], str]
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.part}: {self.fault}"


Lived = Callable[[Path], str]


def row(rows: list[Row], part: str, fault: str, must: str, *, quick: bool = False) -> Callable[[Lived], Lived]:
    """Return what adds a function to rows."""

    def added(live: Lived) -> Lived:
        rows.append(Row(part, fault, must, live, quick))
        return live

    return added


def holds(true: object, said: object) -> None:
    """Raise AssertionError with what was seen unless it is true."""
    if not true:
        raise AssertionError(str(said)[-1500:])


def markdown(told: dict[Row, tuple[str, str]]) -> str:
    """Return the page: rows to (what was seen, verdict)."""
    lines = (
        " | ".join(text.replace("|", "/").replace("\n", " ") for text in (row.part, row.fault, row.must, seen, verdict))
        for row, (seen, verdict) in told.items()
    )
    return HEAD + "".join(f"| {line} |\n" for line in lines)
