"""What a process group is: its members, its role, and an id that all its members arrive at."""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any

# Words of group names and mesh dimensions, and the role they speak for.
_WORDS = {
    "dp": "dp", "ddp": "dp", "fsdp": "dp", "hsdp": "dp", "data": "dp", "replicate": "dp", "shard": "dp",
    "tp": "tp", "tensor": "tp", "pp": "pp", "pipe": "pp", "pipeline": "pp",
    "ep": "ep", "expert": "ep", "cp": "cp", "context": "cp",
}  # fmt: skip


@dataclass(eq=False, slots=True)
class Lane:
    """A row of calls that are numbered together: the collectives of a group, or the messages to one peer."""

    index: int  # in the ring's table of groups
    extra: int  # global rank of the peer + 1, 0 for collectives
    calls: Iterator[int] = field(default_factory=lambda: count(1))


@dataclass(eq=False, slots=True)
class Group(Lane):
    """A process group under way."""

    ranks: tuple[int, ...] = ()
    size: int = 1
    newest_ns: int = 0  # start of the call begun last
    begin: Any = None  # shows a call as begun: (seq, start_ns, op, step)
    batch: list[Any] | None = None  # calls between _start_coalescing and _end_coalescing
    lanes: dict[tuple[int, int], Lane] = field(default_factory=dict)

    def lane(self, op: int, member: Any) -> Lane:
        """Return the lane of messages of one kind with one member, by its place in the group; -1 for any sender."""
        member = int(member)
        found = self.lanes.get((op, member))
        if found is None:
            peer = self.ranks[member] if 0 <= member < len(self.ranks) else -1
            found = self.lanes.setdefault((op, member), Lane(self.index, peer + 1))
        return found


@dataclass(frozen=True)
class Facts:
    """What c10d knows of a group; `id` is equal on all its members."""

    id: int
    ranks: tuple[int, ...]
    rank: int
    role: str
    name: str


def facts(group: Any) -> Facts | None:
    """Return the facts of a c10d process group, None for one that c10d does not (yet) know."""
    c10d = sys.modules["torch.distributed.distributed_c10d"]
    if group not in c10d._world.pg_map:
        return None
    ranks = tuple(int(rank) for rank in c10d.get_process_group_ranks(group))
    name = str(group.group_name)
    text = f"{group.group_desc if hasattr(group, 'group_desc') else ''}"
    backend = str(c10d.get_backend(group))
    return Facts(
        identity(ranks, backend, name), ranks, int(group.rank()), role(text, name, len(ranks), c10d.get_world_size()),
        name if text in ("", "undefined", "default_pg") else text,
    )  # fmt: skip


def identity(ranks: Sequence[int], backend: str, name: str) -> int:
    """Return 64 bits that name a group, the same on every member.

    >>> identity([0, 1], "gloo", "0") == identity([1, 0], "gloo", "0") != identity([0, 1], "gloo", "1")
    True
    """
    whole = ",".join(map(str, sorted(ranks))) + f"|{backend}|{name}"
    return int.from_bytes(blake2b(whole.encode(), digest_size=8).digest(), "little")


def role(description: str, name: str, size: int, world: int) -> str:
    """Return what a group is for, as its description, name or mesh dimension tells; "" where nothing does.

    >>> role("mesh_dp_shard", "3", 4, 8), role("TENSOR_MODEL_PARALLEL_GROUP", "5", 2, 8), role("default_pg", "0", 8, 8)
    ('dp', 'tp', 'world')
    >>> role("EXPERT_DATA_PARALLEL_GROUP", "6", 2, 8), role("undefined", "7", 2, 8)
    ('dp', '')
    """
    words = [_WORDS[word] for word in re.split(r"[^a-z]+", f"{description} {name}".lower()) if word in _WORDS]
    if words:  # the data parallel group of the experts is a data parallel group
        return "dp" if words[:2] == ["ep", "dp"] else words[0]
    return "world" if size == world else ""
