"""Raw records of a ring as columns: one list a field instead of one object a record, which is what makes them cheap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter, sub

from skewscope.spool import KINDS, RECORD_BYTES

COLLECTIVE, PHASE, STEP, EXPERTS, WORK = (
    KINDS.index(kind) for kind in ("collective", "phase", "step", "experts", "work")
)
KIND_AT = 8
# Numbers of 8 bytes in a record: number, (kind, op, group, flags, step), seq, start, end, device, size, (extra, crc)
SEQ, START, END, DEVICE, SIZE = 2, 3, 4, 5, 6


class Rows:
    """Records of one kind, op and group in the order in which they were written; times are monotonic ns."""

    __slots__ = ("_columns", "_places", "_take", "group", "kind", "op")

    def __init__(self, key: int, columns: tuple[list[int], ...], places: list[int]) -> None:
        self.kind, self.op, self.group = key & 0xFF, key >> 8 & 0xFF, key >> 16
        self._columns, self._places = columns, places
        self._take = itemgetter(*places)

    def _some(self, column: int) -> Sequence[int]:
        values = self._columns[column]
        if len(values) == len(self._places):
            return values
        return self._take(values) if len(self._places) > 1 else (values[self._places[0]],)

    def seqs(self) -> Sequence[int]:
        """Return the numbers of the calls in their group."""
        return self._some(0)

    def starts(self) -> Sequence[int]:
        """Return when each began."""
        return self._some(1)

    def spent(self) -> Sequence[int]:
        """Return how long each took (ns): on the GPU where that is known, else from start to end."""
        found = self._some(2)
        return found if min(found) >= 0 else [max(one, 0) for one in found]

    def sizes(self) -> Sequence[int]:
        """Return bytes, or units of work."""
        return self._some(3)


def kind_counts(raw: bytes | bytearray) -> list[tuple[str, int]]:
    """Return how many records there are of each kind.

    >>> kind_counts(bytes(8) + bytes([3]) + bytes(55))
    [('step', 1)]
    """
    kinds = bytes(raw[KIND_AT::RECORD_BYTES])
    found = [(name, kinds.count(number)) for number, name in enumerate(KINDS) if number]
    known = sum(count for _, count in found)
    found.append(("other", len(kinds) - known))
    return [(name, count) for name, count in found if count]


def split(raw: bytes | bytearray) -> Iterator[Rows]:
    """Yield the records by kind, op and group; those of experts have other fields and stay out."""
    with memoryview(raw) as view, view.cast("q") as words, view.cast("I") as halves:
        keys = [key & 0xFFFFFF for key in halves[2::16].tolist()]  # the fourth byte is flags
        seqs, starts, ends, devices, sizes = (words[at::8].tolist() for at in (SEQ, START, END, DEVICE, SIZE))
    spent = list(map(sub, ends, starts))
    if max(devices) >= 0:
        spent = [device if device >= 0 else host for device, host in zip(devices, spent, strict=True)]
    for key, places in _places(keys).items():
        if key & 0xFF != EXPERTS:
            yield Rows(key, (seqs, starts, spent, sizes), places)


def _places(keys: list[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {key: [] for key in set(keys)}
    for at, key in enumerate(keys):
        places[key].append(at)
    return places


def experts(raw: bytes | bytearray) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (step, layer, token counts of up to eight experts) of each record of experts."""
    if EXPERTS not in raw[KIND_AT::RECORD_BYTES]:
        return
    kinds = raw[KIND_AT::RECORD_BYTES]
    with memoryview(raw) as view, view.cast("i") as signed, view.cast("I") as words:
        for record, kind in enumerate(kinds):
            if kind == EXPERTS:
                at = record * 16
                count = min(words[at + 14], 8)
                yield signed[at + 3], words[at + 5], words[at + 6 : at + 6 + count].tolist()


def ended_before(raw: bytes | bytearray, moment_ns: int) -> int:
    """Return how many bytes from the beginning hold records up to the last that ended before `moment_ns`."""
    with memoryview(raw) as view, view.cast("q") as words:
        ends = words[END::8].tolist()
    kinds = raw[KIND_AT::RECORD_BYTES]
    for at in range(len(ends) - 1, -1, -1):
        if kinds[at] in (COLLECTIVE, PHASE, STEP) and ends[at] < moment_ns:
            return (at + 1) * RECORD_BYTES
    return 0
