"""Finds the entries of a flight recorder pickle by their bytes, so that only one of each kind need be unpickled.

Thousands of entries have a few forms. Whatever is written in another way than PyTorch's and Python's picklers write it
is left to the general way of reading; what is found here is the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats import segments
from . import _flight_form as opcodes
from ._flight_entries import NUMBERS
from ._flight_form import PUTS, Form, Forms, StrangeError, Texts, number, place_of, tokens

Array = np.ndarray[Any, Any]

FEWEST = 64  # entries; fewer are read sooner than told apart
ENTRIES_PER_FORM = 8  # on average; to follow an unknown form takes as long as to read thirty entries
OPENING_SHARE = 0.5  # of the bytes: where more come before the first entry, entries are not what takes long
LEAST_BYTES = 16  # of an entry
BATCH = (opcodes.APPENDS, opcodes.MARK)  # Python ends a list's entries after each thousand, and begins again


@dataclass(frozen=True)
class Thin:
    """A dump of `count` entries, one of each kind; for all entries the place of their kind there, and their numbers."""

    content: bytes
    count: int
    kind: Array
    numbers: dict[str, Array]


def thinned(content: bytes, known: Forms) -> Thin | None:
    """Return the entries of a pickled dump by kind; None where they are few or not as expected."""
    try:
        return _thinned(content, known)
    except (StrangeError, LookupError):
        return None


def _thinned(content: bytes, known: Forms) -> Thin:
    begin, texts, filled = _opening(content)
    starts, stops = _bounds(content, begin)
    count = len(starts)
    leader = np.empty(count, dtype=np.int64)
    numbers = {name: np.full(count, -1, dtype=np.int64) for name in NUMBERS} | {"duration_ms": np.zeros(count)}
    places = [np.array(filled, dtype=np.int64)]
    for found, rows, block in _forms(content, starts, stops, texts, known):
        leader[rows] = rows[found.leaders(block)]
        places.append(found.places(block))
        for name, token in found.numbers.items():
            numbers[name][rows] = number(block, token)
    _check_filled_once(np.concatenate(places), len(content))
    first, kind = segments.levels(leader)
    kept = [content[at:to] for at, to in zip(starts[first].tolist(), stops[first].tolist(), strict=True)]
    return Thin(content[:begin] + b"".join(kept) + content[stops[-1] :], len(first), kind, numbers)


def _opening(content: bytes) -> tuple[int, Texts, list[int]]:
    """Return where the first entry begins, the texts in the memo by then, and its places that are filled."""
    limit = content.find(b"entries") + LEAST_BYTES
    if content[:2] != b"\x80\x02" or limit > OPENING_SHARE * len(content):
        raise StrangeError
    texts: Texts = {}
    filled: list[int] = []
    depth, named, before = 0, False, (opcodes.NONE, 0, 0)
    for token in tokens(content, 2):
        opcode, first, last = token
        if opcode in PUTS:
            filled.append(place_of(content, token))
            if before[0] == opcodes.TEXT:
                texts[filled[-1]] = content[before[1] : before[2]]
        elif opcode in (opcodes.MARK, *opcodes.CLOSING):
            depth += 1 if opcode == opcodes.MARK else -1
        if named and opcode == opcodes.MARK and depth == 2:
            return last, texts, filled
        named = (
            content[first:last] == b"entries" if opcode == opcodes.TEXT else named and opcode in (opcodes.LIST, *PUTS)
        )
        before = token
        if last > limit:
            break
    raise StrangeError


def _bounds(content: bytes, begin: int) -> tuple[Array, Array]:
    """Return where entries begin and end; that they do so is seen only when each of them has a form."""
    data = np.frombuffer(content, dtype=np.uint8)
    opened = np.flatnonzero(data[begin + 1 : -LEAST_BYTES] == opcodes.DICT) + begin + 1
    found = [np.array([begin])]
    named = _first_key(content, begin)
    for put, skipped in (([], 1), ([PUTS[0]], 3), ([PUTS[1]], 6)):
        there = opened
        for offset, byte in [*enumerate(put, 1), *enumerate(named, skipped)]:
            there = there[data[there + offset] == byte]
        found.append(there)
    starts = np.sort(np.concatenate(found))
    starts = starts[np.append(True, np.diff(starts) >= LEAST_BYTES)]  # the place in the memo may look like a dict
    if len(starts) < FEWEST:
        raise StrangeError
    stop = _stop(content, int(starts[-1]))
    if content[stop] != opcodes.APPENDS:  # what follows would be of the last entry, which may not be kept
        raise StrangeError
    stops = np.append(starts[1:], stop)
    split = (data[stops[:-1] - 2] == BATCH[0]) & (data[stops[:-1] - 1] == BATCH[1])
    stops[:-1][split] -= 2
    return starts, stops


def _first_key(content: bytes, at: int) -> bytes:
    """Return what entries begin with after the one that is there: a mark, and the same first key from the memo."""
    marked, place = False, 0
    for token in tokens(content, at):
        if marked and token[0] in (*PUTS, *opcodes.GETS):
            place = place_of(content, token)
            break
        marked |= token[0] == opcodes.MARK
    named = [opcodes.GETS[0], place] if place < 256 else [opcodes.GETS[1], *place.to_bytes(4, "little")]
    return bytes([opcodes.MARK, *named])


def _stop(content: bytes, at: int) -> int:
    """Return where the entry ends that begins there."""
    depth, stop = 0, at
    for opcode, _, last in tokens(content, at):
        if stop > at and opcode not in PUTS:
            break
        depth += (opcode == opcodes.MARK) - (opcode in opcodes.CLOSING)
        if not depth and last > at + LEAST_BYTES:
            stop = last
    return stop


def _forms(
    content: bytes, starts: Array, stops: Array, texts: Texts, known: Forms
) -> Iterator[tuple[Form, Array, Array]]:  # fmt: skip
    """Give each form, the numbers of its entries and their bytes [n, size]; the form that is met first comes first."""
    sizes = stops - starts
    most = len(starts) // ENTRIES_PER_FORM
    found = np.unique(sizes).tolist()
    if found[0] < LEAST_BYTES or len(found) > most:
        raise StrangeError
    pending: list[tuple[int, Array, Array]] = []
    for size in found:
        rows = np.flatnonzero(sizes == size)
        windows = np.ndarray((len(content) - size + 1, size), np.uint8, content, strides=(1, 1))
        heapq.heappush(pending, (int(rows[0]), rows, windows[starts[rows]]))
    for _ in range(most):
        if not pending:
            return
        _, rows, block = heapq.heappop(pending)
        made = known.of(block[0], texts)
        same = made.fits(block)
        if not same.all():
            rest = np.flatnonzero(~same)
            heapq.heappush(pending, (int(rows[rest[0]]), rows[rest], block[rest]))
            rows, block = rows[same], block[same]
        yield made, rows, block
    if pending:
        raise StrangeError


def _check_filled_once(places: Array, most: int) -> None:
    """Raise StrangeError where a place in the memo is filled twice, so that what it holds depends on the order."""
    if len(places) and (places.max() >= most or np.bincount(places).max() > 1):
        raise StrangeError
