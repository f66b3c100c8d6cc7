"""Pickles of plain data: lists, tuples, dicts, strings and numbers, and nothing in them can name code.

The interpreter is the one that is written in Python: slower, but a number in the file cannot make it reserve memory.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any, NoReturn

PLAIN = frozenset((
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.NONE, pickle.NEWTRUE,
    pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.FLOAT,
    pickle.BINFLOAT, pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINSTRING,
    pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND,
    pickle.APPENDS, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_DICT,
    pickle.DICT, pickle.SETITEM, pickle.SETITEMS, pickle.MEMOIZE, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT,
    pickle.GET, pickle.BINGET, pickle.LONG_BINGET,
))  # fmt: skip


class _Plain(pickle._Unpickler):
    dispatch = {code: step for code, step in pickle._Unpickler.dispatch.items() if bytes([code]) in PLAIN}

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"asks for {module_name}.{global_name}")


def load(content: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
    """Return the data of a pickle; raises whatever its damage leads to, KeyError for what it must not ask for.

    >>> load(pickle.dumps({"entries": [1, (2.5, None)]}))
    {'entries': [1, (2.5, None)]}
    """
    return _Plain(BytesIO(content)).load()
