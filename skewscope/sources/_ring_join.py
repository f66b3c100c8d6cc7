"""Rings and segments of many processes to one recording: one job, its last run, each record once, one clock a machine.

A spool outlives its jobs, and a ring its process, so a folder may hold several jobs, and several runs of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..contracts import Reading
from ..spool import Header
from . import _ring_records, _ring_steps, _ring_tables
from ._ring_records import Array, Part

Item = TypeVar("Item")
Key = TypeVar("Key")
SAME_CLOCK_NS = 20_000  # pairs of one machine's clocks are taken less exactly than this


@dataclass(frozen=True)
class Writer:
    """One process: its files, all that they hold together, and the world's time of its last sign of life."""

    readings: tuple[Reading, ...]
    whole: Part

    @property
    def header(self) -> Header:
        """The newest header."""
        return self.whole.header

    @property
    def last_ns(self) -> int:
        """When it was last heard of."""
        return self.header.realtime_ns

    @property
    def label(self) -> str:
        """How its files are called."""
        return Path(self.readings[0].path).name.split(".", 1)[0] + ".*"


def join(readings: Sequence[Reading]) -> dict[str, str]:
    """Put the parts of each rank together, in place; return for each file that is of something else why, by path."""
    writers = [_writer(files) for files in _by(readings, lambda one: _ring_records.writer(_part(one).header)).values()]
    refused: dict[str, str] = {}
    kept = _last_runs(_one_job(writers, refused), refused)
    clocks = _clocks(one.header for one in kept)
    span = _ring_steps.counted([one.whole.records for one in kept])
    for one in kept:
        _tell(one, clocks.get(one.header.boot_id, _offset(one.header)), span)
    for reading in readings:
        del reading.job["part"], reading.job["made"]
    return refused


def _part(reading: Reading) -> Part:
    part: Part = reading.job["part"]
    return part


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _writer(files: list[Reading]) -> Writer:
    files.sort(key=lambda reading: (reading.path.endswith(".ring"), reading.path))
    return Writer(tuple(files), _ring_records.joined([_part(reading) for reading in files]))


def _one_job(writers: list[Writer], refused: dict[str, str]) -> list[Writer]:
    """Return the writers of the job with most ranks, of equals the newest."""
    jobs = _by(writers, lambda one: one.header.job)
    kept = max(jobs, key=lambda name: _weight(jobs[name]))
    for name in jobs.keys() - {kept}:
        why = f"belongs to another job ({name}, kept is {kept}): analyse its files {_safe(jobs[name])} on their own"
        refused.update((reading.path, why) for one in jobs[name] for reading in one.readings)
    return jobs[kept]


def _weight(writers: list[Writer]) -> tuple[int, int]:
    ranks = {one.header.rank for one in writers if len(one.whole.records)}
    return len(ranks), max(one.header.started_ns for one in writers)


def _safe(writers: list[Writer]) -> str:
    return writers[0].label.rsplit("-r", 1)[0] + "-r*"


def _last_runs(writers: list[Writer], refused: dict[str, str]) -> list[Writer]:
    """Return the last run of each rank; what other ranks did before that run began is of an earlier one too."""
    ranks = _by(writers, lambda one: one.header.rank)
    chosen = {rank: _last_run(several) for rank, several in ranks.items()}
    again = [chosen[rank].header.started_ns for rank, several in ranks.items() if len(several) > 1]
    begun_ns = min(again, default=0)
    kept = []
    for one in writers:
        if one is chosen[one.header.rank] and one.last_ns >= begun_ns:
            kept.append(one)
            continue
        why = f"another run of rank {one.header.rank} (process {one.header.pid}): analyse {one.label} on its own"
        refused.update((reading.path, why) for reading in one.readings)
    return kept


def _last_run(several: list[Writer]) -> Writer:
    """Return the newest of one rank's processes; of two at the same time the one that recorded more (not its child)."""
    several.sort(key=lambda one: one.header.started_ns)
    last = several[0]
    for one in several[1:]:
        meanwhile = one.header.started_ns < last.last_ns
        if not meanwhile or len(one.whole.records) >= len(last.whole.records):
            last = one
    return last


def _offset(header: Header) -> int:
    return header.realtime_ns - header.monotonic_ns


def _clocks(headers: Iterable[Header]) -> Mapping[bytes, int]:
    """Return for each machine (by its boot) what to add to its monotonic clock, from the newest pair of readings."""
    newest: dict[bytes, Header] = {}
    for header in headers:
        known = newest.get(header.boot_id)
        if any(header.boot_id) and (known is None or header.monotonic_ns > known.monotonic_ns):
            newest[header.boot_id] = header
    return {boot: _offset(header) for boot, header in newest.items()}


def _tell(one: Writer, offset_ns: int, span: _ring_steps.Span) -> None:
    """Give the largest of a writer's files all the rows, and each file the number of records that it adds."""
    chief = max(one.readings, key=lambda reading: reading.events)
    made_ns, made_span = chief.job["made"]
    if len(one.readings) > 1 or abs(offset_ns - made_ns) > SAME_CLOCK_NS or span != made_span:
        chief.batches = _ring_tables.batches(one.header, one.whole.records, offset_ns, span)
    seen = np.zeros(0, dtype=np.uint64)
    for reading in one.readings:
        numbers = _part(reading).records["number"]
        reading.events = int((~np.isin(numbers, seen)).sum())
        seen = np.concatenate([seen, numbers])
        if reading is not chief:
            reading.batches = []
    chief.warnings += _lost(one.whole.records["number"])


def _lost(numbers: Array) -> list[str]:
    """Return a line where records between the first and the last are missing."""
    if not len(numbers):
        return []
    count = int(numbers[-1] - numbers[0]) + 1 - len(numbers)
    if count <= _ring_records.BEING_WRITTEN:
        return []
    place = int(np.argmax(np.diff(numbers) > 1))
    return [f"{count:,} records are lost from number {int(numbers[place]) + 1:,} on: the ring went round unread"]
