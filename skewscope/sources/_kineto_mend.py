"""Repairs what exporters are known to write against the rules of JSON: bad escapes, control characters, nan."""

from __future__ import annotations

import re

import msgspec

BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding raises
CONTROL = bytes(32 if code < 32 else code for code in range(256))
ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}|())')
NOT_A_NUMBER = re.compile(rb'(":\s*)(?:[-+]?(?:nan|NaN|inf|Infinity|INF|NAN)(?:\([^)]*\))?(?=\s*[,}])|(?=[,}]))')
NAME = re.compile(rb'("name"\s*:\s*")(.*?)("\s*(?:,\s*"(?:ph|cat|pid|tid|ts|dur|args|id|s|bp)"\s*:|\}))', re.DOTALL)
QUOTE = re.compile(rb'(?<!\\)((?:\\\\)*)"')


def mend(text: bytes) -> bytes:
    r"""Return `text` with control characters blanked, bad escapes doubled, nan made null and bytes made UTF-8.

    >>> mend(rb'{"name": "C:\users"}')
    b'{"name": "C:\\\\users"}'
    """
    text = text.translate(CONTROL)
    try:
        text.decode()
    except UnicodeDecodeError:
        text = text.decode("utf-8", "replace").encode()
    if b"\\" in text:
        text = ESCAPE.sub(lambda match: match[0] if match[1] is None else b"\\\\", text)
    return NOT_A_NUMBER.sub(rb"\1null", text)


def mend_name(piece: bytes) -> bytes:
    r"""Return one event with the quotes inside its name escaped.

    >>> mend_name(b'{"name": "a "b" c", "ph": "X"}')
    b'{"name": "a \\"b\\" c", "ph": "X"}'
    """
    return NAME.sub(lambda match: match[1] + QUOTE.sub(rb'\1\\"', match[2]) + match[3], piece, count=1)
