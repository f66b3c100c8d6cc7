"""Activity tables of Nsight Systems' exports to host calls and device work, by process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ._device_trace import ANNOTATION, KERNEL, MEMCPY, MEMSET, RUNTIME, WAIT, WAITS, WORK, Process
from ._kineto_columns import Array, Names
from ._kineto_columns import Columns as Rows
from ._kineto_names import phase
from ._sqlite_file import Database
from ._step_marks import BARE, step_number

PID_SHIFT = 24  # a global thread id is machine, process and thread in 16, 24 and 24 bits
CUPTI = "CUPTI_ACTIVITY_KIND_"
STRINGS = ("StringIds", "id", "value")
RANGES = (59, 60, 70, 71)  # push-pop and start-end ranges of NVTX and of its text files
MEMORY = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static")
COPIES = {1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA", 8: "DtoD", 9: "HtoH", 10: "PtoP",
          11: "HtoD", 12: "DtoH", 13: "DtoD"}  # fmt: skip
WAITS_FOR = {1: "Event Sync", 2: "Stream Wait Event", 3: "Stream Sync", 4: "Context Sync"}
WHAT = ("copyKind", "srcKind", "dstKind", "memKind", "syncType")
SHAPE = ("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ", "registersPerThread", "staticSharedMemory",
         "dynamicSharedMemory", "graphId")  # fmt: skip
WAITED = ("Synchronize", "cudaStreamWaitEvent", "cuStreamWaitEvent", "cudaEventQuery", "cudaStreamQuery")

# Every name that means a step or a phase holds one of these; the operators of PyTorch's emit_nvtx mean none.
LIKELY = re.compile(
    "step|iter|data|load|fetch|batch|gc|garbage|check|save|eval|valid|optim|forward|fwd|backward|bwd", re.I
)
EMITTED = "AND text NOT LIKE '%, seq = %' AND text NOT LIKE '%, op_id = %'"
JUDGED = 1 << 16

Judge = Callable[[str], bool]


def processes(database: Database, *, detail: bool) -> tuple[dict[int, Process], int]:
    """Return the processes with device work (else those with ranges) by global process id, and the events seen."""
    names = Names()
    work = Rows({**WORK, "pid": "i8", **({name: "i8" for name in SHAPE} if detail else {})})
    for table, kind in (("KERNEL", KERNEL), ("MEMCPY", MEMCPY), ("MEMSET", MEMSET), ("SYNCHRONIZATION", WAIT)):
        for piece in _device(database, table, kind, names, detail=detail):
            work.add(**piece)
    for piece in _graphs(database, names, detail=detail):
        work.add(**piece)
    device = work.done()
    host = Rows({"start": "i8", "end": "i8", "name": "i4", "thread": "i8", "kind": "i1", "correlation": "i8"})
    seen = len(work)
    for piece, rows in _runtime(database, names, None if detail else np.unique(device["correlation"])):
        host.add(**piece)
        seen += rows
    for piece, rows in _ranges(database, names, _anything if detail else _marks):
        host.add(**piece)
        seen += rows
    return _split(names, host.done(), device, detail=detail), seen


def _anything(_: str) -> bool:
    return True


def _marks(name: str) -> bool:
    """Return whether a range says something about steps, phases or collectives."""
    if not LIKELY.search(name):
        return False
    return bool(phase(name)) or step_number(name) >= 0 or BARE.fullmatch(name.strip()) is not None


def _device(database: Database, table: str, kind: int, names: Names, *, detail: bool) -> Iterator[dict[str, Any]]:
    """Yield rows of device work; kernels have names in the strings, others of what they do."""
    place = CUPTI + table
    known = database.columns.get(place, ())
    label = (
        next((one for one in ("demangledName", "shortName", "name") if one in known), "-") if kind == KERNEL else "-"
    )
    wanted = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "bytes", label, *WHAT)
    for piece in database.integers(place, [*dict.fromkeys(wanted), *(SHAPE if detail else ())]):
        known_rows = piece["end"] >= piece["start"]
        piece = {name: column[known_rows] for name, column in piece.items()}
        code = piece[label] if kind == KERNEL else np.stack([piece[name] for name in WHAT]).T
        values, turn = np.unique(code, axis=0, return_inverse=True)
        if kind == KERNEL:
            texts = database.texts(*STRINGS, values)
            made = [texts.get(one, f"kernel {one}") for one in values.tolist()]
        else:
            made = [_what(kind, *row) for row in values.tolist()]
        extra = {name: piece[name] for name in SHAPE} if detail else {}
        yield {
            "start": piece["start"], "end": piece["end"], "name": names.codes(made)[turn.ravel()] if made else turn,
            "kind": np.full(len(turn), kind), "stream": piece["streamId"],
            "device": np.clip(piece["deviceId"], -1, 2**15 - 1), "bytes": piece["bytes"],
            "correlation": piece["correlationId"], "pid": _pid(piece["globalPid"]), **extra,
        }  # fmt: skip


def _what(kind: int, copy: int, source: int, target: int, memory: int, wait: int) -> str:
    """Return the name of a copy, a fill or a wait.

    >>> _what(MEMCPY, 1, 1, 2, -1, -1), _what(MEMSET, -1, -1, -1, 2, -1), _what(WAIT, -1, -1, -1, -1, 3)
    ('HtoD (Pinned -> Device)', 'Memset (Device)', 'Stream Sync')
    """
    if kind == WAIT:
        return WAITS_FOR.get(wait, "Sync")
    if kind == MEMSET:
        return f"Memset ({MEMORY[memory]})" if 0 <= memory < len(MEMORY) else "Memset"
    known = all(0 <= one < len(MEMORY) for one in (source, target))
    return COPIES.get(copy, "") + (f" ({MEMORY[source]} -> {MEMORY[target]})" if known else "")


def _graphs(database: Database, names: Names, *, detail: bool) -> Iterator[dict[str, Any]]:
    """Yield whole CUDA graphs, which is all that was recorded where graphs were traced as one."""
    wanted = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "graphId")
    for piece in database.integers(CUPTI + "GRAPH_TRACE", wanted):
        rows = len(piece["start"])
        values = np.unique(piece["graphId"])
        code = names.codes([f"CUDA graph {one}" for one in values.tolist()])
        extra = {name: piece[name] if name == "graphId" else np.full(rows, -1) for name in SHAPE} if detail else {}
        yield {
            "start": piece["start"], "end": np.maximum(piece["end"], piece["start"]),
            "name": code[np.searchsorted(values, piece["graphId"])], "kind": np.full(rows, KERNEL),
            "stream": piece["streamId"], "device": np.clip(piece["deviceId"], -1, 2**15 - 1),
            "bytes": np.full(rows, -1), "correlation": piece["correlationId"], "pid": _pid(piece["globalPid"]), **extra,
        }  # fmt: skip


def _runtime(database: Database, names: Names, wanted: Array | None) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield CUDA calls and how many there were; `wanted` are the correlation ids to keep, None for all calls."""
    for table in ("RUNTIME", "DRIVER"):
        for piece in database.integers(CUPTI + table, ("start", "end", "globalTid", "correlationId", "nameId")):
            rows = len(piece["start"])
            if wanted is not None:
                kept = np.isin(piece["correlationId"], wanted) & (piece["correlationId"] >= 0)
                piece = {name: column[kept] for name, column in piece.items()}
            values = np.unique(piece["nameId"])
            texts = database.texts(*STRINGS, values)
            made = [texts.get(one, "CUDA call").partition("_v")[0] for one in values.tolist()]
            kinds = np.array([WAITS if any(word in name for word in WAITED) else RUNTIME for name in made] or [RUNTIME])
            place = np.searchsorted(values, piece["nameId"])
            yield {
                "start": piece["start"], "end": np.maximum(piece["end"], piece["start"]),
                "name": names.codes(made)[place] if len(place) else place, "thread": piece["globalTid"],
                "kind": kinds[place], "correlation": piece["correlationId"],
            }, rows  # fmt: skip


def _ranges(database: Database, names: Names, wanted: Judge) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the ranges whose text is wanted, and how many there were; a text stands in the row or in the strings."""
    table = "NVTX_EVENTS"
    if not database.has(table, "start", "end"):
        return
    typed = f"eventType IN {RANGES} AND" if database.has(table, "eventType") else ""
    inline = database.has(table, "text")
    if database.has(table, "textId"):
        where = f"WHERE {typed} [end] >= [start] AND textId IS NOT NULL" + (" AND text IS NULL" if inline else "")
        for rows in database.pieces(table, ("start", "end", "globalTid", "textId"), where):
            start, end, thread, code = (np.array([_whole(one) for one in part], dtype=np.int64)
                                        for part in zip(*rows, strict=True))  # fmt: skip
            values = np.unique(code)
            texts = database.texts(*STRINGS, values)
            kept = np.isin(code, [one for one in values.tolist() if one in texts and wanted(texts[one])])
            named = names.codes(texts[one] for one in code[kept].tolist())
            yield _annotations(start[kept], end[kept], thread[kept], named), len(rows)
    if inline:
        judged: dict[str, bool] = {}
        where = f"WHERE {typed} [end] >= [start] AND text IS NOT NULL {'' if wanted is _anything else EMITTED}"
        for rows in database.pieces(table, ("start", "end", "globalTid", "text"), where):
            some = [row for row in rows if _judged(judged, str(row[3]), wanted)]
            numbers = np.array([[_whole(one) for one in row[:3]] for row in some], dtype=np.int64).reshape(-1, 3)
            start, end, thread = numbers.T
            yield _annotations(start, end, thread, names.codes(str(row[3]) for row in some)), len(rows)


def _judged(known: dict[str, bool], text: str, wanted: Judge) -> bool:
    if text not in known:
        if len(known) == JUDGED:
            known.clear()
        known[text] = wanted(text)
    return known[text]


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1


def _annotations(start: Array, end: Array, thread: Array, name: Array) -> dict[str, Any]:
    rows = len(start)
    return {"start": start, "end": end, "name": name, "thread": thread, "kind": np.full(rows, ANNOTATION),
            "correlation": np.full(rows, -1)}  # fmt: skip


def _pid(whole: Array) -> Array:
    return np.where(whole >= 0, whole >> PID_SHIFT, -1)


def _split(names: Names, host: dict[str, Array], work: dict[str, Array], *, detail: bool) -> dict[int, Process]:
    """Return one process for each id with device work; without ids all belongs to one."""
    pid = _pid(host["thread"])
    keys = np.unique(work["pid"]) if len(work["pid"]) else np.unique(pid[host["kind"] == ANNOTATION])
    if len(keys) > 1:
        keys = keys[keys >= 0]
    found: dict[int, Process] = {}
    for key in keys.tolist():
        mine, own = work["pid"] == key, (pid == key) | (len(keys) == 1 and key < 0)
        process = Process(names=names)
        process.work.add(**{name: work[name][mine] for name in WORK})
        rows = {name: column[own] for name, column in host.items()}
        threads = np.unique(rows["thread"])
        process.host.add(**{**rows, "thread": np.searchsorted(threads, rows["thread"])})
        process.threads = threads
        if detail:
            process.extra = _shape(work, mine)
        found[key] = process
    return found


def _shape(work: Mapping[str, Array], mine: Array) -> dict[str, Any]:
    """Return grid, block, registers, shared memory and graph of each row of work."""
    of = {name: work[name][mine] for name in SHAPE}
    made: dict[str, Any] = {"registers": of["registersPerThread"], "graph": of["graphId"]}
    shared = [np.maximum(of[name], 0) for name in ("staticSharedMemory", "dynamicSharedMemory")]
    made["shared_memory_bytes"] = np.where(of["staticSharedMemory"] >= 0, shared[0] + shared[1], -1)
    for name in ("grid", "block"):
        triple = np.stack([of[f"{name}{axis}"] for axis in "XYZ"], axis=1)
        values, codes = np.unique(triple, axis=0, return_inverse=True)
        texts = [str(one) if one[0] >= 0 else "" for one in values.tolist()]
        made[name] = Coded(codes.ravel(), texts)
    return made


def allocations(database: Database, ranks: Mapping[int, int], base_ns: int) -> list[tuple[str, Columns]]:
    """Return `allocations` of device memory, where its usage was traced (--cuda-memory-usage)."""
    table = "CUDA_GPU_MEMORY_USAGE_EVENTS"
    made: list[tuple[str, Columns]] = []
    wanted = ("start", "globalPid", "deviceId", "address", "bytes", "memoryOperationType")
    for piece in database.integers(table, wanted):
        pid = _pid(piece["globalPid"])
        kept = np.isin(pid, list(ranks)) & (piece["bytes"] > 0) & np.isin(piece["memoryOperationType"], (0, 1))
        if not kept.any():
            continue
        size = np.where(piece["memoryOperationType"] == 0, piece["bytes"], -piece["bytes"])[kept]
        made.append((
            "allocations",
            {
                "job": "job", "rank": np.array([ranks[one] for one in pid[kept].tolist()], dtype=np.int64),
                "t_ns": piece["start"][kept] + base_ns, "device": [f"gpu{one}" for one in piece["deviceId"][kept]],
                "size_bytes": size, "address": piece["address"][kept], "source": "nsys-sqlite",
            },
        ))  # fmt: skip
    return made
