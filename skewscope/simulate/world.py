"""The ground state: what is physically true of every device in every window, before anybody measures it.

Knobs are causes (how fast a GPU is, how much of its rate a link has); counts are errors that devices counted; levels
are states that gauges show. Faults and harmless events write here, jobs read the knobs, telemetry shows it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .fleet import Fleet
from .levels import LEVELS
from .noise import Array
from .routing import Router
from .scenario import Scenario

WINDOW_S = 30.0
HANG_S = 600.0  # how long a job that stopped is watched
AFTER_S = 60.0  # what is simulated after a job's end
SLOWEST = 2.2  # knobs reach so many times the nominal run
At = int | slice | npt.NDArray[np.int64]
Key = tuple[str, str]
Value = TypeVar("Value")

# Causes, with the value that a healthy device has.
KNOBS: Mapping[str, Mapping[str, float]] = {
    "gpu": {
        "speed": 1.0,  # of the compute it does at a clock, against its kind
        "clock_cap": 1.0,  # of the highest SM clock
        "limit": 1.0,  # of the usual power limit
        "sw_thermal": 0.0, "hw_thermal": 0.0, "hw_power_brake": 0.0,  # share of time that this holds the clocks
        "heat": 0.0,  # degrees beyond the usual
        "pcie_rate": 1.0, "nvlink_rate": 1.0,  # of the link's usual speed
        "foreign": 0.0,  # share of time that another process has the SMs
        "pcie_foreign_bytes_per_s": 0.0,  # traffic that is not the job's
        "memory_ratio": 1.0,  # of what a job's rank usually holds
        "foreign_memory_bytes": 0.0, "generations_lost": 0.0, "bar1_swing": 0.0,
        "activity": 1.0,  # of the usual tensor and SM activity while computing
        "reports": 1.0,  # 0 where its series are gone
    },
    "rank": {
        "expert_load": 1.0,  # of the mean of the expert-parallel ranks
        "expert_transfer": 1.0,  # of the usual time of its all-to-all
        "inside_transfer": 1.0,  # of the usual time of the groups that should fit a host: more where they do not
        "rollout_spread": 0.0, "rollout_factor": 1.0,  # rl: more spread of answers' lengths, and longer answers
        "checkpoint_factor": 1.0,  # of the time that saving a checkpoint usually takes
        "host_share": 0.0,  # of the step: more time to launch and prepare
        "input_share": 0.0, "h2d_factor": 1.0, "d2h_share": 0.0,
        "gc_rate": 0.0, "gc_share": 0.0,  # pauses per step, and their length as a share of it
        "run_delay": 0.0, "cpu": 0.0,  # cores: waiting for one, using one, beyond the usual
        "launch_gap": 0.0,  # share of compute time that the GPU idles between kernels, too short to see in utilisation
        "switches_per_s": 0.0, "pinned_swing": 0.0,
        "burst": 0.0,  # serving: requests beyond the usual, as a share of what a replica can take
        # Serving: share of a request's time that it waits at the gateway, for room in the KV cache, for what preempts
        # it, for a batch that is not refilled, for prompts of others, for its KV cache from another replica.
        "gate_share": 0.0, "kv_share": 0.0, "switch_share": 0.0, "drain_share": 0.0, "stall_share": 0.0,
        "transfer_share": 0.0,
        # That its bytes are sent again, wait in the host that answers, or leave it by fits and starts.
        "ingress_share": 0.0, "backlog_share": 0.0, "jitter_share": 0.0,
        "attention_share": 0.0,  # that it waits for the fullest of the ranks that split attention
    },
    "nic": {
        "rate": 1.0, "wait_share": 0.0, "weight": 1.0, "pause_received": 0.0, "pause_sent": 0.0, "away": 0.0,
        "filled_sent": 0.0, "filled_received": 0.0,  # of the line: what all traffic together fills
        "other_board": 0.0,  # 1 where the adapter is of another kind, from the start
    },
    "node": {# Of TCP segments that come or go: sent again by the peer or by the host, dropped by the host.
             "resent_in": 0.0, "resent_out": 0.0, "dropped_in": 0.0, "dropped_out": 0.0,
             "cpu_load": 0.0, "pressure": 0.0, "system_share": 0.25, "offset_s": 0.0, "reports": 1.0, "nvml": 1.0,
             "power_budget": 1.0, "steal": 0.0, "memory_pressure": 0.0},
}  # fmt: skip


class Area:
    """One kind of device: knobs [windows, devices], counts and levels by (metric, labels) of the same shape."""

    def __init__(self, kind: str, windows: int, devices: int, levels: Mapping[Key, float]) -> None:
        self.kind, self.windows, self.devices = kind, windows, devices
        self._defaults = KNOBS.get(kind, {})
        self._knobs: dict[str, Array] = {}
        self.usual = dict(levels)
        self.counts: dict[Key, Array] = {}
        self.levels: dict[Key, Array] = {}
        self.per_packet: dict[Key, Array] = {}

    def knob(self, name: str) -> Array:
        """Return a knob [windows, devices]; read only where nobody has touched it."""
        if name in self._knobs:
            return self._knobs[name]
        return np.broadcast_to(np.float64(self._defaults[name]), (self.windows, self.devices))

    @property
    def touched(self) -> frozenset[str]:
        """Names of the knobs that somebody changed."""
        return frozenset(self._knobs)

    def edit(self, name: str) -> Array:
        """Return a knob to be written."""
        if name not in self._knobs:
            self._knobs[name] = np.full((self.windows, self.devices), self._defaults[name])
        return self._knobs[name]

    def scale(self, name: str, at: At, factor: Array) -> None:
        """Multiply a knob of some devices by `factor` [windows]."""
        self.edit(name)[:, at] = (self.edit(name)[:, at].T * factor).T

    def add(self, name: str, at: At, amount: Array) -> None:
        """Add `amount` [windows] to a knob of some devices."""
        self.edit(name)[:, at] = (self.edit(name)[:, at].T + amount).T

    def grow(self, metric: str, labels: str, at: At, counts: Array) -> None:
        """Let a counter of some devices grow by `counts` [windows] or [windows, devices]."""
        _add(self._made(self.counts, (metric, labels), 0.0), at, counts)

    def grow_per_packet(self, metric: str, labels: str, at: At, ratio: Array) -> None:
        """Let a counter grow by `ratio` [windows] of the packets that an adapter sends."""
        _add(self._made(self.per_packet, (metric, labels), 0.0), at, ratio)

    def show(self, metric: str, labels: str, at: At, value: float | Array, where: npt.NDArray[np.bool_]) -> None:
        """Set a state of some devices to `value` in the windows of `where` [windows]."""
        level = self._made(self.levels, (metric, labels), self.usual.get((metric, labels), 0.0))
        shown = np.broadcast_to(value, (self.windows,))
        level[:, at] = np.where(where, shown, level[:, at].T).T

    def _made(self, kept: dict[Key, Array], key: Key, usual: float) -> Array:
        if key not in kept:
            kept[key] = np.full((self.windows, self.devices), usual)
        return kept[key]


def _add(whole: Array, at: At, part: Array) -> None:
    whole[:, at] = whole[:, at] + part if part.ndim == 2 else (whole[:, at].T + part).T


@dataclass(frozen=True)
class Event:
    """One row of `events`: when (seconds of the run), where, and the text of the kernel or driver."""

    t_s: float
    node: int
    device: str
    event: str
    code: int = -1
    message: str = ""


@dataclass(frozen=True)
class Stop:
    """A job stands still from `at_s`. `absent` ranks never arrive; without any, all wait inside the transfer."""

    at_s: float
    absent: tuple[int, ...] = ()
    group: str = "dp"  # where the transfer stands
    members: tuple[int, ...] = ()  # ranks of the standing group, where it is not everybody's


@dataclass
class Course:
    """What befalls one job as a whole: it stops, stands still for some seconds at some time, or some ranks are away."""

    stop: Stop | None = None
    stalls: list[tuple[float, float, str]] = field(default_factory=list)  # (when, seconds, "transfer" or "restart")
    away: list[tuple[float, float, tuple[int, ...]]] = field(default_factory=list)  # (from, until, ranks)

    def absent(self, windows: int, ranks: int) -> Array:
        """Return the share of each window in which a rank is away [windows, ranks]."""
        found, begin = np.zeros((windows, ranks)), np.arange(windows) * WINDOW_S
        for start_s, end_s, those in self.away:
            share = np.clip((np.minimum(end_s, begin + WINDOW_S) - np.maximum(start_s, begin)) / WINDOW_S, 0.0, 1.0)
            found[:, list(those)] += share[:, None]
        return np.minimum(found, 1.0)

    def halt(self, stop: Stop) -> None:
        """Stop the job, at the earliest of all stops."""
        if self.stop is None or stop.at_s < self.stop.at_s:
            self.stop = stop


class World:
    """The fleet, its areas and what befalls its jobs, over `windows` of 30 s from second 0."""

    def __init__(self, scenario: Scenario, fleet: Fleet, seed: int, windows: int) -> None:
        self.scenario, self.fleet, self.seed, self.windows = scenario, fleet, seed, windows
        sizes = {"node": len(fleet.nodes), "disk": len(fleet.nodes)}
        usual = {kind: _values(found, fleet) for kind, found in LEVELS.items()}
        self.areas = {kind: Area(kind, windows, sizes.get(kind, fleet.gpus), usual[kind]) for kind in LEVELS}
        self.events: list[Event] = []
        self.courses = [Course() for _ in fleet.jobs]
        self.routers = {at: Router(job.plan, windows, seed, at) for at, job in enumerate(fleet.jobs) if job.plan.ep > 1}
        self.replies = np.ones((windows, len(fleet.nodes)))  # share of scrapes that came
        self.failing: dict[int, float] = {}  # node -> share of attempts of jobs that it breaks, before the run
        self.restarts: list[tuple[int, int]] = []  # (window, node) in which an agent began anew

    @property
    def gpu(self) -> Area:
        """GPUs."""
        return self.areas["gpu"]

    @property
    def rank(self) -> Area:
        """Processes of ranks, by the GPU that they hold."""
        return self.areas["rank"]

    @property
    def nic(self) -> Area:
        """Adapters."""
        return self.areas["nic"]

    @property
    def node(self) -> Area:
        """Hosts."""
        return self.areas["node"]

    def window(self, t_s: float) -> int:
        """Return the window of a time, at most the last one."""
        return min(max(int(t_s // WINDOW_S), 0), self.windows - 1)


def _values(found: Mapping[Key, float | Callable[[Fleet], float]], fleet: Fleet) -> dict[Key, float]:
    return {key: value(fleet) if callable(value) else value for key, value in found.items()}


def nominal_s(scenario: Scenario) -> float:
    """Return how long the longest job takes if nothing slows it."""
    return max(job.start_s + job.steps * job.step_s for job in scenario.jobs)


def windows_of(scenario: Scenario) -> int:
    """Return the number of windows that are prepared: enough for a run at half speed."""
    return int(np.ceil((nominal_s(scenario) * SLOWEST + HANG_S) / WINDOW_S))
