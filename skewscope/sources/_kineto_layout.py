"""Finds the wanted events of a block by their first bytes, without decoding the others.

Exporters write every complete event alike: phase, category, name, with the same spaces. Where that is so for each
event of a block (all are checked), the few wanted ones are cut out; where it is not, the block is decoded in full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ._kineto_columns import Array

HEAD = re.compile(rb'(\{\s*)"ph"(\s*:\s*")X"\s*,\s*"cat"\s*:\s*"(?=[^"]*("\s*,\s*"name"\s*:\s*"))')
BETWEEN = re.compile(rb'\}(\s*,\s*)\{\s*"ph"')
WORD = 8
PAD = b" " * 128

# Only the first eight bytes of a name are compared; what is too much is dropped after decoding.
DEVICE = (b'kernel"', b'Kernel"', b"concurre", b"gpu_", b"Mem", b"mtia_ccp", b"user_ann")
HOST = (b"cpu_op", b"Operator")
PYTHON = (b"python_function",)
RUNTIME = (b"cuda_runtime", b"cuda_driver", b"hip_runtime", b"hip_driver", b"Runtime")
SPECIAL = (b"record_p", b"aten::em", b"enumerat", b"Profiler", b"Python G", b'gc"', b"gc.")
LAUNCH = (
    b"cudaLaun", b"cudaGrap", b"cudaMemc", b"cudaMems", b"cuLaunch", b"hipLaunc", b"hipExtLa", b"hipExtMo", b"hipModul",
    b"hipGraph", b"hipMemcp", b"hipMemse",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How an exporter writes complete events: `head` up to the category's text, `named` from there to the name's.

    `opening` stands before the key "ph", `colon` between it and the phase, `between` separates events.
    """

    head: bytes
    opening: bytes
    colon: bytes
    named: bytes
    between: bytes


def layout(text: bytes) -> Layout | None:
    """Return the layout of the first complete event in `text`, None where it begins otherwise.

    >>> layout(b'{"ph": "X", "cat": "a", "name": "b"}, {"ph": "X"}').head
    b'{"ph": "X", "cat": "'
    """
    head, between = HEAD.search(text), BETWEEN.search(text)
    return Layout(head[0], head[1], head[2], head[3], between[1]) if head and between else None


class Scan:
    """The places of the events in one block: `text[:end]`, complete events joined by commas."""

    def __init__(self, text: bytes, end: int) -> None:
        self.text, self.end = text, end
        self._bytes = np.frombuffer(text, dtype=np.uint8, count=end)
        self._words: Array | None = None
        self.keys = self._keys()

    @property
    def count(self) -> int:
        """Number of events: of keys "ph"."""
        return len(self.keys)

    def _keys(self) -> Array:
        """Return where the string "ph" begins."""
        view = self._bytes
        place = np.flatnonzero(view[2:-1] == ord("h"))
        return np.asarray(
            place[(view[place + 1] == ord("p")) & (view[place] == ord('"')) & (view[place + 3] == ord('"'))]
        )

    def _word(self, place: Array) -> Array:
        """Return eight bytes of text from each place, as numbers."""
        if self._words is None:
            padded = self.text + PAD
            self._words = np.ndarray((len(padded) - WORD,), dtype="<u8", buffer=padded, strides=(1,))
        return np.asarray(self._words[place])

    def has(self, place: Array, literal: bytes) -> Array:
        """Return whether `literal` stands at each place."""
        same = place + len(literal) <= len(self.text)
        place = place if same.all() else np.where(same, place, 0)
        for at in range(0, len(literal), WORD):
            same &= _begins(self._word(place + at), literal[at : at + WORD])
        return same

    def wanted(self, way: Layout, *, host: bool) -> list[bytes] | None:
        """Return the text of the wanted events, runs of neighbours in one piece; None for another layout."""
        key = self.keys
        if not len(key):
            return []
        told = self._word(key + 4)  # the colon, the phase and the quote behind it
        phase = (told >> np.uint64(8 * len(way.colon))).astype(np.uint16)
        if len(way.colon) > WORD - 2 or not _begins(told, way.colon).all() or not (phase >> 8 == ord('"')).all():
            return None
        complete = phase & 0xFF == ord("X")
        start = key - len(way.opening)
        first = start[complete]
        if len(first) and (first[0] < 0 or not self.has(first, way.head).all()):
            return None
        picked = self._picked(first + len(way.head), way, host=host)
        return None if picked is None else self._cut(np.flatnonzero(complete)[picked], start, way)

    def _picked(self, category: Array, way: Layout, *, host: bool) -> Array | None:
        """Return the wanted rows by category, and by category and name; None where a name is not where it should be."""
        kind = self._word(category)
        picked = _begins_any(kind, (*DEVICE, *HOST) if host else DEVICE)
        for names, kinds in ((SPECIAL, PYTHON if host else (*HOST, *PYTHON)), (LAUNCH, RUNTIME)):
            for one in kinds:
                rows = np.flatnonzero(_begins(kind, one[:WORD]))
                if not len(rows):
                    continue
                name = category[rows] + len(one)
                if not self.has(name, way.named).all():
                    return None
                picked[rows[_begins_any(self._word(name + len(way.named)), names)]] = True
        return np.flatnonzero(picked)

    def _cut(self, rows: Array, start: Array, way: Layout) -> list[bytes] | None:
        """Return the text of the events `rows` (numbers of keys)."""
        if not len(rows):
            return []
        behind = np.append(start[1:], self.end + len(way.between))[rows]  # where the next event begins
        last = np.append(start, self.end + len(way.between))[rows[-1] + 1] > self.end
        end = behind - len(way.between)
        sure = self.has(end[: len(end) - last], way.between + way.opening)
        if last:
            sure = np.append(sure, True)
        for row in np.flatnonzero(~sure):  # the next event begins with another key
            end[row] = self._end_of(int(start[rows[row]]), way)
        if (end < 0).any():
            return None
        new = np.flatnonzero(np.append(True, (np.diff(rows) > 1) | ~sure[:-1]))
        ends = end[np.append(new[1:] - 1, len(rows) - 1)]
        text = self.text
        return [text[one:other] for one, other in zip(start[rows[new]].tolist(), ends.tolist(), strict=True)]

    def _end_of(self, start: int, way: Layout) -> int:
        found = self.text.find(b"}" + way.between + way.opening + b'"', start, self.end)
        return self.end if found < 0 else found + 1


def _begins(words: Array, literal: bytes) -> Array:
    """Return which numbers begin with up to eight bytes of text."""
    value = np.uint64(int.from_bytes(literal, "little"))
    if len(literal) < WORD:
        words = words & np.uint64((1 << (8 * len(literal))) - 1)
    return np.asarray(words == value)


def _begins_any(words: Array, literals: tuple[bytes, ...]) -> Array:
    found = np.zeros(len(words), dtype=bool)
    for literal in literals:
        found |= _begins(words, literal)
    return found
