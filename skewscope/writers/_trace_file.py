"""A trace in Chrome's JSON form, written event by event: nothing is held but the block that is being compressed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from isal import igzip

LEVEL = 2
BLOCK_EVENTS = 4096


def quoted(text: str) -> str:
    """Return a text as JSON, with what is no Unicode replaced.

    >>> quoted("aten::add"), quoted(chr(0xD800))
    ('"aten::add"', '"?"')
    """
    return json.dumps(text.encode("utf-8", "replace").decode("utf-8"))


def micros(time_ns: int) -> str:
    """Return a time in microseconds, exactly.

    >>> micros(1234567), micros(5), micros(-1500)
    ('1234.567', '0.005', '-1.500')
    """
    sign, time_ns = ("-", -time_ns) if time_ns < 0 else ("", time_ns)
    return f"{sign}{time_ns // 1000}.{time_ns % 1000:03d}"


def _gzip(path: Path) -> IO[bytes]:
    made: IO[bytes] = igzip.open(path, "wb", compresslevel=LEVEL)  # type: ignore[no-untyped-call]
    return made


class TraceFile:
    """A trace at `path`, gzip where the name ends so; times of events count from `base_ns`.

    `count` holds how many events were written. The file is whole only after the block is left.
    """

    def __init__(self, path: Path, base_ns: int, told: Mapping[str, Any], *, compressed: bool) -> None:
        self.base_ns, self.count = base_ns, 0
        self._lines: list[str] = []
        self._file: IO[bytes] = _gzip(path) if compressed else path.open("wb")
        self._told = told

    def __enter__(self) -> TraceFile:
        heads = {"displayTimeUnit": "ms", "baseTimeNanoseconds": self.base_ns, "metadata": dict(self._told)}
        text = json.dumps(heads, allow_nan=False)
        self._file.write(text[:-1].encode() + b', "traceEvents": [\n')
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
                self._file.write(b"\n]}\n")
        finally:
            self._file.close()

    def add(self, lines: Iterable[str]) -> None:
        """Add events, each as JSON."""
        self._lines.extend(lines)
        if len(self._lines) >= BLOCK_EVENTS:
            self._flush()

    def event(self, **fields: Any) -> None:  # noqa: ANN401 - as JSON is
        """Add one event; `ts` and `dur` are whole ns, `ts` since the Unix epoch."""
        parts = []
        for name, value in fields.items():
            if name == "ts":
                value = micros(value - self.base_ns)
            elif name == "dur":
                value = micros(value)
            else:
                value = json.dumps(value, allow_nan=False)
            parts.append(f'"{name}":{value}')
        self.add(["{" + ",".join(parts) + "}"])

    def _flush(self) -> None:
        if self._lines:
            head = ",\n" if self.count else ""
            self._file.write((head + ",\n".join(self._lines)).encode())
            self.count += len(self._lines)
            self._lines = []
