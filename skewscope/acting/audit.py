"""The audit: every act as a JSON line, durable before it happens; each line holds the hash of the line before.

A line is the canonical JSON of its record (keys sorted, no spaces, ASCII), as Python's `json.dumps` writes it; `hash`
is the SHA-256 of the same text without the hash. A changed, lost or inserted line breaks the chain. Cutting lines off
the end does not: compare the hash of the last line with one kept elsewhere (`audit verify --head`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..acts import OWNER
from ..errors import SkewscopeError
from ..plans import plain
from ..versions import newer
from .lines import FileLines

SCHEMA = "skewscope.action/1"
FIRST = "0" * 64
PHASES = (
    "observed", "held", "proposed", "approved", "rejected", "expired", "intended", "done", "failed", "refused",
    "waiting", "recovered", "testing", "tested", "undoing", "undone", "undo-failed", "proved", "breaker", "lease",
    "reapplied",
)  # fmt: skip
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
Record = Mapping[str, Any]


class AuditError(SkewscopeError):
    """The audit is damaged or cannot be written: nothing may be done."""


class Lines(Protocol):
    """Where the lines stand: a file, or memory (`lines.MemoryLines`)."""

    def lock(self) -> None:
        """Wait until nobody else writes."""

    def unlock(self) -> None:
        """Let others write."""

    def read(self, offset: int) -> bytes:
        """Return what stands behind an offset (bytes)."""

    def write(self, line: bytes, offset: int) -> None:
        """Add a line at the end, durably; what is half written there is taken away again."""


class Audit:
    """One audit, read and appended to; several processes may share its file.

    `place` is a path or other `Lines`; `clock_ns` gives the time of a record. Raises AuditError where the file cannot
    be used, or its chain is broken.
    """

    def __init__(self, place: Path | Lines, clock_ns: Callable[[], int] = time.time_ns, *, actor: str = OWNER) -> None:
        self._lines: Lines = FileLines(place) if isinstance(place, Path) else place
        self._clock_ns, self.actor = clock_ns, actor
        self._records: list[Record] = []
        self._offset, self._depth, self._head = 0, 0, FIRST
        self.records()

    @property
    def head(self) -> str:
        """The hash of the last line that was read."""
        return self._head

    def now_ns(self) -> int:
        """Return the time of the clock that records bear."""
        return self._clock_ns()

    def records(self) -> Sequence[Record]:
        """Return all records, the oldest first, those of other processes too; nobody may change them."""
        with self._alone():
            return self._records

    def append(self, phase: str, **fields: Any) -> Record:  # noqa: ANN401 - any JSON value
        """Write a record down and return it; it is durable then. Raises AuditError where it cannot be written."""
        if phase not in PHASES:
            raise ValueError(f"no phase is called {phase!r}; there are {', '.join(PHASES)}")
        with self._alone():
            told = {"actor": self.actor, **{name: one for name, one in fields.items() if one is not None}}
            told |= {"schema": SCHEMA, "seq": len(self._records), "time_ns": self._clock_ns(), "phase": phase,
                     "prev": self._head}  # fmt: skip
            line = sealed(told)
            try:
                self._lines.write(line + b"\n", self._offset)
            except OSError as error:
                raise AuditError(f"the audit cannot be written: {error.strerror or error}; nothing is done") from None
            record: Record = json.loads(line)  # as everybody else will read it
            self._take(record, len(line) + 1)
            return record

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from writing, and read what they wrote."""
        if not self._depth:
            try:
                self._lines.lock()
            except OSError as error:
                raise AuditError(f"the audit cannot be used: {error.strerror or error}") from None
        self._depth += 1
        try:
            if self._depth == 1:
                self._catch_up()
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._lines.unlock()

    def _catch_up(self) -> None:
        try:
            data = self._lines.read(self._offset)
        except OSError as error:
            raise AuditError(f"the audit cannot be read: {error.strerror or error}") from None
        if not data:
            return
        whole, _, torn = data.rpartition(b"\n")
        for line in whole.split(b"\n") if whole else ():
            self._take(checked(line, len(self._records), self._head), len(line) + 1)
        if torn:
            self._mend(torn)

    def _mend(self, torn: bytes) -> None:
        """Finish or take away a last line that a crash left half written: it was never said to be written."""
        try:
            record = checked(torn, len(self._records), self._head)
        except AuditError:
            self._lines.write(b"", self._offset)
        else:
            self._lines.write(torn + b"\n", self._offset)
            self._take(record, len(torn) + 1)

    def _take(self, record: Record, size: int) -> None:
        self._records.append(record)
        self._offset += size
        self._head = record["hash"]


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return the one text of a record; values that are no JSON become such, as numbers that are none become null.

    >>> canonical({"b": 1.5, "a": (1, None)})
    b'{"a":[1,null],"b":1.5}'
    """
    try:
        return _dumped(record)
    except (TypeError, ValueError):
        return _dumped(plain(record))


def _dumped(record: Mapping[str, Any]) -> bytes:
    return ENCODER.encode(record).encode()


def sealed(record: Mapping[str, Any]) -> bytes:
    """Return the line of a record: its canonical text, with the hash of that text in its place.

    >>> sealed({"actor": "ada", "phase": "done"}).startswith(b'{"actor":"ada","hash":"')
    True
    """
    before = canonical({name: one for name, one in record.items() if name < "hash"})[1:-1]
    after = canonical({name: one for name, one in record.items() if name > "hash"})[1:-1]
    digest = hashlib.sha256(b"{%b,%b}" % (before, after)).hexdigest()
    return b'{%b,"hash":"%b",%b}' % (before, digest.encode(), after)


def checked(line: bytes, seq: int, prev: str) -> Record:
    """Return the record of a line that is to be number `seq` after the hash `prev`; AuditError where it is not."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise AuditError(f"line {seq + 1} of the audit is no JSON; nothing is done before it is explained") from None
    if wrong := _wrong(record, line, seq, prev):
        raise AuditError(f"line {seq + 1} of the audit {wrong}; nothing is done before it is explained")
    return dict(record)


def _wrong(record: object, line: bytes, seq: int, prev: str) -> str:
    if why := newer(record, SCHEMA):
        return why
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return f"is no {SCHEMA}"
    if record.get("seq") != seq:
        return f"has number {record.get('seq')} where {seq} is due: a line is missing, or was put in"
    if record.get("prev") != prev:
        return "does not follow the line before it"
    return "" if sealed(record) == line else "was changed after it was written"


@dataclass(frozen=True)
class Verified:
    """What `verify` found: `count` sound lines, `head` the hash of the last; `first_bad` is a line from 1, -1 none."""

    count: int
    ok: bool
    first_bad: int = -1
    why: str = ""
    head: str = FIRST


def verify(path: Path, head: str = "") -> Verified:
    """Return whether a file holds one unbroken chain, which ends with the hash `head` where that is given.

    Raises AuditError for a file that cannot be read.
    """
    seq, last = 0, FIRST
    try:
        with open(path, "rb") as file:
            for line in file:
                try:
                    last = checked(line.rstrip(b"\n"), seq, last)["hash"]
                except AuditError as error:
                    return Verified(seq, False, seq + 1, str(error).partition(";")[0], last)
                seq += 1
    except OSError as error:
        raise AuditError(f"{path}: the audit cannot be read: {error.strerror or error}") from None
    if head and not last.startswith(head):
        return Verified(seq, False, seq + 1, f"the last line is not {head[:12]}...: lines were cut off the end", last)
    return Verified(seq, True, -1, "", last)


def read(path: Path) -> list[Record]:
    """Return the records of a file without changing or locking it; raises AuditError where its chain is broken.

    A last line that is being written right now is passed over.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path}: the audit cannot be read: {error.strerror or error}") from None
    records: list[Record] = []
    head = FIRST
    for text in data[: data.rfind(b"\n") + 1].splitlines():
        records.append(checked(text, len(records), head))
        head = records[-1]["hash"]
    return records
