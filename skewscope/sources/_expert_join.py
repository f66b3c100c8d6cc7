"""Sums the expert loads of ranks that lie in a file each, before they become large tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Columns, Reading

LOADS, PLACEMENTS = "expert_loads", "expert_placements"
KEYS = ("step", "layer", "expert", "slot", "phase", "job", "source")


@dataclass
class _Whole:
    """Files that hold the same steps, layers and experts: the first gets the sum."""

    first: Reading
    total: list[Columns]
    digests: set[bytes] = field(default_factory=set)
    ranks: set[int] = field(default_factory=set)
    files: int = 0
    twins: int = 0

    def fits(self, reading: Reading, mine: Sequence[Columns]) -> bool:
        """Return whether a file may be of another rank of the same recording."""
        return reading.rank not in self.ranks and _same_keys(self.total, mine)

    def take(self, reading: Reading, mine: list[Columns]) -> None:
        """Add a file, and let go of its rows unless it is the first."""
        self.files += 1
        self.ranks.add(reading.rank)
        digest = _digest(mine)
        if digest in self.digests:
            self.twins += 1
        elif self.digests:
            self.total = [_added(one, other) for one, other in zip(self.total, mine, strict=True)]
        self.digests.add(digest)
        if reading is not self.first:
            reading.batches = [batch for batch in reading.batches if batch[0] not in (LOADS, PLACEMENTS)]

    def close(self) -> None:
        """Put the sum into the first file, where there is more than one."""
        if self.files < 2:
            return
        if self.twins:
            self.first.warnings.append(_twice(self.twins, self.files))
        others = [batch for batch in self.first.batches if batch[0] != LOADS]
        self.first.batches = [*others, *((LOADS, {**columns, "rank": -1}) for columns in self.total)]


def sum_ranks(readings: Sequence[Reading]) -> dict[str, str]:
    """Sum the loads of ranks' files of one folder and format that hold the same steps, layers and experts, in place.

    The first file gets the sum, as of rank -1. Identical files are summed over ranks already: one of them counts, and
    a warning says so. Maps of slots are kept once. Rings without time are put one behind the other. What does not fit
    stays as it is; nothing is refused.
    """
    folders: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        if any(table == LOADS for table, _ in reading.batches):
            folders.setdefault((str(Path(reading.path).parent), reading.format), []).append(reading)
    for members in folders.values():
        ordered = sorted(members, key=lambda reading: (reading.path, reading.rank))
        rings = [reading for reading in ordered if any(columns.get("unordered") for columns in _loads(reading))]
        _one_behind_the_other(rings)
        _sum([reading for reading in ordered if reading not in rings])
    return {}


def _sum(members: Sequence[Reading]) -> None:
    wholes: list[_Whole] = []
    for reading in members:
        mine = _loads(reading)
        home = next((whole for whole in wholes if whole.fits(reading, mine)), None)
        if home is None:
            wholes.append(home := _Whole(reading, mine))
        home.take(reading, mine)
    for whole in wholes:
        whole.close()


def _one_behind_the_other(rings: Sequence[Reading]) -> None:
    """Give the places of each ring numbers of their own, for they are other steps than those of the ring before."""
    begin = 0
    for reading in rings:
        moved = [
            (table, {**columns, "step": columns["step"] + begin} if table == LOADS else columns)
            for table, columns in reading.batches
        ]
        begin = 1 + max(int(columns["step"].max(initial=-1)) for table, columns in moved if table == LOADS)
        reading.batches = moved


def _twice(twins: int, files: int) -> str:
    if twins == files - 1:
        return f"all {files} ranks' files hold identical counts: they are summed over ranks already, and one is taken"
    return f"{twins} of {files} ranks' files repeat the counts of another rank: the same tokens, counted once"


def _loads(reading: Reading) -> list[Columns]:
    return [columns for table, columns in reading.batches if table == LOADS]


def _same_keys(one: Sequence[Columns], other: Sequence[Columns]) -> bool:
    return len(one) == len(other) and all(
        _equal(mine.get(name), theirs.get(name)) for mine, theirs in zip(one, other, strict=True) for name in KEYS
    )


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - columns of any kind
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and bool(np.all(one == other))


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> Columns:
    tokens = one["routed_tokens"].astype(np.int64) + other["routed_tokens"]
    return {**one, "routed_tokens": tokens}


def _digest(parts: Sequence[Columns]) -> bytes:
    digest = blake2b(digest_size=16)
    for columns in parts:
        digest.update(np.ascontiguousarray(columns["routed_tokens"], dtype=np.int64).data)
    return digest.digest()
