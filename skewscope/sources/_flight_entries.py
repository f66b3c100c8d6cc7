"""Entries of a flight recorder dump: checked one by one, then handed on as columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

Sizes = tuple[tuple[int, ...], ...]  # of tensors, each a size per dimension
Kinds = tuple[str, ...]  # their element types


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
        return self.ranks if isinstance(self.ranks, list) else [int(part) for part in re.findall(r"\d+", self.ranks)]


@dataclass(frozen=True)
class Calls:
    """The entries of one dump: for each field of `Entry` the values of all, in order."""

    time_created_ns: Sequence[int]
    process_group: Sequence[tuple[str, ...] | None]
    profiling_name: Sequence[str]
    collective_seq_id: Sequence[int]
    seq_id: Sequence[int]
    record_id: Sequence[int]
    is_p2p: Sequence[bool]
    state: Sequence[str | None]
    retired: Sequence[bool | None]
    time_discovered_started_ns: Sequence[int | None]
    time_discovered_completed_ns: Sequence[int | None]
    duration_ms: Sequence[float | None]
    input_sizes: Sequence[Sizes]
    input_dtypes: Sequence[Kinds]
    output_sizes: Sequence[Sizes]
    output_dtypes: Sequence[Kinds]
    frames: Sequence[Any]

    def __len__(self) -> int:
        return len(self.time_created_ns)


FIELDS: tuple[str, ...] = Entry.__struct_fields__


def columns(entries: Sequence[Entry]) -> Calls:
    """Return the columns of entries.

    >>> columns([Entry(seq_id=4), Entry(seq_id=5)]).seq_id
    (4, 5)
    """
    return Calls(*zip(*map(attrgetter(*FIELDS), entries), strict=True)) if entries else Calls(*((),) * len(FIELDS))
