"""The form of an entry of a flight recorder pickle: which of its bytes are numbers, and which tell its kind.

Entries of one form have the same opcodes and differ only in the arguments of numbers and of places in the memo. One of
them is followed opcode by opcode; from it is known where the numbers of all the others stand.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ._flight_entries import NUMBERS, SHARED

Array = np.ndarray[Any, Any]
Token = tuple[int, int, int]  # opcode, where its argument begins and ends
Texts = dict[int, bytes]  # strings by their place in the memo

MARK, TEXT, LONG, FLOAT, NONE = (
    op[0] for op in (pickle.MARK, pickle.BINUNICODE, pickle.LONG1, pickle.BINFLOAT, pickle.NONE)
)
LIST, DICT, APPEND, SETITEM = (op[0] for op in (pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.APPEND, pickle.SETITEM))
APPENDS, SETITEMS, TUPLE = (op[0] for op in (pickle.APPENDS, pickle.SETITEMS, pickle.TUPLE))
CLOSING = (APPENDS, SETITEMS, TUPLE)  # what takes all down to the last mark
PUTS = SHORT_PUT, LONG_PUT = pickle.BINPUT[0], pickle.LONG_BINPUT[0]
GETS = pickle.BINGET[0], pickle.LONG_BINGET[0]
FEW = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
WHOLE = {pickle.BININT1[0]: "<u1", pickle.BININT2[0]: "<u2", pickle.BININT[0]: "<i4", LONG: "<i8"}
VALUES = frozenset([*b"N)\x88\x89", LIST, DICT, TEXT, FLOAT, *WHOLE, *GETS])  # opcodes that give one value
NUMERIC = frozenset([FLOAT, *WHOLE])
FILLS = {APPENDS: (LIST, 0), SETITEMS: (DICT, 0), APPEND: (LIST, 1), SETITEM: (DICT, 2)}  # a count of 0: to the mark
ARGUMENT_BYTES = {
    **dict.fromkeys(b"N)\x88\x89}](eusat\x85\x86\x87", 0), **dict.fromkeys(b"Kqh", 1), ord("M"): 2,
    **dict.fromkeys(b"Jrj", 4), FLOAT: 8,
}  # fmt: skip
NUMBER_FIELDS = {name.encode(): name for name in NUMBERS}
TELLING_FIELDS = frozenset(name.encode() for name in (*SHARED, "frames"))
NULLABLE = (b"time_discovered_started_ns", b"time_discovered_completed_ns", b"duration_ms")
MOST_OF_ONE_SIZE, MOST_SIZES = 32, 1024  # forms that are kept


class StrangeError(Exception):
    """The pickle is not written as PyTorch's and Python's picklers write a dump; it must be read in general."""


@dataclass(frozen=True)
class Form:
    """What entries of one size share: those bytes of `row` [size] that are marked in `fixed` [size] (255, else 0).

    `telling` are the places of the other bytes that tell one kind from another, `numbers` the argument of each number,
    `puts` those with places in the memo, `inner` the pairs that must name the same place. `keys` are the names that
    entries take from the memo, by place; `told` are the texts that they put there.
    """

    row: Array
    fixed: Array
    keys: Texts = field(default_factory=dict)
    told: list[tuple[Token, bytes]] = field(default_factory=list)
    telling: list[int] = field(default_factory=list)
    numbers: dict[str, Token] = field(default_factory=dict)
    puts: list[Token] = field(default_factory=list)
    inner: list[tuple[Token, Token]] = field(default_factory=list)

    def fits(self, block: Array) -> Array:
        """Return which rows of bytes [n, size] have this form."""
        apart = block ^ self.row
        apart &= self.fixed
        same = np.bitwise_or.reduce(apart, axis=1) == 0
        for (_, first, last), (_, begin, end) in self.inner:
            same &= (block[:, first:last] == block[:, begin:end]).all(axis=1)
        return np.asarray(same)

    def leaders(self, block: Array) -> Array:
        """Return for each row of this form the first one of the same kind, [n]."""
        if not self.telling:
            return np.zeros(len(block), dtype=np.int64)
        told = np.ascontiguousarray(block[:, self.telling]).view(f"S{len(self.telling)}")[:, 0].tolist()
        first = dict(zip(reversed(told), range(len(told) - 1, -1, -1), strict=True))
        return np.fromiter(map(first.__getitem__, told), dtype=np.int64, count=len(told))

    def places(self, block: Array) -> Array:
        """Return the places in the memo that rows of this form fill, in any order."""
        near = [first for opcode, first, _ in self.puts if opcode == SHORT_PUT]
        far = [at for opcode, first, last in self.puts if opcode == LONG_PUT for at in range(first, last)]
        wide = np.ascontiguousarray(block[:, far]).view("<u4") if far else block[:, :0]
        return np.concatenate([block[:, near].ravel(), wide.ravel()]).astype(np.int64)


def number(block: Array, token: Token) -> Array:
    """Return the number that each row of bytes [n, size] has as the argument of an opcode.

    >>> number(np.array([[7, 1, 0], [7, 255, 255]], dtype=np.uint8), (LONG, 1, 3)).tolist()
    [1, -1]
    """
    opcode, first, last = token
    part = block[:, first:last]
    if opcode == FLOAT:
        return np.ascontiguousarray(part).view(">f8")[:, 0]
    if opcode == LONG and last - first < 8:
        wide = np.zeros((len(block), 8), dtype=np.uint8)
        wide[:, 8 - (last - first) :] = part
        return np.asarray(wide.view("<i8")[:, 0] >> (64 - 8 * (last - first)))
    return np.ascontiguousarray(part).view(WHOLE[opcode])[:, 0]


def tokens(content: bytes, at: int) -> Iterator[Token]:
    """Give the opcodes from a place on; a LookupError is raised where none that is known follows."""
    while True:
        opcode = content[at]
        if opcode == TEXT:
            first, size = at + 5, int.from_bytes(content[at + 1 : at + 5], "little")
        elif opcode == LONG:
            first, size = at + 2, content[at + 1]
        else:
            first, size = at + 1, ARGUMENT_BYTES[opcode]
        at = first + size
        yield opcode, first, at


class Forms:
    """The forms met so far: dumps of one job have the same ones."""

    def __init__(self) -> None:
        self._known: dict[int, list[Form]] = {}

    def of(self, row: Array, texts: Texts) -> Form:
        """Return the form of an entry's bytes, given the `texts` in the memo, to which it adds its own.

        Raises StrangeError or a LookupError where it has none.
        """
        known = self._known.setdefault(len(row), [])
        made = next((one for one in known if one.fits(row[None])[0] and one.keys.items() <= texts.items()), None)
        content = row.tobytes()
        if made is None:
            made = form(content, texts)
            known.append(made)
            del known[:-MOST_OF_ONE_SIZE]
            if len(self._known) > MOST_SIZES:
                self._known.clear()
        texts.update((place_of(content, token), text) for token, text in made.told)
        return made


def form(content: bytes, texts: Texts) -> Form:
    """Return the form of an entry; raises StrangeError or a LookupError where it has none."""
    walked, items = _walked(content)
    made = Form(np.frombuffer(content, np.uint8), np.full(len(content), 255, dtype=np.uint8))
    own: dict[int, Token] = {}
    last = next(at for at in range(len(walked) - 1, 0, -1) if walked[at][0] == SETITEMS)
    _loosen(made, content, walked[: items[0]], b"", own)
    names = set()
    for key, value, after in zip(items[::2], items[1::2], [*items[2::2], last], strict=True):
        name = _name(made, content, walked[key : key + 2], texts)
        names.add(name)
        _loosen(made, content, walked[key + 1 : value], b"", own)
        if name in NUMBER_FIELDS:
            _note_number(made, walked[value:after], name)
        else:
            _loosen(made, content, walked[value:after], name, own)
    _loosen(made, content, walked[last:], b"", own)
    if len(names) * 2 < len(items):
        raise StrangeError
    made.told.extend((token, content[before[1] : before[2]]) for before, token in pairwise(walked)
                     if before[0] == TEXT and token[0] in PUTS)  # fmt: skip
    return made


def _name(made: Form, content: bytes, key: list[Token], texts: Texts) -> bytes:
    """Return the name of a field; `key` are the two opcodes that its key begins with."""
    (opcode, first, last), _ = key
    if opcode == TEXT:
        return content[first:last]
    if opcode not in GETS:
        raise StrangeError
    place = place_of(content, key[0])
    made.keys[place] = texts[place]
    return texts[place]


def place_of(content: bytes, token: Token) -> int:
    """Return the place in the memo that an opcode names."""
    return int.from_bytes(content[token[1] : token[2]], "little")


def _note_number(made: Form, value: list[Token], name: bytes) -> None:
    """Note where the number of a field stands; nothing where it is not told."""
    opcode, first, last = value[0]
    if len(value) != 1:
        raise StrangeError
    if opcode == NONE and name in NULLABLE:
        return
    if (opcode not in WHOLE and (opcode != FLOAT or name != b"duration_ms")) or not 0 < last - first <= 8:
        raise StrangeError
    made.numbers[NUMBER_FIELDS[name]] = value[0]
    made.fixed[first:last] = 0


def _loosen(made: Form, content: bytes, walked: list[Token], name: bytes, own: dict[int, Token]) -> None:
    """Note which arguments of a field may differ between entries; `own` are the places in the memo filled so far."""
    for token in walked:
        opcode, first, last = token
        if opcode in PUTS:
            made.puts.append(token)
            own[place_of(content, token)] = token
        elif opcode in GETS and (filled := own.get(place_of(content, token))) is not None:
            if filled[2] - filled[1] != last - first:
                raise StrangeError
            made.inner.append((token, filled))
        elif opcode in GETS or (name in TELLING_FIELDS and opcode in NUMERIC):
            made.telling.extend(range(first, last))
        elif opcode not in NUMERIC:
            continue
        made.fixed[first:last] = 0


def _walked(content: bytes) -> tuple[list[Token], list[int]]:
    """Return the opcodes of an entry, after one that stands for none, and which of them begin its keys and values."""
    stack, walked, done = _Stack(), [(NONE, 0, 0)], False
    for token in tokens(content, 0):
        if token[0] not in PUTS:
            if done:
                break
            stack.take(token[0], len(walked))
            done = token[0] == SETITEMS and not stack.marks
        walked.append(token)
        if done and token[2] == len(content):
            break
    items = stack.taken
    if stack.values != [(DICT, 1)] or len(items) % 2 or not items or walked[-1][2] != len(content):
        raise StrangeError
    if any(opcode not in (DICT, MARK, *PUTS) for opcode, _, _ in walked[1 : items[0]]):  # fields that came before
        raise StrangeError
    return walked, items


class _Stack:
    """What an unpickler's stack would hold: for each value the opcode that made it, and the place of its first one."""

    def __init__(self) -> None:
        self.values: list[tuple[int, int]] = []
        self.marks: list[tuple[int, int]] = []
        self.taken: list[int] = []  # first opcodes of the values that went into the dict or list that was filled last

    def take(self, opcode: int, at: int) -> None:
        """Follow one opcode."""
        if opcode in VALUES:
            self.values.append((opcode, at))
        elif opcode == MARK:
            self.marks.append((len(self.values), at))
        elif opcode == TUPLE:
            below, begin = self.marks.pop()
            self.values[below:] = [(TUPLE, begin)]
        elif opcode in FEW:
            self.values[-FEW[opcode] :] = [(TUPLE, self.values[-FEW[opcode]][1])]
        else:
            self._fill(opcode)

    def _fill(self, opcode: int) -> None:
        kind, count = FILLS[opcode]
        below = len(self.values) - count if count else self.marks.pop()[0]
        # What comes from the memo may not be filled further: others hold it too.
        if self.values[below - 1][0] != kind:
            raise StrangeError
        self.taken = [at for _, at in self.values[below:]]
        del self.values[below:]
