"""Arrays of a safetensors file: eight bytes of header length, JSON, and raw numbers.

https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ..errors import Unreadable

Array = np.ndarray[Any, Any]

DTYPES = {
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1",
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1",
}  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


class _Part(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def looks_like(head: bytes) -> bool:
    """Return whether a file begins as safetensors do.

    >>> looks_like((40).to_bytes(8, "little") + b'{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}')
    True
    """
    return len(head) > 9 and 2 <= int.from_bytes(head[:8], "little") <= LONGEST_HEADER and head[8:9] == b"{"


def arrays(content: bytes) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays of numbers by name, and what is wrong with those left out; raises Unreadable without a header.

    >>> header = b'{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
    >>> arrays(len(header).to_bytes(8, "little") + header + (5).to_bytes(8, "little"))
    ({'a': array([5])}, [])
    """
    length = int.from_bytes(content[:8], "little")
    if not looks_like(content) or len(content) < 8 + length:
        raise Unreadable("cut or damaged safetensors header", "copy the file again")
    try:
        header = msgspec.json.decode(content[8 : 8 + length], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"damaged safetensors header: {error}"[:300], "copy the file again") from None
    body = memoryview(content)[8 + length :]
    found: dict[str, Array] = {}
    lost: list[str] = []
    for name, told in header.items():
        if name == "__metadata__":
            continue
        part = _array(body, told)
        if part is None:
            lost.append(name)
        else:
            found[name] = part
    return found, lost


def _array(body: memoryview, told: Any) -> Array | None:  # noqa: ANN401 - JSON of a foreign file
    """Return one array, None where its place lies outside the file or does not fit its shape."""
    try:
        part = msgspec.convert(told, _Part)
    except msgspec.ValidationError:
        return None
    dtype = DTYPES.get(part.dtype)
    begin, end = part.data_offsets
    count = 1
    for size in part.shape:
        count *= size
    if dtype is None or min(part.shape, default=0) < 0 or len(part.shape) > 8 or not 0 <= begin <= end <= len(body):
        return None
    if count * np.dtype(dtype).itemsize != end - begin:
        return None
    return np.frombuffer(body[begin:end], dtype=dtype).reshape(part.shape)
