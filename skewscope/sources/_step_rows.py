"""Lines of step logs to columns of `steps` and `samples`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from ..contracts import Coded, Columns, Reading
from ._step_names import Meaning

Array = np.ndarray[Any, Any]

LONGEST_NS = 10**16  # 115 days; a longer step is damage
LATEST_NS = 2**62
END = 1 << 63  # of whole numbers
SIZES = ((1e17, 1.0), (1e14, 1e3), (1e11, 1e6))  # a time of day at least this large is in ns, us, ms; else in s


class Row(NamedTuple):
    """One line: numbers, -1 or NaN where unknown."""

    step: int
    rank: int
    host: str
    start_ns: int
    length_ns: float
    tokens: int
    phases_ns: tuple[float, ...]
    metrics: tuple[float, ...]
    what: Meaning  # of which these are: lines of one log may have different phases


class Lines:
    """The usable lines of a log; `torn` holds the numbers of those that are not whole."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.torn: list[int] = []
        self.dropped = 0

    def add(self, what: Meaning, found: dict[str, Any]) -> None:
        """Keep one line, or count it as dropped."""
        step = _number(found.get(what.step))
        start = _time_ns(found.get(what.start[0]), what.start[1])
        phases = tuple(_number(found.get(column)) * per for column, _, per in what.phases)
        length = _length_ns(what, found, start, phases)
        if not (step >= 0 and step < 2**62):
            self.dropped += 1
            return
        tokens = _number(found.get(what.tokens))
        rank = _number(found.get(what.rank))
        self.rows.append(
            Row(int(step), int(rank) if 0 <= rank < 2**31 else -1, str(found.get(what.host) or ""), start, length,
                int(tokens) if 0 <= tokens < 2**62 else -1, phases,
                tuple(float(_number(found.get(column))) for column, _ in what.metrics), what)
        )  # fmt: skip


def batches(lines: Lines, reading: Reading) -> list[tuple[str, Columns]]:
    """Return the batches of `lines`; rank, node and warnings go into `reading`."""
    rows, counted = _sound(lines)
    reading.warnings += counted
    if not rows:
        return []
    rank = _array([row.rank for row in rows])
    hosts = [row.host for row in rows]
    one = bool((rank == rank[0]).all())
    reading.rank = int(rank[0]) if one else -1
    reading.node = hosts[0] if one and len(set(hosts)) == 1 else ""
    if not one:
        reading.job["hosts"] = {row.rank: row.host for row in rows if row.host}
    who: Any = int(rank[0]) if one else rank
    start, length = _laid_out(rows, rank, reading)
    made: list[tuple[str, Columns]] = [("steps", _steps(rows, who, start, length))]
    if any(row.metrics for row in rows):
        made.append(("samples", _samples(rows, who, start + length)))
    return made


def _sound(lines: Lines) -> tuple[list[Row], list[str]]:
    """Return the rows with a usable length, in order, each step once; and warnings with counts."""
    warnings = []
    rows = [row for row in lines.rows if 0 < row.length_ns < LONGEST_NS]
    left_out = len(lines.rows) - len(rows) + lines.dropped
    if left_out:
        warnings.append(f"{left_out} steps are left out: their length is missing, zero, negative or not finite")
    last: dict[tuple[int, int], Row] = {}
    for row in rows:
        last[row.rank, row.step] = row
    if len(last) < len(rows):
        warnings.append(f"{len(rows) - len(last)} steps are logged twice: the later line counts")
    key: Callable[[Row], tuple[int, int]] = lambda row: (row.rank, row.step)  # noqa: E731
    ordered = sorted(last.values(), key=key)
    seen: dict[int, int] = {}
    backwards = 0
    for row in rows:
        backwards += row.step < seen.get(row.rank, -1)
        seen[row.rank] = row.step
    if backwards:
        warnings.append("steps were out of order and have been sorted")
    return ordered, warnings


def _laid_out(rows: Sequence[Row], rank: Array, reading: Reading) -> tuple[Array, Array]:
    """Return start and length of each row, ns; without times of day steps are laid end to end."""
    start = _array([row.start_ns for row in rows])
    length = np.rint(np.array([row.length_ns for row in rows])).astype(np.int64)
    unknown = start < 0
    if unknown.all():
        reading.warnings.append("no times of day: each rank's steps are laid end to end from 0")
        before = np.cumsum(length) - length
        new = np.concatenate([[True], rank[1:] != rank[:-1]])
        return before - before[new][np.cumsum(new) - 1], length
    for place in np.flatnonzero(unknown):  # a single lost time: after the step before it
        same = place and rank[place] == rank[place - 1]
        start[place] = start[place - 1] + length[place - 1] if same else start[~unknown].min()
    return start, length


def _steps(rows: Sequence[Row], rank: Any, start: Array, length: Array) -> Columns:  # noqa: ANN401
    names, place = _named(rows, lambda what: [phase for _, phase, _ in what.phases])
    count, kinds = place.shape
    phases = _padded([row.phases_ns for row in rows], kinds)
    phases = np.where(phases > 0, phases, 0)
    ends = start[:, None] + np.minimum(np.rint(np.cumsum(phases, axis=1)).astype(np.int64), length[:, None])
    begins = np.concatenate([start[:, None], ends[:, :-1]], axis=1) if kinds else ends
    begin = np.concatenate([start, begins.T.ravel()])
    end = np.concatenate([start + length, ends.T.ravel()])
    code = np.concatenate([np.zeros(count, dtype=np.int64), place.T.ravel() + 1])
    kept = (np.arange(len(code)) < count) | (end > begin)
    again = kinds + 1
    return {
        "job": "job", "step": np.tile(_array([row.step for row in rows]), again)[kept],
        "rank": rank if np.isscalar(rank) else np.tile(rank, again)[kept], "phase": Coded(code[kept], ["step", *names]),
        "start_ns": begin[kept], "end_ns": end[kept],
        "work_tokens": np.tile(_array([row.tokens for row in rows]), again)[kept], "source": "step-log",
    }  # fmt: skip


def _samples(rows: Sequence[Row], rank: Any, t_ns: Array) -> Columns:  # noqa: ANN401
    metrics, place = _named(rows, lambda what: [metric for _, metric in what.metrics])
    kinds, code = place.shape[1], place.T.ravel()
    value = _padded([row.metrics for row in rows], kinds)
    kept = np.isfinite(value.T.ravel())
    hosts = list(dict.fromkeys(row.host for row in rows))
    node = np.tile(_array([hosts.index(row.host) for row in rows]), kinds)
    return {
        "t_ns": np.tile(t_ns, kinds)[kept], "node": Coded(node[kept], hosts), "metric": Coded(code[kept], metrics),
        "value": value.T.ravel()[kept], "job": "job",
        "rank": rank if np.isscalar(rank) else np.tile(rank, kinds)[kept],
    }  # fmt: skip


def _named(rows: Sequence[Row], names_of: Callable[[Meaning], list[str]]) -> tuple[list[str], Array]:
    """Return the names that the values of rows have, and which of them each has [rows, most values], -1 for none."""
    told = {id(row.what): names_of(row.what) for row in rows}
    names = list(dict.fromkeys(name for some in told.values() for name in some))
    most = max(map(len, told.values()))
    place = {key: [*map(names.index, some), *[-1] * (most - len(some))] for key, some in told.items()}
    return names, np.array([place[id(row.what)] for row in rows], dtype=np.int64).reshape(len(rows), most)


def _padded(values: Sequence[tuple[float, ...]], most: int) -> Array:
    """Return values [rows, most], NaN behind the last of each."""
    made = [row if len(row) == most else row + (np.nan,) * (most - len(row)) for row in values]
    return np.array(made, dtype=float).reshape(len(values), most)


def _array(values: Sequence[int]) -> Array:
    return np.array(values, dtype=np.int64)


def _number(value: object) -> float:
    """Return a number (ints stay exact), NaN for anything else, such as an int that no float holds."""
    if isinstance(value, bool) or value is None:
        return float("nan")
    if isinstance(value, int | float):
        return value if isinstance(value, float) or abs(value) < END else float("nan")
    try:
        text = str(value).strip()
        return int(text) if text.lstrip("+-").isdecimal() and len(text) < 20 else float(text)
    except ValueError:
        return float("nan")


def _time_ns(value: object, per: float) -> int:
    """Return a time of day in ns, -1 where there is none; `per` 0 lets the size tell the unit.

    >>> _time_ns(1700000000.5, 0), _time_ns(1700000000500, 0), _time_ns("2023-11-14T22:13:20Z", 0)
    (1700000000500000000, 1700000000500000000, 1700000000000000000)
    """
    number = _number(value)
    if number != number and isinstance(value, str):
        number, per = _calendar_s(value), 1e9
    if not 0 <= number < LATEST_NS:
        return -1
    scale = per or next((scale for size, scale in SIZES if number >= size), 1e9)
    made = int(number * int(scale)) if isinstance(number, int) else round(number * scale)
    return made if made < LATEST_NS else -1


def _calendar_s(text: str) -> float:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return float("nan")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _length_ns(what: Meaning, found: dict[str, Any], start_ns: int, phases: Sequence[float]) -> float:
    if what.whole[0]:
        return float(_number(found.get(what.whole[0])) * what.whole[1])
    end = _time_ns(found.get(what.end[0]), what.end[1]) if what.end[0] else -1
    if start_ns >= 0 and end >= 0:
        return float(end - start_ns)
    return float(sum(phase for phase in phases if phase > 0))
