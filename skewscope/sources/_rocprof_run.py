"""What one file of AMD's profilers holds, and what its several forms have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._device_trace import ANNOTATION, HOST, RUNTIME, WAITS, Process, Told
from ._kineto_columns import Array, Columns, Names
from ._kineto_names import operation
from ._nsys_nccl import Calls, calls_of

WAITED = ("Synchronize", "hipStreamWaitEvent", "hipEventQuery", "hipStreamQuery", "hsa_signal_wait")
LARGEST = 2**31


@dataclass
class Run:
    """Processes of one file; `part` is what a CSV file leaves for the other files of its process."""

    processes: list[Process]
    events: int = 0
    node: str = ""
    world_size: int = -1
    damage: str = ""
    warnings: list[str] = field(default_factory=list)
    part: dict[str, Any] = field(default_factory=dict)


def small(values: Array) -> Array:
    """Return identifiers as they are where they fit 31 bits, else their places in order.

    >>> small(np.array([3, 1])).tolist(), small(np.array([139690710949888, 0, 139690710949888])).tolist()
    ([3, 1], [1, 0, 1])
    """
    if not len(values) or values.max() < LARGEST:
        return values
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def call_kinds(names: Sequence[str]) -> Array:
    """Return the kind of each call of HIP or HSA by its name."""
    return np.array([WAITS if any(word in name for word in WAITED) else RUNTIME for name in names], dtype=np.int64)


def add_host(process: Process, names: Sequence[str], codes: Array, kinds: Array, **columns: Array) -> None:
    """Add host calls: `names` of the values of `codes` and their `kinds`; columns start, end, thread, correlation."""
    if len(codes):
        made = process.names.codes(names)
        process.host.add(**{**columns, "end": np.maximum(columns["end"], columns["start"])}, name=made[codes],
                         kind=kinds[codes])  # fmt: skip


def number_threads(process: Process) -> None:
    """Replace the threads of the host calls by small numbers; the ones recorded are kept beside them."""
    host = process.host.done()
    process.threads, small_ones = np.unique(host["thread"], return_inverse=True)
    process.host = Columns(HOST)
    process.host.add(**{**host, "thread": small_ones})


def name_collectives(process: Process, names: Names) -> None:
    """Let calls of RCCL say what its kernels did: RCCL runs all its collectives as one generic kernel."""
    host = process.host.done()
    texts = names.values
    ops = [operation(text) if text.startswith(("nccl", "rccl")) else "other" for text in texts]
    told = np.array([op != "other" for op in ops] or [False])
    rows = np.flatnonzero((host["kind"] != ANNOTATION) & told[host["name"]])
    if not len(rows) or process.threads is None:
        return
    calls = Calls(
        thread=process.threads[host["thread"][rows]].tolist(), start=host["start"][rows].tolist(),
        end=host["end"][rows].tolist(), op=[ops[code] for code in host["name"][rows].tolist()],
    )  # fmt: skip
    found = Told(*np.full((4, len(process.work)), -1, dtype=np.int64))
    codes = names.codes(calls.op)
    for row, call, _ in calls_of(calls, process, any_kind=True):
        found.op[row] = codes[call]
    process.told = found
