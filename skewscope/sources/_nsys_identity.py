"""Whose an export of Nsight Systems is: ranks of its processes, node, GPUs, and when its clock was zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import _launcher_environment
from ._device_trace import Process
from ._nsys_nccl import Calls
from ._sqlite_file import Database

EPOCH_NS = 10**18  # times above this already count from 1970
NO_START = "the export does not tell when the session began: times count from there, not from 1970"
BY_DEVICE = "several processes and none tells its rank: they are numbered by their device, then by process id"


@dataclass(frozen=True)
class Identity:
    """Ranks and (device, UUID) by process key; `base_ns` is the Unix time of the trace's zero."""

    ranks: Mapping[int, int]
    gpus: Mapping[int, tuple[int, str]]
    node: str
    world_size: int
    base_ns: int
    warnings: tuple[str, ...]


def identity(database: Database, processes: Mapping[int, Process], calls: Calls) -> Identity:
    """Return whose the processes are, with warnings about what was not told."""
    environment = _environment(database)
    base_ns = _base_ns(database, processes)
    warnings = [] if base_ns >= 0 else [NO_START]
    ranks, guessed = _ranks(database, processes, calls, environment)
    if guessed:
        warnings.append(BY_DEVICE)
    elif min(ranks.values(), default=0) < 0:
        warnings.append("no rank in the export or the file name: name the file rankN.sqlite")
    sizes = [size for _, size in calls.members.values()]
    told = _launcher_environment.world_size(environment) if len(processes) == 1 else -1
    world = max([told, *sizes, len(processes) if len(processes) > 1 else -1])
    return Identity(ranks, _gpus(database, processes), _node(database), world, max(base_ns, 0), tuple(warnings))


def _environment(database: Database) -> dict[str, str]:
    """Return the environment that the profiler started the program with."""
    rows = database.rows("META_DATA_CAPTURE", ("name", "value"), "WHERE name LIKE 'PROCESS%:ENVIRONMENT_VARIABLE'")
    pairs = (str(value).partition("=") for _, value in rows)
    return {name: value.strip('"') for name, _, value in pairs}


def _base_ns(database: Database, processes: Mapping[int, Process]) -> int:
    """Return the Unix time of the trace's zero, 0 where times are absolute, -1 where nothing tells it."""
    first = min((int(part.done()["start"].min()) for one in processes.values() for part in (one.work, one.host)
                 if len(part)), default=0)  # fmt: skip
    settings = {str(name): str(value) for name, value in database.rows("META_DATA_EXPORT", ("name", "value"))}
    if first > EPOCH_NS or settings.get("EXPORT_PARAM_TIME_NORMALIZE") == "true":
        return 0
    shift = settings.get("EXPORT_PARAM_TIME_SHIFT", "0")
    moved = int(shift) if shift.lstrip("-").isdecimal() and len(shift) < 20 else 0
    for (start,) in database.rows("TARGET_INFO_SESSION_START_TIME", ("utcEpochNs",)):
        if isinstance(start, int) and EPOCH_NS < start < 2**62:
            return start - moved
    return -1


def _node(database: Database) -> str:
    rows = database.rows("TARGET_INFO_SYSTEM_ENV", ("value",), "WHERE name = 'Hostname'")
    return str(rows[0][0]) if rows and rows[0][0] else ""


def _ranks(
    database: Database, processes: Mapping[int, Process], calls: Calls, environment: Mapping[str, str]
) -> tuple[dict[int, int], bool]:
    """Return the rank of each process, -1 for none, and whether it was only counted."""
    keys = list(processes)
    own = _launcher_environment.rank(environment) if len(keys) == 1 else -1
    if own >= 0 and "RANK" in environment:
        return {keys[0]: own}, False
    for found in (_of_mpi(database, keys), _of_nccl(calls, keys)):
        if set(found) == set(keys) and len(set(found.values())) == len(keys):
            return found, False
    if len(keys) == 1:
        return {keys[0]: own}, False
    device = {key: int(one.work.done()["device"].min()) if len(one.work) else -1 for key, one in processes.items()}
    return {key: turn for turn, key in enumerate(sorted(keys, key=lambda key: (device[key], key)))}, True


def _of_mpi(database: Database, keys: list[int]) -> dict[int, int]:
    known = {key & 0xFFFFFF: key for key in keys}
    found = {}
    for whole, thread, pid, rank in database.rows("MPI_RANKS", ("globalPid", "globalTid", "pid", "rank")):
        given = whole if isinstance(whole, int) else thread
        number = (given >> 24) & 0xFFFFFF if isinstance(given, int) else pid
        if number in known and isinstance(rank, int):
            found[known[number]] = rank
    return found


def _of_nccl(calls: Calls, keys: list[int]) -> dict[int, int]:
    """Return each process's rank in its largest communicator, where all processes are in one of the same size."""
    largest: dict[int, tuple[int, int]] = {}
    for (key, _), (rank, size) in calls.members.items():
        if key in keys and size > largest.get(key, (0, -1))[0]:
            largest[key] = (size, rank)
    return {key: rank for key, (_, rank) in largest.items()} if len({size for size, _ in largest.values()}) == 1 else {}


def _gpus(database: Database, processes: Mapping[int, Process]) -> dict[int, tuple[int, str]]:
    """Return device and UUID of each process that worked on one device only."""
    uuids = {one: str(uuid or "") for one, uuid in database.rows("TARGET_INFO_GPU", ("id", "uuid"))}
    found = {}
    for key, process in processes.items():
        devices = np.unique(process.work.done()["device"]).tolist() if len(process.work) else []
        if len(devices) == 1 and devices[0] >= 0:
            uuid = uuids.get(devices[0], "")
            found[key] = (devices[0], uuid if uuid.startswith("GPU-") or not uuid else f"GPU-{uuid}")
    return found
