"""CSV of AMD's profilers: kernel_trace, memory_copy_trace, *_api_trace of rocprofv3; results of rocprof v1 and v2."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Reading
from ..errors import Unreadable
from . import _device_tables
from ._bytes import COPY_AGAIN
from ._device_trace import ANNOTATION, HOST, KERNEL, MEMCPY, RUNTIME, WORK, Process
from ._kineto_columns import Array
from ._lines import ended
from ._rocprof_run import Run, add_host, call_kinds, name_collectives, number_threads, small

# Our name of a column -> what it is called, in lower case without anything but letters.
COLUMNS = {
    "start": ("starttimestamp", "beginns", "startns"), "end": ("endtimestamp", "endns"),
    "name": ("kernelname",), "function": ("function",), "domain": ("domain",), "direction": ("direction",),
    "correlation": ("correlationid",), "device": ("agentid", "gpuid"), "source": ("sourceagentid",),
    "target": ("destinationagentid",), "queue": ("queueid",), "stream": ("streamid",), "thread": ("threadid", "tid"),
    "dispatched": ("dispatchns",), "index": ("index",), "counter": ("countername",), "bytes": ("size", "bytes"),
}  # fmt: skip
ENDING = re.compile(
    r"(?:_(?:kernel|memory_copy|hip_api|hsa_api|rccl_api|marker_api|marker))?(?:_trace)?\.csv(?:\.gz)?$"
)
NOISE = re.compile(r"(?: \[clone [^\]]*\])+$|\.kd$")
DIGITS = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Table:
    """Columns of text by our names, of one length."""

    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self, wanted: Array) -> Table:
        """Return the wanted rows."""
        return Table({name: column[wanted] for name, column in self.columns.items()})


def form(header: str) -> str:
    """Return which table the first line of a CSV file begins: kernels, copies, calls, or "" for none of ours.

    >>> form('"Kind","Agent_Id","Kernel_Name","Start_Timestamp","End_Timestamp"'), form("step,start,end")
    ('kernels', '')
    """
    try:
        found = _columns(next(csv.reader([header.strip("\ufeff \r\n")]), []))
    except csv.Error:
        return ""
    return _kind(found)


def _kind(found: Collection[str]) -> str:
    """Return what a table of these columns, by our names, is of; "" for no table of ours."""
    if not {"start", "end"} <= set(found) or "counter" in found:
        return ""
    if "name" in found:
        return "kernels"
    if "direction" in found:
        return "copies"
    return "calls" if {"function", "domain"} <= set(found) else ""


def run(content: bytes, damage: str, path: Path, *, detail: bool) -> Run:
    """Return the process that one file is of; raises Unreadable where no line has its times."""
    kind = form(content.split(b"\n", 1)[0].decode("utf-8", "replace"))
    if not kind:
        raise Unreadable("not a CSV table of a profile of ROCm", "give kernel_trace.csv of rocprofv3")
    content, damage = ended(content, damage)
    table = _table(content)
    if _kind(table.columns) != kind:
        raise Unreadable("damaged CSV: the quotes in its first line do not match", COPY_AGAIN)
    start, end = _numbers(table, "start"), _numbers(table, "end")
    good = np.flatnonzero((start >= 0) & (end >= start))
    if not len(good):
        raise Unreadable(f"no line with a start and an end{f' ({damage})' if damage else ''}", COPY_AGAIN)
    lost = len(table) - len(good)
    process = Process()
    _fill(process, kind, table.rows(good), start[good], end[good])
    number_threads(process)
    name_collectives(process, process.names)
    part = {"stem": ENDING.sub("", path.name), "process": process, "detail": detail}
    found = Run([process], events=len(good), damage=damage, part=part)
    if lost and not damage:
        found.damage = f"{lost} lines are cut or have no times"
    return found


def join(readings: Sequence[Reading]) -> dict[str, str]:
    """Put the tables of one process together: files of one folder with one beginning of the name; in place."""
    groups: dict[tuple[Path, str], list[tuple[Reading, dict[str, Any]]]] = {}
    for reading in readings:
        part = reading.job.pop("part")
        groups.setdefault((Path(reading.path).parent, part["stem"]), []).append((reading, part))
    for members in groups.values():
        first = max(members, key=lambda member: len(member[1]["process"].work))[0]
        merged = _merged([part["process"] for _, part in members])
        merged.rank = max(reading.rank for reading, _ in members)
        found = _device_tables.tables(merged, 0, first.format, detail=members[0][1]["detail"])
        for reading, _ in members:
            reading.batches = found.batches if reading is first else []
            reading.warnings = [line for line in reading.warnings if line not in _device_tables.ABOUT_STEPS]
        first.warnings += _device_tables.said([found])
    return {}


def _merged(parts: Sequence[Process]) -> Process:
    """Return one process with the rows of all."""
    made = Process()
    for part in parts:
        codes = made.names.codes(part.names.values)
        work, host = part.work.done(), part.host.done()
        if len(work["start"]):
            made.work.add(**{**{name: work[name] for name in WORK}, "name": codes[work["name"]]})
        if len(host["start"]) and part.threads is not None:
            thread = part.threads[host["thread"]]
            made.host.add(**{**{name: host[name] for name in HOST}, "name": codes[host["name"]], "thread": thread})
    number_threads(made)
    name_collectives(made, made.names)
    return made


def _columns(cells: Sequence[str]) -> dict[str, str]:
    """Return the head of each column by our name for it; of several heads for one thing the first counts."""
    bare = {re.sub(r"[^a-z]", "", cell.lower()): cell for cell in reversed(cells)}
    return {name: bare[known] for name, heads in COLUMNS.items() for known in reversed(heads) if known in bare}


def _table(content: bytes) -> Table:
    """Return the columns that have a meaning here, as text, under our names; lines of another length are left out."""
    try:
        table = pd.read_csv(BytesIO(content), dtype=object, keep_default_na=False, on_bad_lines="skip", engine="c",
                            skipinitialspace=True, encoding_errors="replace")  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise Unreadable(f"damaged CSV: {str(error)[:200]}", COPY_AGAIN) from None
    heads = _columns([str(head) for head in table.columns])
    return Table({name: table[head].to_numpy() for name, head in heads.items()})


def _numbers(table: Table, name: str) -> Array:
    """Return a column of integers, also the number in texts such as "Agent 2"; -1 where there is none."""
    if name not in table.columns:
        return np.full(len(table), -1, dtype=np.int64)
    values, codes = np.unique(table.columns[name].astype(str), return_inverse=True)
    made = [int(found[0]) if (found := DIGITS.search(one)) and len(found[0]) < 19 else -1 for one in values.tolist()]
    return np.array(made, dtype=np.int64)[codes]


def _fill(process: Process, kind: str, table: Table, start: Array, end: Array) -> None:
    times: Mapping[str, Array] = {"start": start, "end": end, "correlation": _numbers(table, "correlation")}
    stream = _numbers(table, "stream")
    work = {"stream": small(stream if (stream > 0).any() else np.maximum(_numbers(table, "queue"), 0))}
    if kind == "kernels":
        names, codes = _texts(table.columns["name"], NOISE)
        dispatched, index = _numbers(table, "dispatched"), _numbers(table, "index")
        correlation = np.where(times["correlation"] >= 0, times["correlation"], index)
        process.work.add(
            **{**times, "correlation": correlation}, **work, name=process.names.codes(names)[codes],
            kind=np.full(len(start), KERNEL), device=np.clip(_numbers(table, "device"), -1, 2**15 - 1),
            bytes=np.full(len(start), -1),
        )  # fmt: skip
        if (dispatched >= 0).any():  # of rocprof v1: when the host put the kernel into the queue
            zeros = np.zeros(len(start), dtype=np.int64)
            add_host(process, ["dispatch"], zeros, np.array([RUNTIME]), start=dispatched, end=dispatched,
                     thread=_numbers(table, "thread"), correlation=correlation)  # fmt: skip
    elif kind == "copies":
        names, codes = _texts(table.columns["direction"], NOISE)
        device = np.maximum(_numbers(table, "target"), _numbers(table, "source"))
        process.work.add(
            **times, **work, name=process.names.codes(_way(one) for one in names)[codes],
            kind=np.full(len(start), MEMCPY), device=np.clip(device, -1, 2**15 - 1), bytes=_numbers(table, "bytes"),
        )  # fmt: skip
    else:
        both = zip(table.columns["domain"], table.columns["function"], strict=True)
        pairs, codes = _texts(np.array([f"{domain}\t{function}" for domain, function in both], dtype=object), NOISE)
        marked = np.array([one.startswith("MARKER") for one in pairs])
        names = [one.partition("\t")[2] for one in pairs]
        correlation = np.where(marked[codes], -1, times["correlation"])
        add_host(process, names, codes, np.where(marked, ANNOTATION, call_kinds(names)), start=start, end=end,
                 thread=_numbers(table, "thread"), correlation=correlation)  # fmt: skip


def _texts(column: Array, noise: re.Pattern[str]) -> tuple[list[str], Array]:
    """Return the distinct texts of a column without noise, and their codes."""
    codes, values = pd.factorize(column)
    return [noise.sub("", str(one)) for one in values], codes.astype(np.int64)


def _way(direction: str) -> str:
    """Return the name of a copy.

    >>> _way("MEMORY_COPY_HOST_TO_DEVICE"), _way("DEVICE_TO_DEVICE")
    ('HtoD', 'DtoD')
    """
    found = re.search(r"(HOST|DEVICE)_TO_(HOST|DEVICE)", direction.upper())
    return f"{found[1][0]}to{found[2][0]}" if found else ""
