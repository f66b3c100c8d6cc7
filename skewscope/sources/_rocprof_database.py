"""SQLite files of ROCm: rocpd of rocprofv3 (tables with a suffix per process group), and those of RPD."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import Unreadable
from . import _launcher_environment
from ._device_trace import ANNOTATION, KERNEL, MEMCPY, Process
from ._kineto_columns import Array
from ._rocprof_run import Run, add_host, call_kinds, name_collectives, number_threads, small
from ._sqlite_file import Database

DISPATCHES, COPIES, REGIONS = "rocpd_kernel_dispatch", "rocpd_memory_copy", "rocpd_region"
TOLD_TABLES = 6


def run(database: Database) -> Run:
    """Return the processes of a database; raises Unreadable for one that is neither rocpd nor RPD."""
    suffixes = sorted({name[len(one) :] for name in database.columns for one in (DISPATCHES, REGIONS)
                       if name.startswith(one) and not name.startswith("rocpd_region_name")})  # fmt: skip
    if suffixes:
        found = Run([])
        for suffix in suffixes:
            _add(found, database, suffix)
    elif "rocpd_op" in database.columns:
        found = _of_rpd(database)
    else:
        told = ", ".join(sorted(database.columns)[:TOLD_TABLES]) or "no tables"
        raise Unreadable(f"an SQLite database, but none of ROCm's profilers: it has {told}", "give rocprofv3's file")
    for process in found.processes:
        number_threads(process)
        name_collectives(process, process.names)
    found.damage = database.damage
    return found


def _add(found: Run, database: Database, suffix: str) -> None:
    """Add the processes of the tables with one suffix."""
    strings = _strings(database, f"rocpd_string{suffix}", "string")
    symbols = {one: str(display or name or f"kernel {one}") for one, name, display in database.rows(
        f"rocpd_info_kernel_symbol{suffix}", ("id", "kernel_name", "display_name"))}  # fmt: skip
    stack = {}
    category = {}
    for event, ident, kind in database.rows(f"rocpd_event{suffix}", ("id", "stack_id", "category_id")):
        stack[event] = ident if isinstance(ident, int) else -1
        category[event] = strings.get(kind, "")
    processes: dict[int, Process] = {}
    devices = _devices(database, suffix)
    found.events += _kernels(processes, database, DISPATCHES + suffix, symbols, stack, devices)
    found.events += _copies(processes, database, COPIES + suffix, strings, stack, devices)
    found.events += _regions(processes, database, REGIONS + suffix, strings, stack, category)
    _identify(found, processes, database, suffix)
    found.processes += processes.values()


def _strings(database: Database, table: str, column: str) -> dict[int, str]:
    return {one: str(text) for one, text in database.rows(table, ("id", column))}


def _devices(database: Database, suffix: str) -> dict[int, int]:
    """Return the number of each GPU among the GPUs, by the id of its agent."""
    rows = database.rows(f"rocpd_info_agent{suffix}", ("id", "type", "type_index", "logical_index"))
    return {one: index if isinstance(index, int) else -1 for one, kind, index, _ in rows if kind == "GPU"}


def _each(processes: dict[int, Process], piece: dict[str, Array]) -> Any:  # noqa: ANN401 - a generator of pairs
    """Yield each process with its rows of a piece whose times are in order."""
    good = (piece["start"] >= 0) & (piece["end"] >= piece["start"])
    for key in np.unique(piece["pid"][good]).tolist():
        rows = np.flatnonzero(good & (piece["pid"] == key))
        yield processes.setdefault(key, Process()), {name: column[rows] for name, column in piece.items()}


def _mapped(values: Array, known: Mapping[int, int]) -> Array:
    distinct, place = np.unique(values, return_inverse=True)
    return np.array([known.get(one, -1) for one in distinct.tolist()] or [-1], dtype=np.int64)[place]


def _kernels(
    processes: dict[int, Process], database: Database, table: str, symbols: Mapping[int, str], stack: Mapping[int, int],
    devices: Mapping[int, int],
) -> int:  # fmt: skip
    seen = 0
    wanted = ("start", "end", "pid", "agent_id", "kernel_id", "queue_id", "stream_id", "event_id")
    for piece in database.integers(table, wanted):
        seen += len(piece["start"])
        for process, rows in _each(processes, piece):
            ids, place = np.unique(rows["kernel_id"], return_inverse=True)
            codes = process.names.codes(symbols.get(one, f"kernel {one}") for one in ids.tolist())
            stream = rows["stream_id"] if (rows["stream_id"] > 0).any() else np.maximum(rows["queue_id"], 0)
            process.work.add(
                start=rows["start"], end=rows["end"], name=codes[place], kind=np.full(len(place), KERNEL),
                stream=small(stream), device=_mapped(rows["agent_id"], devices), bytes=np.full(len(place), -1),
                correlation=_mapped(rows["event_id"], stack),
            )  # fmt: skip
    return seen


def _copies(
    processes: dict[int, Process], database: Database, table: str, strings: Mapping[int, str], stack: Mapping[int, int],
    devices: Mapping[int, int],
) -> int:  # fmt: skip
    seen = 0
    wanted = ("start", "end", "pid", "name_id", "size", "dst_agent_id", "src_agent_id", "stream_id", "event_id")
    for piece in database.integers(table, wanted):
        seen += len(piece["start"])
        for process, rows in _each(processes, piece):
            target, source = (_mapped(rows[name], devices) for name in ("dst_agent_id", "src_agent_id"))
            ways = 2 * (source >= 0) + (target >= 0)
            codes = process.names.codes(("HtoH", "HtoD", "DtoH", "DtoD"))
            process.work.add(
                start=rows["start"], end=rows["end"], name=codes[ways], kind=np.full(len(ways), MEMCPY),
                stream=small(np.maximum(rows["stream_id"], 0)), device=np.where(target >= 0, target, source),
                bytes=rows["size"], correlation=_mapped(rows["event_id"], stack),
            )  # fmt: skip
    return seen


def _regions(
    processes: dict[int, Process], database: Database, table: str, strings: Mapping[int, str], stack: Mapping[int, int],
    category: Mapping[int, str],
) -> int:  # fmt: skip
    """Add calls, and ranges, whose text stands in `extdata` where the name is that of the call that made them."""
    messages = {one: text for one, raw in database.rows(table, ("id", "extdata"), "WHERE extdata LIKE '%message%'")
                if (text := _message(raw))}  # fmt: skip
    seen = 0
    for piece in database.integers(table, ("id", "start", "end", "pid", "tid", "name_id", "event_id")):
        seen += len(piece["start"])
        for process, rows in _each(processes, piece):
            columns = [rows[name].tolist() for name in ("id", "name_id", "event_id")]
            marked = [category.get(event, "").startswith("MARKER") for event in columns[2]]
            texts = [messages.get(one) or strings.get(name, "") for one, name in zip(*columns[:2], strict=True)]
            keys = {pair: code for code, pair in enumerate(dict.fromkeys(zip(texts, marked, strict=True)))}
            codes = np.array([keys[pair] for pair in zip(texts, marked, strict=True)], dtype=np.int64)
            names = [text for text, _ in keys]
            kinds = np.where([mark for _, mark in keys], ANNOTATION, call_kinds(names))
            correlation = np.where(marked, -1, _mapped(rows["event_id"], stack))
            add_host(process, names, codes, kinds, start=rows["start"], end=rows["end"], thread=rows["tid"],
                     correlation=correlation)  # fmt: skip
    return seen


def _message(raw: object) -> str:
    try:
        loaded = json.loads(raw) if isinstance(raw, str | bytes) else None
    except (ValueError, RecursionError):
        return ""
    return str(loaded.get("message", "")) if isinstance(loaded, dict) else ""


def _identify(found: Run, processes: Mapping[int, Process], database: Database, suffix: str) -> None:
    nodes = [str(host) for (host,) in database.rows(f"rocpd_info_node{suffix}", ("hostname",)) if host]
    found.node = nodes[0] if len(nodes) == 1 and found.node in ("", nodes[0]) else ""
    for key, raw in database.rows(f"rocpd_info_process{suffix}", ("id", "environment")):
        try:
            loaded = json.loads(raw) if isinstance(raw, str | bytes) else {}
        except (ValueError, RecursionError):
            continue
        if isinstance(loaded, dict) and key in processes:
            environment = {str(name): str(value) for name, value in loaded.items()}
            processes[key].rank = _launcher_environment.rank(environment)
            found.world_size = max(found.world_size, _launcher_environment.world_size(environment))


def _of_rpd(database: Database) -> Run:
    """Return the process of an RPD file: device operations, calls, and which call made which operation."""
    process = Process()
    names = _strings(database, "rocpd_string", "string")
    called = {op: api for api, op in database.rows("rocpd_api_ops", ("api_id", "op_id"))}
    copies = database.rows("rocpd_copyapi", ("api_ptr_id", "size"))
    size = {api: moved for api, moved in copies if isinstance(moved, int)}
    wanted = ("id", "gpuId", "queueId", "start", "end", "description_id", "opType_id")
    seen = 0
    for piece in database.integers("rocpd_op", wanted):
        seen += len(piece["start"])
        good = (piece["start"] >= 0) & (piece["end"] >= piece["start"])
        _add_operations(process, {name: column[good] for name, column in piece.items()}, names, called, size)
    for piece in database.integers("rocpd_api", ("id", "tid", "start", "end", "apiName_id", "args_id")):
        seen += len(piece["start"])
        _add_api(process, {name: column[piece["start"] >= 0] for name, column in piece.items()}, names)
    return Run([process], events=seen)


def _add_operations(
    process: Process, rows: dict[str, Array], names: Mapping[int, str], called: Mapping[int, int],
    size: Mapping[int, int],
) -> None:  # fmt: skip
    kinds = [names.get(one, "") for one in rows["opType_id"].tolist()]
    copies = np.array(["copy" in kind.lower() for kind in kinds], dtype=bool)
    told = zip(rows["description_id"].tolist(), kinds, copies.tolist(), strict=True)
    texts = ["" if copy else names.get(text) or kind for text, kind, copy in told]
    correlation = _mapped(rows["id"], called)
    process.work.add(
        start=rows["start"], end=rows["end"], name=process.names.codes(texts), kind=np.where(copies, MEMCPY, KERNEL),
        stream=small(np.maximum(rows["queueId"], 0)), device=np.clip(rows["gpuId"], -1, 2**15 - 1),
        bytes=np.where(copies, _mapped(correlation, size), -1), correlation=correlation,
    )  # fmt: skip


def _add_api(process: Process, rows: dict[str, Array], names: Mapping[int, str]) -> None:
    """Add calls; of the ranges of roctx, which are calls named UserMarker, the text is the argument."""
    pairs = []
    for name, argument in zip(rows["apiName_id"].tolist(), rows["args_id"].tolist(), strict=True):
        marked = names.get(name) == "UserMarker"
        pairs.append((names.get(argument if marked else name, ""), marked))
    keys = {pair: code for code, pair in enumerate(dict.fromkeys(pairs))}
    codes = np.array([keys[pair] for pair in pairs], dtype=np.int64)
    marks = np.array([marked for _, marked in keys], dtype=bool)
    kinds = np.where(marks, ANNOTATION, call_kinds([text for text, _ in keys]))
    if len(codes):
        add_host(process, [text for text, _ in keys], codes, kinds, start=rows["start"], end=rows["end"],
                 thread=rows["tid"], correlation=np.where(marks[codes], -1, rows["id"]))  # fmt: skip
