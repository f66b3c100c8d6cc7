"""One flight recorder dump, reduced to how far its rank was in each group. JSON, or a pickle of plain data.

Dumps lie in a folder that everybody may write to. What one can make the agent hold, for a moment or for as long as it
is told, is bounded here, in `_flight_json` and in `_plain_pickle`.
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import islice
from typing import Any
from zlib import crc32

from skewscope.errors import Unreadable

LARGEST_BYTES = 32 << 20
LARGEST_NUMBER = 1 << 63
MOST_GROUPS = 32
MOST_MEMBERS = 65_536  # of all groups of a dump
MOST_COMPARED = 512  # newest calls of a group whose operation and sizes are kept
MOST_CALLS = 2048  # the same of all groups
ROLES = ("dp", "tp", "pp", "ep", "cp", "world")


@dataclass
class Place:
    """How far a rank was in one group: the newest call begun, the newest finished, and what it called (by number)."""

    label: str
    last_seq: int = 0
    completed_seq: int = 0
    members: array[int] = field(default_factory=lambda: array("I"))
    called: dict[int, int] = field(default_factory=dict)  # a checksum of operation and sizes


def read(path: str, uid: int) -> dict[str, Place]:
    """Return group name -> how far the rank of this dump was; raises Unreadable for what is no whole dump of a user."""
    with os.fdopen(_opened(path, uid), "rb") as file:
        try:
            return _places(_values(file))
        except Unreadable:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything, and its text is the reason
            raise Unreadable(f"no whole dump: {type(error).__name__} {error}"[:200]) from None


def _opened(path: str, uid: int) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_BYTES and found.st_uid == uid:
        return descriptor
    os.close(descriptor)
    raise Unreadable(f"no file of user {uid} of at most {LARGEST_BYTES} bytes")


def _values(file: BufferedReader) -> Iterator[tuple[str, Any]]:
    """Yield what a dump holds by its keys, each of its entries by itself."""
    if file.peek(1)[:1] != b"\x80":
        from . import _flight_json

        yield from _flight_json.values(file.read(LARGEST_BYTES))
        return
    from . import _plain_pickle

    loaded = _plain_pickle.load(file)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("entries"), list):
        raise Unreadable("no flight recorder dump: it has no list of entries")
    yield "pg_config", loaded.get("pg_config")
    yield from (("entries", entry) for entry in loaded["entries"])


def _places(values: Iterable[tuple[str, Any]]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    configured: dict[Any, Any] = {}
    for key, value in values:
        if key == "entries" and isinstance(value, dict) and not value.get("is_p2p"):
            _add(_place(places, value.get("process_group")), value)
        elif key == "pg_config" and isinstance(value, dict):
            configured = value
    left = MOST_MEMBERS
    for name, place in places.items():
        place.called = dict(list(place.called.items())[-(MOST_CALLS // len(places)) :])
        group = configured.get(name)
        if isinstance(group, dict):
            place.members = _members(group.get("ranks"), left)
            left -= len(place.members)
    return places


def _place(places: dict[str, Place], named: object) -> Place | None:
    """Return the place of an entry in its group, None where that is one group too many."""
    parts = [_word(part) for part in named[:2]] if isinstance(named, list | tuple) else []
    name, about = (*parts, "", "")[:2]
    if name not in places and len(places) < MOST_GROUPS:
        places[name] = Place(label(name, about))
    return places.get(name)


def _add(place: Place | None, entry: dict[str, Any]) -> None:
    seq = entry.get("collective_seq_id")
    if place is None or not isinstance(seq, int) or not 0 < seq < LARGEST_NUMBER:
        return
    place.last_seq = max(place.last_seq, seq)
    if entry.get("state") == "completed" or entry.get("retired") is True:
        place.completed_seq = max(place.completed_seq, seq)
    sizes = entry.get("input_sizes")
    shapes = [_shape(shape) for shape in sizes[:4]] if isinstance(sizes, list | tuple) else []
    place.called[seq] = crc32(f"{_word(entry.get('profiling_name'))} {' '.join(shapes)}".encode("utf-8", "replace"))
    if len(place.called) > MOST_COMPARED:
        del place.called[next(iter(place.called))]


def _word(found: object) -> str:
    """Return a short text or number as text; anything else might unfold without end."""
    return str(found)[:64] if isinstance(found, str | int | float) else ""


def _shape(found: object) -> str:
    return ",".join(_word(size) for size in found[:8]) if isinstance(found, list | tuple) else ""


def _members(found: object, most: int = MOST_MEMBERS) -> array[int]:
    """Return the ranks of a group, which are a list or the text of one; at most so many.

    >>> list(_members("[0, 1]")), list(_members([4, 5])), list(_members(None))
    ([0, 1], [4, 5], [])
    """
    ranks: Iterable[object] = ()
    if isinstance(found, list | tuple):
        ranks = found
    elif isinstance(found, str):
        ranks = (int(digits[0]) for digits in re.finditer(r"[0-9]{1,7}", found))
    return array("I", (rank for rank in islice(ranks, most) if isinstance(rank, int) and 0 <= rank < 1 << 31))


def label(name: str, about: str) -> str:
    """Return a group's role where its description tells one, else `group` and its number in the job; never a hash.

    >>> label("0", "default_pg"), label("3", "mesh_tp"), label("7", "undefined"), label("c0ffee", "")
    ('world', 'tp', 'group7', 'group')
    """
    if about == "default_pg":
        return "world"
    words = re.split(r"[^a-z]+", about.lower())
    role = next((role for role in ROLES if role in words), "")
    return role or (f"group{name}" if name.isdecimal() and len(name) < 6 else "group")


def named(file_name: str) -> tuple[str, int] | None:
    """Return (job, rank) of a dump by its file's name, None for other files; "" is an unknown job.

    >>> named("llm_rank3.json"), named("nccl_trace_rank_12"), named("notes.txt"), named(".llm_rank3.json.77")
    (('llm', 3), ('', 12), None, None)
    """
    found = re.fullmatch(r"([^.].*?)_?rank_?(\d{1,7})(\.json|\.pkl|\.pickle)?", file_name)
    if found is None:
        return None
    job = "" if re.fullmatch(r"(nccl|fr|flight|comm_lib|torch)?_?(trace|dump|recorder)?", found[1]) else found[1]
    return job, int(found[2])


def mismatched(places: Iterator[Place]) -> int:
    """Return at how many sequence numbers ranks called different things."""
    told: dict[int, set[int]] = {}
    for place in places:
        for seq, what in place.called.items():
            told.setdefault(seq, set()).add(what)
    return sum(len(what) > 1 for what in told.values())
