"""Who wrote a trace: rank, world size, host and process groups, from the JSON beside the events, else the file name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ._kineto_columns import number
from ._kineto_events import Args
from ._kineto_mend import BROKEN, mend

RANK_IN_NAME = re.compile(r"(?:rank|worker)[-_ ]?(\d{1,9})(?!\d)", re.IGNORECASE)
WORKER_IN_NAME = re.compile(r"(.+)_\d+\.\d+\.pt\.trace\.json(?:\.gz)?")
DIGITS, MOST_RANKS = 9, 1 << 20
MESH = re.compile(r"mesh_(dp|tp|pp|cp|ep)")


@dataclass(frozen=True)
class Group:
    """One communicator: `ranks` are all members, or as many as are known."""

    name: str
    description: str
    size: int
    ranks: tuple[int, ...]


@dataclass
class Identity:
    """Who wrote the trace; -1 and "" are unknown."""

    rank: int = -1
    world_size: int = -1
    node: str = ""
    trace_id: str = ""
    base_ns: int = 0
    has_device: bool = False
    gpu_model: str = ""
    groups: dict[str, Group] = field(default_factory=dict)
    parallelism: dict[str, int] = field(default_factory=dict)


def identity(header: bytes, file_name: str) -> Identity:
    """Return who wrote the trace with this header and file name."""
    found = read_header(header)
    info = found.get("distributedInfo")
    info = info if isinstance(info, dict) else {}
    listed = info.get("pg_config")
    groups = {group.name: group for group in map(_configured, listed if isinstance(listed, list) else []) if group.name}
    rank = number(info.get("rank"))
    return Identity(
        rank=rank if rank >= 0 else rank_in_name(file_name),
        world_size=number(info.get("world_size")),
        node=str(found.get("host_name") or "") or worker_in_name(file_name),
        trace_id=str(found.get("trace_id") or ""),
        base_ns=max(0, number(found.get("baseTimeNanoseconds"))),
        has_device=bool(found.get("deviceProperties")),
        gpu_model=_model(found.get("deviceProperties")),
        groups=groups,
        parallelism=_parallelism(groups),
    )


def _model(listed: object) -> str:
    """Return the name of the devices, "" where they differ or have none.

    >>> _model([{"id": 0, "name": "NVIDIA H200"}, {"id": 1, "name": "NVIDIA H200"}])
    'NVIDIA H200'
    """
    devices = listed if isinstance(listed, list) else []
    names = {str(device.get("name") or "") for device in devices if isinstance(device, dict)}
    return names.pop() if len(names) == 1 else ""


def read_header(header: bytes) -> dict[str, Any]:
    """Return the JSON object beside the events; an empty one where even a repaired text is none."""
    for text in (header, mend(header)):
        try:
            found = msgspec.json.decode(text)
        except BROKEN:
            continue
        return found if isinstance(found, dict) else {}
    return {}


def rank_in_name(name: str) -> int:
    """Return the rank in a file name, -1 for none.

    >>> rank_in_name("cpu_only__rank-34.Jul_15.pt.trace.json.gz"), rank_in_name("rank_not_found.json")
    (34, -1)
    """
    found = RANK_IN_NAME.findall(name)
    return int(found[-1]) if found else -1


def worker_in_name(name: str) -> str:
    """Return the host in a name given by the TensorBoard handler, HOST_PID.TIME.pt.trace.json, "" for other names.

    >>> worker_in_name("node0_12676.1795232712663721035.pt.trace.json.gz")
    'node0'
    """
    match = WORKER_IN_NAME.fullmatch(name)
    return match[1] if match and rank_in_name(name) < 0 else ""


def fingerprint(who: Identity, first_ns: int, events: int) -> str:
    """Return what is equal only for the same recording."""
    if who.trace_id:
        return f"{who.trace_id}/{who.rank}"
    return hashlib.sha256(f"{first_ns} {events} {who.rank}".encode()).hexdigest()[:32]


def known_groups(who: Identity, met: dict[str, Args]) -> dict[str, Group]:
    """Return all groups of the header and of collective arguments, which know better where the two differ."""
    groups = dict(who.groups)
    for name, args in met.items():
        groups[name] = _merged(groups.get(name), _from_args(name, args))
    return groups


def ranks_of(listed: object) -> tuple[tuple[int, ...], bool]:
    """Return the ranks of a JSON list, or of text that may be cut after 30, and whether they are all.

    >>> ranks_of("[0, 8, 16, ...]"), ranks_of([0, 1])
    (((0, 8, 16), False), ((0, 1), True))
    """
    words = listed.strip("[] ").split(",") if isinstance(listed, str) else listed if isinstance(listed, list) else []
    plain = [str(word).strip() for word in words]
    ranks = tuple(int(word) for word in plain if word.isdecimal() and len(word) <= DIGITS)
    return ranks, bool(ranks) and len(ranks) == len(plain)


def _configured(entry: object) -> Group:
    if not isinstance(entry, dict):
        return Group("", "", -1, ())
    ranks, _ = ranks_of(entry.get("ranks"))
    size = number(entry.get("pg_size"))
    return Group(str(entry.get("pg_name", "")), str(entry.get("pg_desc", "")), size if size > 0 else len(ranks), ranks)


def _from_args(name: str, args: Args) -> Group:
    ranks, whole = ranks_of(args.members)
    size, first, stride = number(args.group_size), number(args.first_rank), number(args.stride)
    if not whole and first >= 0 and stride > 0 and 0 < size <= MOST_RANKS:
        ranks = tuple(range(first, first + stride * size, stride))
    return Group(name, str(args.description), size if size > 0 else len(ranks), ranks)


def _merged(told: Group | None, seen: Group) -> Group:
    """Return the group with the longer list of members; its size is the one of the arguments."""
    if told is None:
        return seen
    ranks = seen.ranks if len(seen.ranks) >= min(seen.size, len(told.ranks)) else told.ranks
    size = seen.size if seen.size > 0 else told.size
    return Group(seen.name, seen.description or told.description, size, ranks)


def _parallelism(groups: dict[str, Group]) -> dict[str, int]:
    """Return sizes of the mesh dimensions that groups are described by."""
    found = ((MESH.fullmatch(group.description), group.size) for group in groups.values())
    return {match[1]: size for match, size in found if match and size > 0}
