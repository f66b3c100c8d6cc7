"""Pickles of plain data: lists, tuples, dicts, strings and numbers, and nothing in them can name code.

The interpreter is the one that is written in Python: slower, but a number in the file cannot make it reserve memory,
and each step is charged for what it makes. One byte of a pickle can make a list of 72, so the size of a file would
say little; what is charged is about what is taken, and rather more.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

MOST_STEPS = 3_000_000  # a dump of 20,000 calls has 1.7 million, with deep stacks 2.7
MOST_MADE_BYTES = 128 << 20  # the same dump is charged 90 MiB, with deep stacks 105
LONGEST_BYTES = 1 << 20  # of one string or frame; the ranks of a group are one
DEEPEST = 16  # marks within marks; a dump has 4

SLOT_BYTES, LETTER_BYTES, PAIR_BYTES = 16, 4, 64  # on the stack and in a list; where one letter is wide; in a dict
NOTHING, TEXT = (
    (pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.NONE, pickle.NEWTRUE,
     pickle.NEWFALSE, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_TUPLE, pickle.BINGET, pickle.LONG_BINGET),
    (pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINSTRING, pickle.SHORT_BINSTRING,
     pickle.BINBYTES, pickle.SHORT_BINBYTES),
)  # fmt: skip
MADE_BYTES = {
    **dict.fromkeys(NOTHING, 0), **dict.fromkeys(TEXT, 64),
    **dict.fromkeys((pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT), 32),
    **dict.fromkeys((pickle.EMPTY_LIST, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), 88),
    **dict.fromkeys((pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT), 96),
    pickle.EMPTY_DICT: 80, pickle.SETITEM: 168, pickle.SETITEMS: 168,
}  # fmt: skip


class _Plain(pickle._Unpickler):
    left_steps, left_bytes = MOST_STEPS, MOST_MADE_BYTES
    stack: list[Any]
    metastack: list[list[Any]]

    def charge(self, made_bytes: int) -> None:
        self.left_steps -= 1
        self.left_bytes -= made_bytes
        if self.left_bytes < 0 or self.left_steps < 0 or len(self.metastack) > DEEPEST:
            raise pickle.UnpicklingError("too large, or nested too deeply")

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"asks for {module_name}.{global_name}")


Step = Callable[[Any], None]


def _charged(code: bytes) -> Step:
    step: Step = pickle._Unpickler.dispatch[code[0]]
    made_bytes = MADE_BYTES[code] + SLOT_BYTES

    def plain(reader: _Plain) -> None:
        reader.charge(made_bytes)
        step(reader)

    def text(reader: _Plain) -> None:
        step(reader)
        reader.charge(made_bytes + LETTER_BYTES * len(reader.stack[-1]))

    def pairs(reader: _Plain) -> None:
        reader.charge(made_bytes + PAIR_BYTES * len(reader.stack) // 2)
        step(reader)

    return text if code in TEXT else pairs if code == pickle.SETITEMS else plain


_Plain.dispatch = {code[0]: _charged(code) for code in MADE_BYTES}  # a step that is not here ends in a KeyError


class _Portions:
    """A file of which nobody can ask much at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._read, self.readline = file.read, file.readline

    def read(self, count: int) -> bytes:
        if count > LONGEST_BYTES:
            raise pickle.UnpicklingError(f"a piece of {count:,} bytes")
        return self._read(count)


def load(file: BinaryIO) -> Any:  # noqa: ANN401 - plain data of any shape
    """Return the data of a pickle; raises whatever its damage leads to, KeyError for what it must not ask for.

    >>> from io import BytesIO
    >>> load(BytesIO(pickle.dumps({"entries": [1, (2.5, None)]})))
    {'entries': [1, (2.5, None)]}
    """
    return _Plain(_Portions(file)).load()
