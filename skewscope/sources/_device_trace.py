"""What device tracers record of one process, whoever wrote it: host calls and device work, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._kineto_columns import Array, Columns, Names

KINDS = ("kernel", "memcpy", "memset", "wait", "communication")  # of device work
KERNEL, MEMCPY, MEMSET, WAIT, COMMUNICATION = range(len(KINDS))
CALLS = ("runtime", "annotation", "operator", "wait", "python")  # of host calls
RUNTIME, ANNOTATION, OPERATOR, WAITS, PYTHON = range(len(CALLS))
HOST = {"start": "i8", "end": "i8", "name": "i4", "thread": "i8", "kind": "i1", "correlation": "i8"}
WORK = {
    "start": "i8", "end": "i8", "name": "i4", "kind": "i1", "stream": "i8", "device": "i4", "bytes": "i8",
    "correlation": "i8",
}  # fmt: skip
EXTRA = ("grid", "block", "registers", "shared_memory_bytes", "graph")


@dataclass
class Told:
    """What was recorded of the collective behind each row of work, -1 unknown; `group`, `op` are codes of names."""

    group: Array
    group_size: Array
    message_bytes: Array
    op: Array


@dataclass
class Process:
    """One traced process: `host` calls and device `work` by the names of `HOST` and `WORK`, ns on the trace's clock.

    `on_device` says that steps were marked on the device's own timeline; `extra` are more columns of the work, wanted
    in detail only; `told` is what a recorder wrote of collectives.
    """

    names: Names = field(default_factory=Names)
    host: Columns = field(default_factory=lambda: Columns(HOST))
    work: Columns = field(default_factory=lambda: Columns(WORK))
    extra: dict[str, Any] = field(default_factory=dict)
    told: Told | None = None
    rank: int = -1
    on_device: bool = False
    threads: Array | None = None  # as recorded, by the small numbers of the host calls
    operations: Mapping[str, str] = field(default_factory=dict)  # name of a kernel -> collective, where not by rule

    @property
    def rows(self) -> int:
        """Number of rows of both kinds."""
        return len(self.host) + len(self.work)
