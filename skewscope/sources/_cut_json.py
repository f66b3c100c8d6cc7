"""JSON that ends too early, closed where its last whole element of a list ends."""

from __future__ import annotations

import re

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
CLOSING = {b"{": b"}", b"[": b"]"}


def mended(text: bytes) -> bytes:
    """Return the longest beginning of `text` that ends with a whole object of a list, closed; b"" where there is none.

    >>> mended(b'{"a": [{"b": 1}, {"b": 2}, {"b"')
    b'{"a": [{"b": 1}, {"b": 2}]}'
    >>> mended(b'{"a"')
    b''
    """
    stack: list[bytes] = []
    kept, closers = 0, b""
    for token in TOKEN.finditer(text):
        mark = token[0]
        if mark in (b"{", b"["):
            stack.append(mark)
        elif mark in (b"}", b"]"):
            if not stack or CLOSING[stack[-1]] != mark:
                break
            stack.pop()
            if mark == b"}" and stack and stack[-1] == b"[":
                kept, closers = token.end(), b"".join(CLOSING[one] for one in reversed(stack))
    return text[:kept] + closers if kept else b""
