"""One flight recorder dump, reduced to how far its rank was in each group. JSON, or a pickle of plain data."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from skewscope.errors import Unreadable

LARGEST_BYTES = 32 << 20
MOST_GROUPS = 32
MOST_MEMBERS = 65_536
MOST_COMPARED = 512  # newest calls of a group whose operation and sizes are kept
ROLES = ("dp", "tp", "pp", "ep", "cp", "world")


@dataclass
class Place:
    """How far a rank was in one group: the newest call begun, the newest finished, and what it called (by number)."""

    label: str
    last_seq: int = 0
    completed_seq: int = 0
    members: tuple[int, ...] = ()
    called: dict[int, str] = field(default_factory=dict)


def read(path: str) -> dict[str, Place]:
    """Return group name -> how far the rank of this dump was; raises Unreadable for what is no whole dump."""
    content = _content(path)
    try:
        if content[:1] == b"\x80":
            from . import _plain_pickle

            loaded = _plain_pickle.load(content)
        else:
            import json

            loaded = json.loads(content)
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything, and its text is the reason
        raise Unreadable(f"no whole dump: {type(error).__name__} {error}"[:200]) from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("entries"), list):
        raise Unreadable("no flight recorder dump: it has no list of entries")
    return _places(loaded)


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_BYTES:
            raise Unreadable(f"no file of at most {LARGEST_BYTES} bytes")
        return file.read(LARGEST_BYTES)


def _places(loaded: dict[str, Any]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for entry in loaded["entries"]:
        if not isinstance(entry, dict) or entry.get("is_p2p"):
            continue
        named = entry.get("process_group")
        parts = [_word(part) for part in named[:2]] if isinstance(named, list | tuple) else []
        name, about = (*parts, "", "")[:2]
        place = places.get(name)
        if place is None and len(places) < MOST_GROUPS:
            place = places[name] = Place(label(name, about))
        if place is not None:
            _add(place, entry)
    configured = loaded.get("pg_config")
    for name, group in configured.items() if isinstance(configured, dict) else ():
        if name in places and isinstance(group, dict):
            places[name].members = _members(group.get("ranks"))
    return places


def _add(place: Place, entry: dict[str, Any]) -> None:
    seq = entry.get("collective_seq_id")
    if not isinstance(seq, int) or seq <= 0:
        return
    place.last_seq = max(place.last_seq, seq)
    if entry.get("state") == "completed" or entry.get("retired") is True:
        place.completed_seq = max(place.completed_seq, seq)
    sizes = entry.get("input_sizes")
    shapes = [_shape(shape) for shape in sizes[:4]] if isinstance(sizes, list | tuple) else []
    place.called[seq] = f"{_word(entry.get('profiling_name'))} {' '.join(shapes)}"
    if len(place.called) > MOST_COMPARED:
        del place.called[next(iter(place.called))]


def _word(found: object) -> str:
    """Return a short text or number as text; anything else might unfold without end."""
    return str(found)[:64] if isinstance(found, str | int | float) else ""


def _shape(found: object) -> str:
    return ",".join(_word(size) for size in found[:8]) if isinstance(found, list | tuple) else ""


def _members(found: object) -> tuple[int, ...]:
    """Return the ranks of a group, which are a list or the text of one.

    >>> _members("[0, 1]"), _members([4, 5]), _members(None)
    ((0, 1), (4, 5), ())
    """
    if isinstance(found, list | tuple):
        return tuple(rank for rank in found[:MOST_MEMBERS] if isinstance(rank, int))
    return tuple(int(part) for part in re.findall(r"\d{1,7}", found)[:MOST_MEMBERS]) if isinstance(found, str) else ()


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
    told: dict[int, set[str]] = {}
    for place in places:
        for seq, what in place.called.items():
            told.setdefault(seq, set()).add(what)
    return sum(len(what) > 1 for what in told.values())
