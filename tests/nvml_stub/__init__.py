"""A driver library without GPUs, built by the C compiler of the machine, and the file that its GPUs lie in.

    with Machine(tmp_path / "machine", gpus=8) as machine:
        process = subprocess.Popen(command, env=machine.environ(build(tmp_path)))
        machine.gpu[3].lost = 1

The attributes are those of the structures in stub.c.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import mmap
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NoData
from skewscope.metrics import metric

SOURCE = Path(__file__).with_name("stub.c")
LIBRARY = "libnvidia-ml.so.1"
VARIABLE = "SKEWSCOPE_FAKE_NVML"
MOST_GPUS, MOST_LINKS, MOST_EVENTS, MOST_PROCESSES, FIELDS, GPM_METRICS = 16, 18, 64, 16, 320, 128
LINK_FIELDS = (161, 162, 163, 202, 204, 206, 207, 208, 209, 210, 211, 212, 213, 214, 219, 220, 221, 222)
GROUPS = (
    "identity", "utilization", "samples", "clocks", "reasons", "memory", "temperature", "margin", "field_values",
    "power", "ecc", "pcie", "nvlink", "gpm", "events", "repair", "bar1", "modes", "fabric", "processes",
)  # fmt: skip
NOT_SUPPORTED, NARROW, WIDE = 3, 1, 3
U32, U64 = ctypes.c_uint32, ctypes.c_uint64


class Link(ctypes.Structure):
    """One NVLink; `counts` in the order of LINK_FIELDS."""

    _fields_ = [("state", U32), ("megabytes_per_s", U32), ("counts", U64 * len(LINK_FIELDS))]

    def add(self, field: int, count: int = 1) -> None:
        """Count errors."""
        self.counts[LINK_FIELDS.index(field)] += count


class Process(ctypes.Structure):
    """One process with a context."""

    _fields_ = [("pid", U32), ("mps", U32), ("used_bytes", U64)]


class Gpu(ctypes.Structure):
    """One GPU and how it misbehaves."""

    _fields_ = [
        ("uuid", ctypes.c_char * 48), ("bus_id", ctypes.c_char * 32), ("model", ctypes.c_char * 64),
        *((name, U32) for name in (
            "minor", "module", "numa_node", "lost", "reset_required", "hang", "crash", "slow_us",
        )),
        ("unsupported", U64), ("denied", U64),
        *((name, U32) for name in (
            "utilization_percent", "memory_percent", "sm_mhz", "memory_mhz", "max_sm_mhz", "max_memory_mhz",
            "performance_state", "celsius",
        )),
        ("thresholds", U32 * 4),
        *((name, U32) for name in ("pcie_generation", "pcie_width", "pcie_max_generation", "pcie_max_width")),
        ("margin_celsius", ctypes.c_int32), ("remapped", U32 * 4), ("banks", U32 * 5),
        *((name, U32) for name in (
            "sram_exceeded", "ecc_mode", "mig_mode", "persistence", "fabric_state", "fabric_mask", "links", "processes",
        )),
        *((name, U64) for name in (
            "reasons", "memory_used", "memory_total", "bar1_used", "event_types", "cpus", "pcie_bytes_per_s",
            "nvlink_kib_per_s",
        )),
        ("ecc", U64 * 2 * 2 * 2), ("fields", U64 * FIELDS), ("codes", ctypes.c_uint8 * FIELDS),
        ("types", ctypes.c_uint8 * FIELDS), ("gpm", ctypes.c_double * GPM_METRICS), ("link", Link * MOST_LINKS),
        ("process", Process * MOST_PROCESSES), ("advanced_ns", U64),
    ]  # fmt: skip

    def refuse(self, *groups: str) -> None:
        """Answer "not supported" to these groups of calls, and to no others."""
        self.unsupported = sum(1 << GROUPS.index(group) for group in groups)

    def deny(self, *groups: str) -> None:
        """Answer "no permission" to these groups of calls, and to no others."""
        self.denied = sum(1 << GROUPS.index(group) for group in groups)

    def set_field(self, number: int, value: int) -> None:
        """Give a field a value, and support it."""
        self.fields[number], self.codes[number] = value, 0


class Event(ctypes.Structure):
    """One event of the driver."""

    _fields_ = [("gpu", U32), ("type", U32), ("data", U64)]


class State(ctypes.Structure):
    """The whole file."""

    _fields_ = [
        ("count", U32), ("order", U32 * MOST_GPUS), ("init_code", U32), ("reloads", U32), ("pushed", U32),
        ("taken", U32), ("starts", U32), ("driver", ctypes.c_char * 32), ("clock_ns", U64),
        ("events", Event * MOST_EVENTS), ("gpu", Gpu * MOST_GPUS),
    ]  # fmt: skip


class Machine:
    """The file as attributes: `machine.count`, `machine.gpu[2].reasons`; what is set is seen by the next call."""

    state: State

    def __init__(self, path: Path, gpus: int = 8) -> None:
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(State)))
        with path.open("r+b") as file:
            self.state = State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(State)))
        self.state.count, self.state.driver = gpus, b"580.65.06"
        for at in range(MOST_GPUS):
            self.state.order[at] = at
        for at, like in enumerate(catalogue.load("agents.fake_nvml").FakeNvml(gpus).gpus):
            _fill(self.state.gpu[at], like)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("path", "state"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.state, name, value)

    def push(self, gpu: int, kind: int, data: int = 0) -> None:
        """Queue an event; kind 8 is an XID, whose number is the data."""
        self.state.events[self.state.pushed % MOST_EVENTS] = Event(gpu, kind, data)
        self.state.pushed += 1

    def environ(self, library: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment in which a process finds this machine."""
        return {**os.environ, **(more or {}), "LD_LIBRARY_PATH": str(library.parent), VARIABLE: str(self.path)}


def _fill(gpu: Gpu, like: Any) -> None:
    """Take over the values of a Python fake."""
    gpu.uuid, gpu.bus_id, gpu.model = like.uuid.encode(), like.pci_bus_id.encode(), like.model.encode()
    gpu.minor, gpu.module, gpu.numa_node, gpu.cpus = like.minor, like.minor + 1, like.minor // 4, 0xFF << 8 * like.minor
    for name in (
        "utilization_percent", "memory_percent", "sm_mhz", "memory_mhz", "performance_state", "celsius",
        "margin_celsius", "memory_used", "memory_total", "bar1_used", "fabric_state", "fabric_mask", "event_types",
    ):  # fmt: skip
        setattr(gpu, name, getattr(like, name))
    gpu.max_sm_mhz, gpu.max_memory_mhz, gpu.pcie_bytes_per_s, gpu.nvlink_kib_per_s = 1980, 2619, 10**9, 10**8
    gpu.pcie_generation, gpu.pcie_width = like.pcie["gen"], like.pcie["width"]
    gpu.pcie_max_generation, gpu.pcie_max_width = like.pcie["max_gen"], like.pcie["max_width"]
    gpu.ecc_mode, gpu.mig_mode, gpu.persistence = like.modes["ecc"], like.modes["mig"], like.modes["persistence"]
    gpu.banks[:] = like.banks
    for number, celsius in like.thresholds.items():
        gpu.thresholds[number] = celsius
    gpu.codes[:] = [
        0 if number in (91, 164, 165) or number in like.fields else NOT_SUPPORTED for number in range(FIELDS)
    ]
    gpu.types[:] = [WIDE] * FIELDS
    for number, value in like.fields.items():
        gpu.fields[number] = int(value)
    gpu.gpm[:] = [like.gpm.get(number, math.nan) for number in range(GPM_METRICS)]
    gpu.links = len(like.links)
    for at, link in enumerate(like.links):
        gpu.link[at].state, gpu.link[at].megabytes_per_s = link.state, link.megabytes_per_s


def compiler() -> str | None:
    """Return the C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@cache
def build(folder: Path) -> Path:
    """Return the library, built into a folder once; raises RuntimeError where it cannot be."""
    command = compiler()
    if command is None:
        raise RuntimeError("no C compiler here")
    library = folder / LIBRARY
    words = [command, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    done = subprocess.run(
        [*words, f"-Wl,-soname,{LIBRARY}", str(SOURCE), "-o", str(library), "-lm"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = ctypes.CDLL(str(library)).stub_machine_bytes
    told.restype = ctypes.c_size_t
    if told() != ctypes.sizeof(State):
        raise RuntimeError(f"stub.c has {told()} bytes, its mirror {ctypes.sizeof(State)}")
    return library


def fresh_pynvml(library: Path) -> Any:
    """Return a pynvml of its own that uses the library within this process, whatever was loaded before."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.loader is None:
        raise RuntimeError("pynvml is not installed")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.nvmlLib = ctypes.CDLL(str(library))
    return module


class Rig:
    """Runs collectors of one place, on a clock that stands still, and checks what they owe."""

    def __init__(self, nvml: Any, sys: Path = Path("/nonexistent"), **board: Any) -> None:
        self.now_s = 1000.0
        self.place = Place(nvml=nvml, sys=sys, board=board, clock_s=lambda: self.now_s, now_s=lambda: self.now_s + 1e9)
        self.rooms = {
            room.id: room for room in catalogue.rooms("agents.collectors") if room.kind().process == "nvml"
        }  # fmt: skip
        self.reasons: dict[str, str] = {}  # of those that had nothing
        self._made: dict[str, Any] = {}

    def look(self, *names: str, after_s: float = 0.0) -> dict[tuple[str, ...], float]:
        """Return {(metric, *labels): value} of these collectors, or of all."""
        self.now_s += after_s
        found: dict[tuple[str, ...], float] = {}
        for room in names or self.rooms:
            collector = self._made.get(room) or self._made.setdefault(room, self.rooms[room].kind()(self.place))
            try:
                samples = list(collector.collect())
            except NoData as nothing:
                self.reasons[room] = str(nothing)
                continue
            for name, labels, value in samples:
                self._check(collector, name, labels)
                key = (name.removeprefix("skewscope_"), *labels)
                assert key not in found, f"{key} comes twice"
                found[key] = value
        return found

    def _check(self, collector: Any, name: str, labels: tuple[str, ...]) -> None:
        base = name if name in collector.exports else name.removesuffix("_sum").removesuffix("_count")
        assert base in collector.exports, f"{name} is not among the exports of {type(collector).__name__}"
        declared = metric(base)
        assert len(labels) == len(declared.labels) and all(type(label) is str for label in labels), (name, labels)
        for label, value in zip(declared.labels, labels, strict=True):
            assert value in declared.values.get(label, (value,)), f"{name}: {label}={value!r} is not declared"
