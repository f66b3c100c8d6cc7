"""One reading as one file of the cache: plain numbers and texts with a digest over all of them, never code.

A file is a magic word, the BLAKE2b digest of what follows, a header (MessagePack), and the arrays, each compressed (LZ4
frames). What is damaged, cut or of another version does not decode; what holds more than plain values is not written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ..contracts import Coded, Columns, Reading

Array = np.ndarray[Any, Any]

MAGIC = b"SKWREAD2"
DIGEST_BYTES = 32
LENGTH_BYTES = 8
CODEC = "lz4"
PLAIN = (str, int, float, bool, type(None))
NUMBERS = "biuf"
FIELDS = tuple(field.name for field in dataclasses.fields(Reading) if field.name not in ("path", "batches"))


class NotPlain(ValueError):
    """A reading holds something that is neither numbers nor texts."""


class Damaged(ValueError):
    """A file of the cache cannot be believed."""


def encoded(reading: Reading) -> bytes:
    """Return the file of a reading; its path is not in it. Raises NotPlain.

    >>> made = Reading("a", "kineto", 3, batches=[("ops", {"rank": 3, "end_ns": np.arange(2)})])
    >>> decoded(encoded(made), "b").batches[0][1]["end_ns"].tolist()
    [0, 1]
    """
    parts: list[bytes] = []
    batches = [(table, {name: _column(value, parts) for name, value in columns.items()})
               for table, columns in reading.batches]  # fmt: skip
    fields = {name: _plain(getattr(reading, name)) for name in FIELDS}
    head = msgspec.msgpack.encode({"fields": fields, "batches": batches})
    body = b"".join([len(head).to_bytes(LENGTH_BYTES, "little"), head, *parts])
    return MAGIC + blake2b(body, digest_size=DIGEST_BYTES).digest() + body


def decoded(content: bytes, path: str) -> Reading:
    """Return the reading in a file, as of `path`; raises Damaged."""
    begin = len(MAGIC) + DIGEST_BYTES
    body = memoryview(content)[begin:]
    if (
        content[: len(MAGIC)] != MAGIC
        or blake2b(body, digest_size=DIGEST_BYTES).digest() != content[len(MAGIC) : begin]
    ):
        raise Damaged("another version, or damaged")
    try:
        length = int.from_bytes(body[:LENGTH_BYTES], "little")
        head = msgspec.msgpack.decode(body[LENGTH_BYTES : LENGTH_BYTES + length], strict=False)
        arrays = _Arrays(body[LENGTH_BYTES + length :])
        batches: list[tuple[str, Columns]] = [
            (str(table), {name: arrays.column(value) for name, value in columns.items()})
            for table, columns in head["batches"]
        ]
        return Reading(path=path, batches=batches, **head["fields"])
    except (msgspec.DecodeError, pa.ArrowException, KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(f"it does not decode: {error}") from None


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value
    """Return a value of plain lists, dicts, numbers and texts; raises NotPlain."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
        return {key: _plain(one) for key, one in value.items()}
    raise NotPlain(f"{type(value).__name__} is no plain value")


def _column(value: Any, parts: list[bytes]) -> Any:  # noqa: ANN401 - any column
    """Return what the header says of a column; its numbers are added to `parts`."""
    if isinstance(value, Coded):
        return {"codes": _array(np.asarray(value.codes), parts), "values": _texts(value.values)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            return {"objects": _texts(value.tolist())}
        return {"array": _array(value, parts)}
    if isinstance(value, PLAIN) or isinstance(value, np.generic):
        return {"one": _plain(value)}
    if isinstance(value, list):
        return {"list": _plain(value)}
    raise NotPlain(f"a column of {type(value).__name__}")


def _texts(values: Sequence[Any]) -> list[str]:
    made = list(values)
    if not all(type(one) is str for one in made):
        raise NotPlain("names that are no texts")
    return made


def _array(values: Array, parts: list[bytes]) -> Mapping[str, Any]:
    if values.dtype.kind not in NUMBERS or values.ndim != 1:
        raise NotPlain(f"an array of {values.dtype}, {values.ndim} axes")
    raw = np.ascontiguousarray(values).tobytes()
    packed = pa.compress(raw, codec=CODEC, asbytes=True) if raw else b""
    parts.append(packed)
    return {"dtype": values.dtype.str, "bytes": len(raw), "packed": len(packed)}


class _Arrays:
    """Gives the arrays of a file in the order in which they were written."""

    def __init__(self, body: memoryview) -> None:
        self._body, self._at = body, 0

    def column(self, told: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any column
        ((kind, value),) = [*told.items()][:1]
        if kind == "codes":
            return Coded(self._next(value), told["values"])
        if kind == "array":
            return self._next(value)
        return np.array(value, dtype=object) if kind == "objects" else value

    def _next(self, told: Mapping[str, Any]) -> Array:
        packed = self._body[self._at : self._at + told["packed"]]
        self._at += told["packed"]
        dtype = np.dtype(told["dtype"])
        if dtype.kind not in NUMBERS:
            raise Damaged(f"{dtype} is no number")
        if not told["bytes"]:
            return np.zeros(0, dtype)
        raw = pa.decompress(pa.py_buffer(packed), decompressed_size=told["bytes"], codec=CODEC, asbytes=True)
        return np.frombuffer(raw, dtype).copy()
