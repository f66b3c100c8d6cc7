"""Values of DCGM's fields as a table: what `dcgmi dmon` prints, and CSV with numbers or names of fields as its head.

`dcgmi dmon` writes no times. Where no tool put one before each line, its default of one row a second, the last of them
when the file was written, is taken, and a warning says so.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes, _dcgm_names, _telemetry_file
from ._dcgm_names import Field
from ._telemetry_series import Series, columns

NAME = re.compile(r"DCGM_FI_\w+(?: ?[(\[].*)?")
ENTITY = re.compile(r"(?:GPU[ _-]?|nvidia)?(\d{1,3})", re.IGNORECASE)
OTHERS = re.compile(r"(?:GPU-(?:I|CI)|GPU \d+ LINK|CPU(?:Core)?|SW|LINK|Switch|Core|IB)\b", re.IGNORECASE)
MONITOR_ROW = re.compile(
    r"(?:(?P<time>\d{4}-\d\d-\d\d[T ][\d:.,]+\S*|\d{10}(?:\.\d+)?|\d{13}|\d{19})\s+)?GPU (?P<gpu>\d+)\s+(?P<rest>.*)"
)
# Nothing in it gives back what it took: pages of blanks would otherwise cost the cube of their length.
MONITOR_HEAD = re.compile(r"^[^\S\n]*+(?:\S++[^\S\n]++){0,2}#\s?Entity\b", re.M)
TIMES = ("timestamp", "time", "ts", "date", "datetime", "t", "time_s", "t_s", "t_ns", "timestamp_us")
GPUS = ("gpu", "gpuid", "gpu_id", "entity", "entityid", "entity_id", "device", "index", "gpu_index")
HOSTS = ("host", "hostname", "node", "nodename", "instance")
NOTHING = ("", "n/a", "na", "-", "nan", "null", "none", "not supported", "<<<null>>>", "<<<not_supported>>>")
DEFAULT_NS = 10**9
MOST_TOLD = 5


@dataclass
class Table:
    """Values of one file in the order of its rows."""

    told: list[tuple[Series, ...]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)  # how many rows of this GPU were before
    bad: list[int] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    others: int = 0
    place: dict[tuple[str, str, int], int] = field(default_factory=dict)
    turns: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, node: str, gpu: str, t_ns: int, fields: Sequence[Field | None], texts: Sequence[str]) -> None:
        """Add one row. Raises ValueError for a value that is neither a number nor none."""
        given = [(one, float(text)) for one, text in zip(fields, texts, strict=True)
                 if one is not None and text.strip().lower() not in NOTHING]  # fmt: skip
        turn = self.turns[node, gpu]
        self.turns[node, gpu] += 1
        for one, value in given:
            number = self.place.setdefault((node, gpu, one.number), len(self.told))
            if number == len(self.told):
                self.told.append(_dcgm_names.series(one, gpu, node))
            self.numbers.append(number)
            self.values.append(value)
            self.t_ns.append(t_ns)
            self.turn.append(turn)


class DcgmCsv:
    """Reads tables of DCGM's fields."""

    format: ClassVar[str] = "dcgm-csv"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a table."""
        text = head[:8192].decode("utf-8", "replace")
        if MONITOR_HEAD.search(text):
            return 0.95
        first = _head_line(text.split("\n"))
        if first is None:
            return 0.0
        cells = _heads(text.split("\n")[first])
        named = sum(NAME.fullmatch(cell) is not None for cell in cells)
        known = sum(_field(cell) is not None for cell in cells)
        return 0.95 if named else 0.7 if known and any(cell.lower() in (*GPUS, *TIMES) for cell in cells) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `samples`, and `events` for XIDs; raises Unreadable where no field of the head has a meaning here."""
        content, damage = _bytes.whole(path)
        lines = content.decode("utf-8", "replace").replace("\r", "").split("\n")
        cut = bool(lines.pop().strip()) if len(lines) > 1 else False  # a row without its end may be half of one
        node = _telemetry_file.node_of(path)
        monitor = MONITOR_HEAD.search(content[:8192].decode("utf-8", "replace"))
        table = _monitor(lines, node) if monitor else _separated(lines, node)
        if not table.numbers:
            raise Unreadable(_nothing(table))
        written_ns = _telemetry_file.changed_ns(path)
        t_ns, guessed = _times(table, written_ns)
        found = columns(table.told, np.array(table.numbers), np.array(table.values), t_ns)
        batches = [("samples", found.columns), ("events", found.events)]
        reading = _telemetry_file.reading(path, self.format, batches, ())
        reading.warnings = _warnings(table, found.repeated, guessed=guessed)
        if damage or cut:
            reading.status, reading.error = "partial", damage or "the last line is cut"
        return reading


def _monitor(lines: Sequence[str], node: str) -> Table:
    """Return what `dcgmi dmon` printed; its head may come again and change."""
    table = Table()
    fields: list[Field | None] = []
    for at, line in enumerate(lines, 1):
        if "Entity" in line and MONITOR_HEAD.match(line):
            heads = line.split("Entity", 1)[1].split()
            fields = [_dcgm_names.BY_HEAD.get(head) for head in heads]
            table.unknown.update(head for head, one in zip(heads, fields, strict=True) if one is None)
            continue
        hit = MONITOR_ROW.match(line.strip())
        if hit is None:
            table.others += bool(OTHERS.match(line.strip()))
            continue
        if hit["rest"].startswith("LINK"):
            table.others += 1
            continue
        texts = hit["rest"].split()
        try:
            if len(texts) != len(fields):
                raise ValueError(f"{len(texts)} values for {len(fields)} fields")
            table.add(node, hit["gpu"], _telemetry_file.moment_ns(hit["time"] or ""), fields, texts)
        except ValueError:
            table.bad.append(at)
    return table


def _head_line(lines: Sequence[str]) -> int | None:
    """Return the number of the first line that is neither blank nor a comment."""
    return next((at for at, line in enumerate(lines) if line.strip(" \ufeff") and not line.startswith("#")), None)


def _separator(line: str) -> str:
    return max(",\t;", key=line.count)


def _cells(line: str, separator: str) -> list[str]:
    """Return the fields of a line; raises ValueError where it is no row of CSV."""
    try:
        cells = next(csv.reader([line.strip("\ufeff\r")], delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return [cell.strip() for cell in cells]


def _heads(line: str) -> list[str]:
    """Return the heads of the columns, none where the line is no row of CSV."""
    try:
        return _cells(line, _separator(line))
    except ValueError:
        return []


def _field(head: str) -> Field | None:
    """Return the field that the head of a column names: by name, number, or as `dcgmi dmon` does."""
    bare = head.partition(" (")[0].partition("[")[0].strip()
    if bare.isdecimal() and len(bare) < 5:
        return _dcgm_names.BY_NUMBER.get(int(bare))
    return _dcgm_names.BY_NAME.get(bare) or _dcgm_names.BY_HEAD.get(bare)


def _separated(lines: Sequence[str], node: str) -> Table:
    table = Table()
    first = _head_line(lines)
    if first is None:
        return table
    heads = _heads(lines[first])
    separator = _separator(lines[first])
    lowered = [head.lower().strip("#").replace(" ", "_") for head in heads]
    at_time, at_gpu, at_host = (
        next((at for at, head in enumerate(lowered) if head in names), -1) for names in (TIMES, GPUS, HOSTS)
    )
    fields = [None if at in (at_time, at_gpu, at_host) else _field(head) for at, head in enumerate(heads)]
    table.unknown.update(
        head for at, (head, one) in enumerate(zip(heads, fields, strict=True))
        if one is None and at not in (at_time, at_gpu, at_host)
    )  # fmt: skip
    for number, line in enumerate(lines[first + 1 :], first + 2):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            texts = _cells(line, separator)
            if texts == heads:
                continue
            if len(texts) != len(heads):
                raise ValueError(f"{len(texts)} values for {len(heads)} columns")
            gpu = texts[at_gpu] if at_gpu >= 0 else "0"
            hit = ENTITY.fullmatch(gpu)
            if hit is None:
                if not OTHERS.match(gpu):
                    raise ValueError("no GPU")
                table.others += 1
                continue
            t_ns = _telemetry_file.moment_ns(texts[at_time]) if at_time >= 0 else -1
            if at_time >= 0 > t_ns:
                raise ValueError("no time")
            table.add(texts[at_host] if at_host >= 0 else node, hit[1], t_ns, fields, texts)
        except ValueError:
            table.bad.append(number)
    return table


def _times(table: Table, written_ns: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], bool]:
    """Return the time of each value, and whether it was made up: a row a second, the last when the file was written."""
    t_ns = np.array(table.t_ns, dtype=np.int64)
    untimed = t_ns < 0
    if not untimed.any():
        return t_ns, False
    turn = np.array(table.turn, dtype=np.int64)
    made = written_ns - (max(table.turns.values()) - 1 - turn) * DEFAULT_NS
    return np.where(untimed, made, t_ns), bool(turn.max() > 0)


def _nothing(table: Table) -> str:
    if table.unknown:
        return f"no column is a field with a meaning here: {', '.join(list(table.unknown)[:MOST_TOLD])}"
    return "no row with values"


def _warnings(table: Table, repeated: int, *, guessed: bool) -> list[str]:
    told = []
    if table.bad:
        more = " ..." if len(table.bad) > MOST_TOLD else ""
        told.append(f"{len(table.bad)} malformed lines (line {', '.join(map(str, table.bad[:MOST_TOLD]))}{more})")
    if table.unknown:
        told.append(
            f"{len(table.unknown)} columns without a meaning here ({', '.join(list(table.unknown)[:MOST_TOLD])})"
        )
    if table.others:
        told.append(f"{table.others} rows of links, switches, CPUs or parts of GPUs are left out")
    if repeated:
        told.append(f"{repeated} values repeat a field of a GPU at the same time: the first counts")
    if guessed:
        told.append("no times in the file: one row a second, dcgmi's default, is taken, the last when it was written")
    return told
