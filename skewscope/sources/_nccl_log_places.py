"""Who is who in NCCL's debug logs, over what they are connected, and what happened to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Columns
from ._nccl_log import Log, Watch

Array = np.ndarray[Any, Any]
FORMAT = "nccl-debug-log"


@dataclass
class Places:
    """Who is who: per log the global rank of each of its communicator handles, and the job's size.

    `members` maps (communicator, rank in it) to the global rank, `devices` a global rank to its GPU, as node/gpu3.
    """

    ranks: list[Array]
    world: int
    members: dict[tuple[str, int], int]
    devices: dict[int, str]


def places(logs: Sequence[Log]) -> Places:
    """Return the global rank of every handle: a process's rank in the largest communicator of the job.

    A process that made none so large has the rank that its launcher wrote before its lines, else none is known.
    """
    world = max((comm.size for log in logs for comm in log.comms), default=-1)
    ranks, members, devices = [], {}, {}
    for log in logs:
        own = {(comm.process, comm.device): comm.rank
               for comm in reversed(log.comms) if comm.size == world and comm.rank >= 0}  # fmt: skip
        alone = Counter(process for process, _ in own)
        by_process = {process: rank for (process, _), rank in own.items() if alone[process] == 1}
        found = [own.get((comm.process, comm.device), by_process.get(comm.process, comm.tag)) for comm in log.comms]
        ranks.append(np.array(found, dtype=np.int64))
        told = list(zip(log.comms, found, strict=True))
        members.update({(comm.name, comm.rank): rank for comm, rank in told})
        devices.update({rank: f"{comm.process[0]}/gpu{comm.device}" for comm, rank in told if comm.device >= 0})
    return Places(ranks, world, members, devices)


def group_of(watch: Watch) -> str:
    """Return the name of the process group that a watchdog speaks of."""
    return watch.group or "0"


def our_name(name: str) -> str:
    """Return our name of an OpType.

    >>> our_name("_REDUCE_SCATTER_BASE"), our_name("ALLREDUCE"), our_name("COALESCED")
    ('reduce_scatter', 'all_reduce', 'coalesced')
    """
    plain = name.lower().strip("_").removesuffix("_base").removesuffix("_coalesced")
    plain = (
        plain.replace("allreduce", "all_reduce").replace("allgather", "all_gather").replace("alltoall", "all_to_all")
    )
    return plain


def links(log: Log, where: Places) -> Columns:
    """Return one row per pair of ranks and medium; NCCL tells no speeds."""
    pairs: dict[tuple[str, str, str], None] = {}
    for at, src, dst, way in log.links:
        ends = [_global(where, log, at, rank) for rank in (src, dst)]
        if min(ends) >= 0:
            names = [where.devices.get(rank, f"rank{rank}") for rank in ends]
            pairs[names[0], names[1], _medium(way, roce=log.roce)] = None
    if not pairs:
        return {}
    return {"t_ns": -1, "src": [src for src, _, _ in pairs], "dst": [dst for _, dst, _ in pairs],
            "medium": [medium for _, _, medium in pairs], "source": FORMAT}  # fmt: skip


def _global(where: Places, log: Log, at: int, rank: int) -> int:
    comm = log.comms[at]
    return rank if comm.size == where.world else where.members.get((comm.name, rank), -1)


def _medium(way: str, *, roce: bool) -> str:
    """Return the medium of a transport.

    >>> [_medium(way, roce=True) for way in ("NET/IB/0/GDRDMA", "NET/Socket/1", "SHM/direct")]
    ['ethernet', 'tcp', 'shm']
    """
    if way.startswith("NET/IB"):
        return "ethernet" if roce else "infiniband"
    if way.startswith("NET/Socket"):
        return "tcp"
    if way.startswith("NET/"):
        return way.split("/")[1].lower()
    return "shm" if way.startswith(("SHM", "direct shared")) else "p2p"


def events(log: Log, ranks: Array, seen: Sequence[int]) -> Columns:
    rows: list[tuple[int, str, str, str, int, str]] = []
    for event in log.events.values():
        rank = int(ranks[event.comm]) if event.comm >= 0 else -1
        port = event.event.startswith(("link", "nic"))
        device = event.device or (f"rank{rank}" if rank >= 0 and not port else "")
        message = event.message + (f" ({event.count} times)" if event.count > 1 else "")
        rows.append((event.t_ns, event.node, device, event.event, event.code, message))
    for t_ns, watch in zip(seen, log.given_up(), strict=True):
        what = f"{our_name(watch.op) or 'a call'} number {watch.seq} of group {group_of(watch)}"
        lasted = f"{what} ran for {watch.ran_ms / 1e3:g} s" if watch.ran_ms >= 0 else f"{what} was given up"
        rows.append((t_ns, "", f"rank{watch.rank}", "watchdog", max(watch.ran_ms // 1000, -1), lasted))
    rows += _transports(log, ranks)
    names = ("t_ns", "node", "device", "event", "code", "message")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)} if rows else {}


def _transports(log: Log, ranks: Array) -> list[tuple[int, str, str, str, int, str]]:
    """Return one row per rank that says over what its channels go."""
    told: dict[int, Counter[str]] = {}
    for (at, _, _, way), count in log.links.items():
        plain = "/".join(part for part in way.split("/") if not part[:1].isdecimal())
        told.setdefault(at, Counter())[plain] += count
    by_rank: dict[int, tuple[str, Counter[str]]] = {}
    for at, ways in told.items():
        rank = int(ranks[at])
        if rank >= 0:
            by_rank.setdefault(rank, (log.comms[at].process[0], Counter()))[1].update(ways)
    return [(-1, node, f"rank{rank}", "nccl-transport", -1,
             "channels: " + ", ".join(f"{count} {way}" for way, count in ways.most_common()))
            for rank, (node, ways) in sorted(by_rank.items())]  # fmt: skip
