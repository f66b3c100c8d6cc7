"""Reads one file with the reader that claims it most; whatever goes wrong becomes a reason, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogue import room, rooms
from ..contracts import Coded, Columns, Reading, Source
from ..errors import Unreadable, UsageError
from . import _bytes, _cache, _remote
from ._gather_find import name_rank

Span = tuple[int, int]  # first and last time in ns, (-1, -1) where there are none
TIMED = {
    "steps": ("start_ns", "end_ns"), "ops": ("start_ns", "end_ns"), "collectives": ("ready_ns", "end_ns"),
    "samples": ("t_ns", "t_ns"), "windows": ("t_ns", "t_ns"), "links": ("t_ns", "t_ns"), "events": ("t_ns", "t_ns"),
    "expert_loads": ("", ""), "expert_placements": ("", ""), "expert_pairs": ("", ""), "balance_reports": ("", ""),
    "attempts": ("start_ns", "end_ns"), "operators": ("start_ns", "end_ns"), "device_work": ("start_ns", "end_ns"),
    "allocations": ("t_ns", "t_ns"),
}  # fmt: skip
PER_RANK = ("steps", "ops", "collectives", "operators", "device_work", "allocations")
LONGEST_REASON = 400
MANY = ("kineto", "flight-recorder")  # formats of hundreds of files a job, and names of their rooms: asked first
GLANCE_BYTES = 4096
SURE = 0.95  # a claim that no two readers make of the same file
NEVER = 2**63 - 1


@dataclass
class Draft:
    """One file's reading, the rank it is filed under, and what it holds: span of time per table and rank."""

    reading: Reading
    rank: int = -1
    holds: dict[tuple[str, int], Span] = field(default_factory=dict)
    folder: str = ""
    elsewhere: bool = False  # of another job than the one kept

    @property
    def path(self) -> str:
        """The file's path."""
        return self.reading.path

    @property
    def readable(self) -> bool:
        """Whether the file gave something."""
        return self.reading.status != "unreadable"

    def refuse(self, reason: str) -> None:
        """Let go of the rows and say why."""
        self.reading.status, self.reading.error, self.reading.events = "unreadable", reason, 0
        self.reading.batches, self.holds = [], {}


@cache
def readers() -> tuple[Source, ...]:
    """Return one instance of every reader."""
    return tuple(room.load() for room in rooms("sources"))


@cache
def _usual() -> tuple[Source, ...]:
    """Return one instance of the readers that are asked first."""
    return tuple(room("sources", name).load() for name in MANY)


def is_usual(path: Path) -> bool:
    """Return whether a reader that is asked first claims a file, so that the others need not even be imported."""
    try:
        head = _bytes.head(path, GLANCE_BYTES)
    except (Unreadable, OSError):
        return False
    return any(_claim(reader, head, path.name) >= SURE for reader in _usual())


def known_formats() -> str:
    """Return the formats that can be read, in words."""
    return ", ".join(sorted(reader.format for reader in readers()))


def read_one(path: Path, detail: bool = False, workers: int = 1) -> Draft:
    """Return what one file holds, `detail` of traces included; every failure is a reading with status 'unreadable'.

    Several `workers` share the bytes of a file whose reader can do that.
    """
    try:
        with _remote.at_hand(path):
            reading = _cache.remembered(path, detail, lambda: _read(path, detail, workers))
    except (Unreadable, UsageError) as error:
        reading = _failed(path, "", str(error))
    draft = Draft(_remote.named(reading, path), folder=_remote.folder_of(path))
    if not draft.readable:
        draft.rank = name_rank(path.name)[0]
    else:
        _file_under_rank(draft, path.name)
        draft.holds = holds(reading)
        # Two recordings may begin alike, so what a reader says is held against the times of all tables.
        reading.fingerprint = f"{reading.fingerprint or fingerprint(reading)} {sorted(draft.holds.items())}"
    return draft


def _read(path: Path, detail: bool, workers: int) -> Reading:
    try:
        head = _bytes.head(path)
    except Unreadable as error:
        return _failed(path, "", str(error))
    if not head.strip():
        return _failed(path, "", "empty file" if not head else "nothing but blanks")
    reasons: list[tuple[str, str]] = []
    for format_name, reader in _claimants(head, path.name):
        try:
            return _asked(reader, path, detail, workers)
        except (Unreadable, OSError) as error:
            reasons.append((format_name, str(error)))
        except Exception as error:  # noqa: BLE001 - one bad file must never stop the others
            reasons.append((format_name, f"{type(error).__name__}: {error}"))
    if not reasons:
        return _failed(path, "", f"not a recording that skewscope knows; expected one of: {known_formats()}")
    if len(reasons) == 1:
        return _failed(path, *reasons[0])
    return _failed(path, reasons[0][0], "; ".join(f"as {name}: {reason}" for name, reason in reasons))


def _asked(reader: Source, path: Path, detail: bool, workers: int) -> Reading:
    """Return what a reader makes of a file, by the way of reading that it has and that is asked for."""
    in_ranges = getattr(reader, "read_ranges", None)
    if workers > 1 and in_ranges is not None:
        found: Reading = in_ranges(path, workers, detail=detail)
        return found
    return getattr(reader, "read_detail", reader.read)(path) if detail else reader.read(path)


def _claimants(head: bytes, name: str) -> Iterator[tuple[str, Source]]:
    """Give the readers that claim a file, the surest first; the others are asked only after one of MANY has failed."""
    sure = next((reader for reader in _usual() if _claim(reader, head, name) >= SURE), None)
    if sure is not None:
        yield sure.format, sure
    left = (reader for reader in readers() if sure is None or reader.format != sure.format)
    claims = ((_claim(reader, head, name), reader.format, reader) for reader in left)
    for surety, format_name, reader in sorted(claims, key=lambda claim: (-claim[0], claim[1])):
        if surety > 0:
            yield format_name, reader


def _claim(reader: Source, head: bytes, name: str) -> float:
    try:
        return reader.sniff(head, name)
    except Exception:  # noqa: BLE001 - a reader that cannot even look does not know the file
        return 0.0


def _failed(path: Path, format_name: str, reason: str) -> Reading:
    text = " ".join(reason.split())
    short = text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + " ..."
    return Reading(str(path), format_name, status="unreadable", error=short)


def _file_under_rank(draft: Draft, name: str) -> None:
    """Take the rank from the content, else from the file's name, and put it where rows have none."""
    reading = draft.reading
    told, plainly = name_rank(name)
    single = reading.rank >= 0 or not _ranks_inside(reading)
    if not single:
        return
    if reading.rank >= 0 and plainly and told >= 0 and told != reading.rank:
        reading.warnings.append(f"the name says rank {told}, the content rank {reading.rank}: the content counts")
    draft.rank = reading.rank if reading.rank >= 0 else told if reading.format not in WHOLE_JOB else -1
    if reading.rank < 0 <= draft.rank:
        give_rank(draft, draft.rank)


# Of a job or of a node: a number in the name of such a file is no rank.
WHOLE_JOB = (
    "job-file", "canonical-table", "exposition-page", "nvidia-smi-xml", "kernel-log-text", "dcgm-csv", "balance-log",
    "eplb-load-stats", "expert-array", "expert-counts-csv", "expert-counts-json", "expert-map", "expert-pairs-csv",
    "route-log", "nccl-debug-log", "nccl-ras",
)  # fmt: skip


def give_rank(draft: Draft, rank: int) -> None:
    """File a draft whose rows name no rank under `rank`."""
    draft.rank = draft.reading.rank = rank
    batches: list[tuple[str, Columns]] = []
    for table, columns in draft.reading.batches:
        changed = dict(columns)
        if table != "expert_placements" and _nobody(changed.get("rank")):  # there a rank holds a slot
            changed["rank"] = rank
        if table == "events" and changed.get("device") == "":
            changed["device"] = f"rank{rank}"
        batches.append((table, changed))
    draft.reading.batches = batches
    draft.holds = {(table, rank if who < 0 else who): span for (table, who), span in draft.holds.items()}


def _nobody(rank: Any) -> bool:  # noqa: ANN401 - one value or an array
    return rank is not None and bool((np.asarray(rank) == -1).all())


def _ranks_inside(reading: Reading) -> bool:
    return any(
        "rank" in columns and not _nobody(columns["rank"]) for table, columns in reading.batches if table != "groups"
    )


def holds(reading: Reading) -> dict[tuple[str, int], Span]:
    """Return first and last time of every table and rank in a reading; files of one rank count as a whole."""
    found: dict[tuple[str, int], Span] = {}
    for table, columns in reading.batches:
        if table not in TIMED:
            continue
        ranks = columns.get("rank", -1)
        start, end = (np.asarray(columns.get(name, -1)) for name in TIMED[table])
        if reading.rank >= 0 or (np.isscalar(ranks) and table in PER_RANK):
            _widen(found, (table, reading.rank), np.atleast_1d(start), np.atleast_1d(end))
        elif not np.isscalar(ranks) and table in PER_RANK:
            _per_rank(found, table, np.asarray(ranks), start, end)
    return found


def _widen(found: dict[tuple[str, int], Span], key: tuple[str, int], start: Any, end: Any) -> None:  # noqa: ANN401
    known = found.get(key, (-1, -1))
    low = start[start >= 0].min(initial=NEVER)
    first = min(int(low), known[0] if known[0] >= 0 else NEVER)
    last = max(int(start.max(initial=-1)), int(end.max(initial=-1)), known[1])
    found[key] = (first if first < NEVER else -1, last)


def _per_rank(found: dict[tuple[str, int], Span], table: str, ranks: Any, start: Any, end: Any) -> None:  # noqa: ANN401
    who, place = np.unique(ranks, return_inverse=True)
    low = np.full(len(who), NEVER)
    high = np.full(len(who), -1)
    np.minimum.at(low, place, np.broadcast_to(np.where(start >= 0, start, NEVER), place.shape))
    np.maximum.at(high, place, np.broadcast_to(end, place.shape))
    for rank, first, last in zip(who.tolist(), low.tolist(), high.tolist(), strict=True):
        _widen(found, (table, rank), np.array([first if first < NEVER else -1]), np.array([last]))


def fingerprint(reading: Reading) -> str:
    """Return a digest of the numbers in a reading and its rank; equal ones are the same recording."""
    digest = blake2b(f"{reading.format} {reading.rank} {reading.job.get('parallelism')}".encode(), digest_size=16)
    for table, columns in reading.batches:
        digest.update(table.encode())
        for name in sorted(columns):
            digest.update(_bytes_of(columns[name]))
    return digest.hexdigest()


def _bytes_of(value: Any) -> bytes:  # noqa: ANN401 - any column
    if isinstance(value, Coded):
        return np.ascontiguousarray(value.codes).tobytes() + _text("\0".join(map(str, value.values)))
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return np.ascontiguousarray(value).tobytes()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _text("\0".join(map(str, value)))
    return _text(str(value))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")  # a damaged file may hold half a letter
