"""One fault made concrete: where it strikes, when, how strongly, and with which random details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ..catalogue import room
from ..errors import UsageError
from . import noise
from .fleet import Fleet
from .noise import Array
from .scenario import FaultPlan
from .world import WINDOW_S, Event, Stop, World

SEVERITY_SPREAD = (0.85, 1.2)  # of the condition's own severity, where a scenario names none


class Fault(Protocol):
    """One condition, physically: `kind` says what it strikes (gpu, rank, replica, nic, rail, node, rack, job)."""

    kind: ClassVar[str]
    severity: ClassVar[float]
    shapes: ClassVar[tuple[str, ...]]  # steady, ramp, bursts
    from_start: ClassVar[bool]

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""


@dataclass
class Injection:
    """Where, when and how strongly. Devices are indices of the fleet; `envelope` [windows] is 0 to 1."""

    condition: str
    job: int
    kind: str
    gpus: npt.NDArray[np.int64]  # struck; adapters have the numbers of their GPUs
    severity: float
    onset_s: float
    end_s: float
    envelope: Array
    rng: np.random.Generator

    @property
    def gpu(self) -> int:
        """The struck GPU or adapter, the first of several."""
        return int(self.gpus[0])

    @property
    def on(self) -> npt.NDArray[np.bool_]:
        """Windows in which it acts."""
        return self.envelope > 0

    @property
    def amount(self) -> Array:
        """Severity in each window."""
        return self.severity * self.envelope

    @property
    def onset_window(self) -> int:
        """The window in which it begins."""
        return int(np.argmax(self.on)) if self.on.any() else 0

    def counts(self, per_s: float | Array) -> Array:
        """Return how often something of this rate happens [windows], a little unsteady."""
        return self.rng.poisson(np.maximum(np.asarray(per_s) * self.envelope * WINDOW_S, 0.0)).astype(np.float64)

    def once(self, count: float = 1.0) -> Array:
        """Return `count` in the window of the onset and 0 elsewhere [windows]."""
        found = np.zeros(len(self.envelope))
        found[self.onset_window] = count
        return found

    def some(self, names: Sequence[str], fewest: int = 1) -> list[str]:
        """Return some of the names: not every counter of a kind is loud in each case."""
        count = int(self.rng.integers(fewest, len(names) + 1))
        return [names[at] for at in sorted(self.rng.choice(len(names), count, replace=False))]

    def pick(self, *names: str) -> str:
        """Return one of the names."""
        return names[int(self.rng.integers(len(names)))]

    def tell(self, world: World, event: str, code: int, message: str, device: str = "", after_s: float = 0.0) -> None:
        """Add a row of `events` at the onset."""
        node = int(world.fleet.node_of(self.gpu))
        world.events.append(Event(self.onset_s + after_s, node, device, event, code, message))

    def xid(self, world: World, gpu: int, code: int, text: str, sources: Sequence[str] = ("nvml", "kmsg")) -> None:
        """Let a GPU raise an XID at the onset: its counters and the line of the kernel log."""
        for source in sources:
            world.gpu.grow("skewscope_gpu_xid_errors_total", f"xid={code},source={source}", gpu, self.once())
        slot = gpu % world.fleet.gpus_per_node
        node = int(world.fleet.node_of(gpu))
        message = f"NVRM: Xid (PCI:{pci_address('gpu', slot)[:-2]}): {code}, {text}"
        world.events.append(Event(self.onset_s, node, f"gpu{slot}", "xid", code, message))

    def halt(self, world: World, *, missing: bool = False, group: str = "dp") -> None:
        """Stop the job of the struck device: its rank never arrives, or the transfer of its group never ends."""
        if self.job < 0:
            return
        job = world.fleet.jobs[self.job]
        layout_ranks = tuple(int(one) for one in self.gpus - job.first_gpu)
        absent = layout_ranks if missing else ()
        world.courses[self.job].halt(Stop(self.onset_s, absent, group, layout_ranks))


def pci_address(kind: str, slot: int, *, port: bool = False) -> str:
    """Return the PCI address of a GPU or adapter by its slot, or of the bridge above it.

    >>> pci_address("gpu", 3), pci_address("nic", 3, port=True)
    ('0000:3f:00.0', '0000:3e:02.0')
    """
    bus = 0x1B + 0x0C * slot
    if port:
        return f"0000:{bus - 1:02x}:{'01' if kind == 'gpu' else '02'}.0"
    return f"0000:{bus if kind == 'gpu' else bus + 1:02x}:00.0"


def load(condition: str) -> Fault:
    """Return the fault of a condition; raises UsageError with near names."""
    fault: Fault = room("simulate.faults", condition).load()
    return fault


def injection(world: World, plan: FaultPlan, at: int) -> Injection:
    """Return fault number `at` of the scenario made concrete; raises UsageError for a target that is not there."""
    fault = load(plan.condition)
    rng = noise.rng(world.seed, "fault", at, plan.condition)
    gpus = _struck(world.fleet, fault.kind, plan.target, rng)
    job = world.fleet.job_of(int(gpus[0]))
    course = world.fleet.jobs[max(job, 0)].plan
    length = course.steps * course.step_s
    onset = 0.0 if fault.from_start else course.start_s + plan.onset * length
    # A fault that lasts to the end of the nominal run also lasts while the run is longer because of it.
    end = np.inf if plan.end >= 1.0 else course.start_s + plan.end * length
    drawn = rng.uniform(*SEVERITY_SPREAD)
    shape = plan.shape or fault.shapes[int(rng.integers(len(fault.shapes)))]
    envelope = _envelope(world.windows, onset, end, length, shape, rng)
    severity = plan.severity or fault.severity * drawn
    return Injection(plan.condition, job, fault.kind, gpus, severity, onset, end, envelope, rng)


def _envelope(
    windows: int, onset_s: float, end_s: float, length_s: float, shape: str, rng: np.random.Generator
) -> Array:
    begin = np.arange(windows) * WINDOW_S
    found = np.clip((np.minimum(end_s, begin + WINDOW_S) - np.maximum(onset_s, begin)) / WINDOW_S, 0.0, 1.0)
    if shape == "ramp":
        rise = np.clip((begin + WINDOW_S - onset_s) / max(0.25 * length_s, WINDOW_S), 0.15, 1.0)
        found = found * rise
    elif shape == "bursts":
        found = found * _on_and_off(windows, int(onset_s // WINDOW_S), rng)
    return np.asarray(found)


def _on_and_off(windows: int, first: int, rng: np.random.Generator) -> Array:
    found = np.zeros(windows)
    at = first
    while at < windows:
        on = int(rng.integers(4, 10))
        found[at : at + on] = 1.0
        at += on + int(rng.integers(2, 5))
    return found


def _struck(fleet: Fleet, kind: str, target: str, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    gpus = np.array([_drawn(fleet, kind, rng)]) if not target else _named(fleet, target)
    if kind == "node":
        return np.concatenate([fleet.gpus_of(int(node)) for node in np.unique(fleet.node_of(gpus))])
    if kind == "rack":
        rack = fleet.racks[int(fleet.node_of(int(gpus[0])))]
        return np.concatenate([fleet.gpus_of(node) for node in fleet.nodes_of_rack(rack)])
    if kind == "rail" and len(gpus) == 1:
        rack = fleet.racks[int(fleet.node_of(int(gpus[0])))]
        slot = int(gpus[0]) % fleet.gpus_per_node
        return np.array([node * fleet.gpus_per_node + slot for node in fleet.nodes_of_rack(rack)])
    if kind == "replica":
        job = fleet.jobs[max(fleet.job_of(int(gpus[0])), 0)]
        first = int(gpus[0]) - (int(gpus[0]) - job.first_gpu) % job.plan.tp
        return np.arange(first, first + job.plan.tp)
    if kind == "job":
        job = fleet.jobs[max(fleet.job_of(int(gpus[0])), 0)]
        return np.arange(job.gpus.start, job.gpus.stop)
    return gpus


def _drawn(fleet: Fleet, kind: str, rng: np.random.Generator) -> int:
    """Return one GPU of the first job; what leads the training jobs is struck first, unless it is a replica."""
    serves = kind == "replica"
    job = next((one for one in fleet.jobs if (one.plan.kind == "serving") == serves), fleet.jobs[0])
    return int(rng.integers(job.gpus.start, job.gpus.stop))


def _named(fleet: Fleet, target: str) -> npt.NDArray[np.int64]:
    place, _, device = target.partition("/")
    if place in fleet.racks and not device:
        return np.concatenate([fleet.gpus_of(node) for node in fleet.nodes_of_rack(place)])
    jobs = {job.plan.name: job for job in fleet.jobs}
    if (
        place in jobs
        and device.startswith("rank")
        and device[4:].isdigit()
        and int(device[4:]) < jobs[place].plan.ranks
    ):
        return np.array([jobs[place].first_gpu + int(device[4:])])
    if place in jobs and not device:
        return np.arange(jobs[place].gpus.start, jobs[place].gpus.stop)
    if place in fleet.nodes:
        all_of_node = fleet.gpus_of(fleet.nodes.index(place))
        slot = device.removeprefix("gpu").removeprefix("mlx5_")
        if not device:
            return all_of_node
        if slot.isdigit() and int(slot) < len(all_of_node):
            return np.array([all_of_node[int(slot)]])
    raise UsageError(
        f"target {target!r} is not in the fleet; say a node ({fleet.nodes[0]}), node/gpu0, node/mlx5_0, "
        f"a rack ({fleet.racks[0]}), a job ({fleet.jobs[0].plan.name}) or job/rank0"
    )
