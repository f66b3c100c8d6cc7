"""One moment of a job as the live view shows it: jobs, findings, and a row per rank or GPU, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

SCHEMA = "skewscope.top/1"
NAN = float("nan")
SLOW_RATIO = 1.1  # own work beyond peers from which on a rank is called slow
IDLE_RATIO = 0.05  # utilisation below which a GPU is called idle
SEVERITIES = ("S1", "S2", "S3", "S4")
STATES = ("culprit", "victim", "slow", "silent", "idle", "ok")
COLUMNS = ("state", "rank", "node", "gpu", "job", "util", "power", "temp", "memory", "step", "work", "wait")
UP = ("rank", "node", "gpu", "job", "state")  # sorted from the least; numbers from the most


@dataclass(frozen=True)
class Job:
    """One job: NaN is unknown. `lost_gpus` is what its findings cost now, in GPUs; `lost_gpu_hours` so far."""

    name: str
    ranks: int = -1
    step_s: float = NAN
    slowdown: float = NAN
    lost_gpus: float = NAN
    lost_gpu_hours: float = NAN


@dataclass(frozen=True)
class Found:
    """One finding or incident: `since_ns` -1 is unknown, `state` is open, growing, mitigated, or "" in a report."""

    severity: str
    condition: str
    subject: str
    role: str = "culprit"
    state: str = ""
    job: str = ""
    rank: int = -1
    node: str = ""
    cost_s: float = NAN
    share: float = NAN
    lost_gpus: float = NAN
    since_ns: int = -1
    summary: str = ""


@dataclass(frozen=True)
class Row:
    """One rank, or a GPU that no rank is known of: numbers are NaN and -1 where unknown.

    `work_ratio` is own work over the median of its job's ranks, `wait_ratio` the share of the step that it waits.
    """

    rank: int = -1
    node: str = ""
    gpu: str = ""
    job: str = ""
    util_ratio: float = NAN
    power_watts: float = NAN
    power_limit_watts: float = NAN
    temperature_celsius: float = NAN
    memory_ratio: float = NAN
    step_s: float = NAN
    work_ratio: float = NAN
    wait_ratio: float = NAN
    state: str = "ok"
    why: str = ""


@dataclass(frozen=True)
class Frame:
    """What is shown: `time_ns` is the moment it speaks of, `wrong` what could not be asked, one line each."""

    time_ns: int
    source: str
    verdict: str = ""
    jobs: tuple[Job, ...] = ()
    findings: tuple[Found, ...] = ()
    rows: tuple[Row, ...] = ()
    wrong: tuple[str, ...] = ()


def merged(parts: Sequence[Frame]) -> Frame:
    """Return one frame of what several sources tell: the first that knows a thing counts; rows get their state.

    Of a rank the last that knows it counts, and what it leaves open is filled from those before: agents tell the
    present, and a service only the last window.
    """
    first = parts[0]
    frame = replace(
        first, source=" and ".join(part.source for part in parts), time_ns=max(part.time_ns for part in parts),
        verdict=next((part.verdict for part in parts if part.verdict), ""),
        jobs=next((part.jobs for part in parts if part.jobs), ()),
        findings=next((part.findings for part in parts if part.findings), ()),
        wrong=tuple(line for part in parts for line in part.wrong),
    )  # fmt: skip
    rows: dict[tuple[str, int], Row] = {}
    for number, row in enumerate(row for part in parts for row in part.rows):
        key = (row.job, row.rank) if row.rank >= 0 else ("", -1 - number)
        rows[key] = _filled(row, rows[key]) if key in rows else row
    return replace(frame, rows=tuple(judged(list(rows.values()), frame.findings)))


def _filled(row: Row, other: Row) -> Row:
    """Return a row with what it does not know taken from another of the same rank."""
    known = {name: value for name, value in asdict(row).items() if value == value and value not in ("", -1)}
    return replace(other, **known)


def judged(rows: Sequence[Row], findings: Sequence[Found]) -> list[Row]:
    """Return the rows with their states, and a row for each rank or GPU that only a finding names; worst first."""
    named = [_with_finding(row, findings) for row in rows]
    known = {(row.job, row.rank) for row in rows if row.rank >= 0} | {("", row.rank) for row in rows if row.rank >= 0}
    for one in findings:
        if one.rank >= 0 and (one.job, one.rank) not in known and ("", one.rank) not in known and one.role != "context":
            gpu = one.subject.partition("/gpu")[2] if "/gpu" in one.subject else ""
            named.append(Row(one.rank, one.node, gpu, one.job, state=one.role, why=one.condition))
            known.add((one.job, one.rank))
    return ordered(named, "")


def _with_finding(row: Row, findings: Sequence[Found]) -> Row:
    for role in ("culprit", "victim"):
        for one in findings:
            if one.role == role and one.state not in ("closed", "mitigated") and _concerns(one, row):
                return replace(row, state=role, why=one.condition)
    if row.state == "silent":
        return row
    if row.work_ratio >= SLOW_RATIO:
        return replace(row, state="slow", why=f"{row.work_ratio:.2f}x the work of its peers")
    if row.util_ratio < IDLE_RATIO:
        return replace(row, state="idle")
    return row


def _concerns(one: Found, row: Row) -> bool:
    """Return whether a finding is of this rank, its GPU, or its whole node."""
    if one.rank >= 0 and row.rank >= 0:
        return one.rank == row.rank and (not one.job or not row.job or one.job == row.job)
    if row.node and row.gpu and one.subject == f"{row.node}/gpu{row.gpu}":
        return True
    return bool(row.node) and one.subject == row.node


def ordered(rows: Sequence[Row], column: str, *, reverse: bool = False) -> list[Row]:
    """Return rows sorted by a column of COLUMNS, "" by how bad they are; what is unknown stands last.

    >>> [row.rank for row in ordered([Row(0, work_ratio=1.0), Row(1, work_ratio=1.4, state="slow"), Row(2)], "")]
    [1, 0, 2]
    >>> [row.rank for row in ordered([Row(0, util_ratio=0.5), Row(1), Row(2, util_ratio=0.9)], "util")]
    [2, 0, 1]
    """
    if not column:
        made = sorted(
            rows, key=lambda row: (_place(row), _falling(row.work_ratio), row.job, row.rank, row.node, row.gpu)
        )
    else:
        made = sorted(rows, key=lambda row: (_key(row, column), row.job, row.rank, row.node, row.gpu))
    return made[::-1] if reverse else made


def _place(row: Row) -> int:
    return STATES.index(row.state) if row.state in STATES else len(STATES)


def _falling(value: float) -> float:
    return -value if math.isfinite(value) else math.inf


def _key(row: Row, column: str) -> Any:  # noqa: ANN401 - text or number, one kind for one column
    texts = {"rank": row.rank if row.rank >= 0 else 10**9, "node": row.node, "gpu": row.gpu, "job": row.job,
             "state": _place(row)}  # fmt: skip
    numbers = {"util": row.util_ratio, "power": row.power_watts, "temp": row.temperature_celsius,
               "memory": row.memory_ratio, "step": row.step_s, "work": row.work_ratio,
               "wait": row.wait_ratio}  # fmt: skip
    return texts[column] if column in texts else _falling(numbers[column])


def matching(rows: Sequence[Row], text: str) -> list[Row]:
    """Return the rows that hold a text in any of their names; all for an empty one.

    >>> [row.rank for row in matching([Row(1, "n1"), Row(12, "n2")], "n2")]
    [12]
    """
    wanted = text.lower().strip()
    names = (f"rank{row.rank} {row.node}/gpu{row.gpu} {row.job} {row.state} {row.why}".lower() for row in rows)
    return [row for row, name in zip(rows, names, strict=True) if wanted in name]


def document(frame: Frame) -> dict[str, Any]:
    """Return a frame as `skewscope.top/1`: plain values, None for what is unknown."""
    told = asdict(frame)
    return {"schema": SCHEMA, **{name: _plain(value) for name, value in told.items()}}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        return {name: None if name in ("rank", "ranks", "since_ns") and one == -1 else _plain(one)
                for name, one in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
