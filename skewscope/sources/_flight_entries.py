"""Entries of a flight recorder dump: checked one by one, then handed on as numbers of each and kinds of many."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]
DIGITS = 18  # numbers with more do not fit 64 bits
Sizes = tuple[tuple[int, ...], ...]  # of tensors, each a size per dimension
Kinds = tuple[str, ...]  # their element types

NUMBERS = (
    "time_created_ns", "collective_seq_id", "seq_id", "record_id", "time_discovered_started_ns",
    "time_discovered_completed_ns", "duration_ms",
)  # fmt: skip
SHARED = (
    "process_group", "profiling_name", "is_p2p", "state", "retired", "input_sizes", "input_dtypes", "output_sizes",
    "output_dtypes",
)  # fmt: skip


class Entry(msgspec.Struct, gc=False):
    """One recorded call; what older formats lack has a default."""

    time_created_ns: int = -1
    process_group: tuple[str, ...] | None = None
    profiling_name: str = ""
    collective_seq_id: int = -1
    seq_id: int = -1
    record_id: int = -1
    is_p2p: bool = False
    state: str | None = None
    retired: bool | None = None
    time_discovered_started_ns: int | None = None
    time_discovered_completed_ns: int | None = None
    duration_ms: float | None = None
    input_sizes: Sizes = ()
    input_dtypes: Kinds = ()
    output_sizes: Sizes = ()
    output_dtypes: Kinds = ()
    frames: Any = None  # list of {name, filename, line}, kept as it is because entries share it


class Group(msgspec.Struct, gc=False):
    """One communicator of `pg_config`; `ranks` is text such as "[0, 1]"."""

    name: str = ""
    desc: str = ""
    ranks: str | list[int] = ""

    @property
    def members(self) -> list[int]:
        """Global ranks, or none where the backend left them out."""
        return self.ranks if isinstance(self.ranks, list) else [*_listed(self.ranks)]


@lru_cache(maxsize=64)
def _listed(ranks: str) -> tuple[int, ...]:
    told = re.findall(r"\d+", ranks)
    if any(len(one) > DIGITS for one in told):
        raise OverflowError
    return tuple(map(int, told))  # the dumps of a job list the same members


@dataclass(frozen=True)
class Kind:
    """What many entries have in common: all that is no number of the single call."""

    process_group: tuple[str, ...] | None
    profiling_name: str
    is_p2p: bool
    state: str | None
    retired: bool | None
    input_sizes: Sizes
    input_dtypes: Kinds
    output_sizes: Sizes
    output_dtypes: Kinds
    frames: Any


@dataclass(frozen=True)
class Calls:
    """The entries of one dump in order: `kind` [n] is the place of each in `kinds`, `numbers` its own, by field."""

    numbers: Mapping[str, Sequence[Any] | Array]
    kind: Array
    kinds: Sequence[Kind]

    def __len__(self) -> int:
        return len(self.kind)


def columns(entries: Sequence[Entry]) -> Calls:
    """Return the entries as numbers and kinds, the latter in the order in which they first appear.

    >>> made = columns([Entry(seq_id=4), Entry(seq_id=5)])
    >>> made.numbers["seq_id"], made.kind.tolist(), len(made.kinds)
    ((4, 5), [0, 0], 1)
    """
    if not entries:
        return Calls(dict.fromkeys(NUMBERS, ()), np.zeros(0, dtype=np.int64), ())
    numbers = zip(*map(attrgetter(*NUMBERS), entries), strict=True)
    frames = [one.frames if isinstance(one.frames, list) else () for one in entries]  # a dump shares them
    place: dict[Any, int] = {}
    first = [
        place.setdefault((shared, tuple(map(id, stack))), number)
        for number, (shared, stack) in enumerate(zip(map(attrgetter(*SHARED), entries), frames, strict=True))
    ]
    told: list[tuple[Any, ...]] = [(*shared, frames[number]) for (shared, _), number in place.items()]
    kinds = [Kind(*parts) for parts in told]
    kind = np.unique(first, return_inverse=True)[1]
    return Calls(dict(zip(NUMBERS, numbers, strict=True)), kind, kinds)
