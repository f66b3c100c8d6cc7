"""PyTorch flight recorder dumps: the last collectives of one rank, as JSON or pickle, whole or cut.

`time_created_ns` is the arrival. The discovered times are when the watchdog noticed, always late; they are kept as
start and end only where the state says that they happened. gloo leaves every state at "scheduled": there `retired`
alone says that a call is complete. A retired call of NCCL that is not completed has timed out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _plain_pickle
from ._bytes import whole
from ._flight_entries import Calls, Entry, Group, columns
from ._flight_form import Forms
from ._flight_rows import collectives, groups
from ._flight_scan import Thin, thinned

GENERIC = re.compile(r"nccl|trace|fr|flight|recorder|dump|comm|lib|torch|debug|gloo|rank", re.I)
KEYS = (b'"collective_seq_id"', b'"comm_lib_version"', b'"nccl_version"', b'"pg_status"', b'"profiling_name"')


class Dump(msgspec.Struct, gc=False):
    """The whole dump; members of groups stand in `pg_config` as text, or not at all."""

    entries: list[Entry] = []
    pg_config: dict[str, Group] = {}
    version: str = ""


class _Outline(msgspec.Struct, gc=False):
    entries: list[Any] = []
    pg_config: Any = None


@dataclass(frozen=True)
class _Found:
    """What a dump holds, and whether some of it is lost."""

    calls: Calls
    configured: dict[str, Group]
    lost: bool = False


class FlightRecorder:
    """Reads flight recorder dumps, PyTorch 2.3 and later."""

    format: ClassVar[str] = "flight-recorder"

    def __init__(self) -> None:
        """Know no forms of entries yet."""
        self._forms = Forms()

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a dump; an unknown pickle gets 0.3, so that its refusal is told."""
        if head[:1] == b"\x80":
            known = b"pg_config" in head and (b"entries" in head or b"version" in head)
            return 0.97 if known else 0.5 if "rank" in name else 0.3
        if not head.lstrip().startswith(b"{") or b'"traceEvents"' in head:
            return 0.0
        found = sum(key in head for key in KEYS)
        return (0.0, 0.5, 0.9, 0.97, 0.97, 0.97)[found]

    def read(self, path: Path) -> Reading:
        """Return the calls (`collectives`) and communicators (`groups`) of one rank's dump.

        The rank is in the file's name only. Raises Unreadable for hostile pickles and dumps without one whole entry.
        """
        with _plain_pickle.without_collector():
            return self._read(path)

    def _read(self, path: Path) -> Reading:
        content, cut = whole(path)
        found = _pickled(content, self._forms) if content[:1] == b"\x80" else _written(content)
        calls, lost = found.calls, found.lost
        if not len(calls) and (lost or cut):
            raise Unreadable("not one whole entry in the dump", "take the dump again")
        rank, node = place(path.name)
        reading = Reading(str(path), self.format, rank=rank, node=node, events=len(calls))
        if lost or cut:
            reading.status, reading.error = "partial", cut or "some entries are cut or damaged: the others are kept"
        if rank < 0:
            reading.warnings.append("the file's name holds no rank, and neither does the dump: name it ..._rank_N")
        try:
            members = {group.name: group.members for group in found.configured.values() if group.name and group.members}
            rows, told = collectives(calls, rank, members), groups(calls, rank, found.configured)
        except OverflowError:
            raise Unreadable("numbers in the dump do not fit 64 bits: it is damaged") from None
        reading.world_size = len(members.get("0", ())) or -1
        reading.batches = [("collectives", rows), ("groups", told)]
        reading.fingerprint = blake2b(rows["ready_ns"].tobytes() + b"%d" % rank, digest_size=16).hexdigest()
        return reading


def place(name: str) -> tuple[int, str]:
    """Return (rank, host) as a dump's file name tells them; -1 and "" where it does not.

    >>> place("nccl_trace_rank_3"), place("missing_0.json"), place("gpu-a17_rank_12.json.gz"), place("notes.json")
    ((3, ''), (0, ''), (12, 'gpu-a17'), (-1, ''))
    """
    stem = re.sub(r"(\.json|\.gz|\.pkl|\.pickle|\.zst|\.txt)+$", "", name)
    found = list(re.finditer(r"(?:^|[^a-z])rank[_-]?(\d{1,9})(?!\d)", stem, re.I))
    if found:
        before = stem[: found[-1].start()].strip("._-")
        host = before if re.search(r"\d", before) and not GENERIC.search(before) else ""
        return int(found[-1].group(1)), host
    last = re.search(r"(\d{1,7})$", stem)
    return (int(last.group(1)), "") if last else (-1, "")


def _pickled(content: bytes, known: Forms) -> _Found:
    thin = thinned(content, known)
    return (_by_kind(thin) if thin is not None else None) or _unpickled(content)


def _by_kind(thin: Thin) -> _Found | None:
    """Return all calls of a dump of which one of each kind is unpickled; None where one of these is not sound."""
    try:
        found = _unpickled(thin.content)
    except Unreadable:
        return None
    if found.lost or len(found.calls) != thin.count:
        return None
    return _Found(Calls(thin.numbers, found.calls.kind[thin.kind], found.calls.kinds), found.configured)


def _unpickled(content: bytes) -> _Found:
    loaded = _plain_pickle.load(content)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("entries"), list):
        raise Unreadable("a pickle, but no flight recorder dump: it has no list of entries")
    try:
        with _plain_pickle.limited_memory(len(content)):  # shared lists unfold when they are checked
            try:
                dump = msgspec.convert(loaded, Dump, strict=False)
                return _Found(columns(dump.entries), dump.pg_config)
            except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):
                return _piecewise(_Outline(loaded["entries"], loaded.get("pg_config")))
    except (MemoryError, RecursionError):
        raise Unreadable(_plain_pickle.HOSTILE) from None


def _written(content: bytes) -> _Found:
    try:
        dump = msgspec.json.decode(content, type=Dump, strict=False)
        return _Found(columns(dump.entries), dump.pg_config)
    except msgspec.ValidationError:
        return _piecewise(msgspec.convert(_tolerant(content), _Outline))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _piecewise(_Outline(list(_whole_entries(content)), None))


def _tolerant(content: bytes) -> Any:  # noqa: ANN401 - JSON of any shape
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("entries"), list):
        raise Unreadable("JSON, but no flight recorder dump: it has no list of entries")
    return found


def _piecewise(outline: _Outline) -> _Found:
    """Return the entries that are sound, one by one."""
    kept = [entry for item in outline.entries if (entry := _sound(item, Entry)) is not None]
    configured = outline.pg_config if isinstance(outline.pg_config, dict) else {}
    known = {str(key): group for key, item in configured.items() if (group := _sound(item, Group)) is not None}
    return _Found(columns(kept), known, lost=True)


def _sound(item: object, kind: type[Any]) -> Any:  # noqa: ANN401 - one of two structs
    try:
        return msgspec.convert(item, kind, strict=False)
    except (msgspec.ValidationError, OverflowError, RecursionError, UnicodeEncodeError):  # the last of half a letter
        return None


def _whole_entries(content: bytes) -> list[Any]:
    """Return the whole objects of the array "entries" in JSON text that is cut somewhere."""
    text = content.decode("utf-8", errors="replace")
    start = re.search(r'"entries"\s*:\s*\[', text)
    found: list[Any] = []
    decoder, here = json.JSONDecoder(), start.end() if start else len(text)
    while (begin := text.find("{", here)) >= 0 and text[here:begin].strip(" \t\r\n,") == "":
        try:
            item, here = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            break
        found.append(item)
    return found
