"""What was wrong in truth: each fault with its place, time and price, from replaying the run without it.

Of a training job the price is what a step takes longer. An inference engine makes no steps: there it is what a request
of the struck replicas takes longer from the gateway to its last token, over all that finish while the fault is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .fleet import Fleet
from .injection import Injection, load
from .noise import Array
from .serving import Serving
from .training import Run
from .world import WINDOW_S, World

SCHEMA = "skewscope.truth/1"
VICTIM_SHARE = 0.3  # of the loss: who waits so much longer is a victim


def truth(
    world: World, faults: list[Injection], runs: dict[int, Run], replays: dict[int, Run],
    serving: dict[int, Serving] | None = None, served: dict[int, Serving] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the document.

    `replays` and `served` hold the struck job's run without each fault, by the fault's number.
    """
    told = [_fault(world, one, runs.get(one.job), replays.get(at)) for at, one in enumerate(faults)]
    for at, without in (served or {}).items():
        lost_s, share = _requests_lost(faults[at], (serving or {})[faults[at].job], without)
        told[at] |= {"lost_s_per_step": round(lost_s, 6), "lost_share": round(share, 6)}
    return {
        "schema": SCHEMA, "scenario": world.scenario.name, "seed": world.seed, "healthy": not faults, "faults": told,
    }  # fmt: skip


def _fault(world: World, fault: Injection, run: Run | None, replay: Run | None) -> dict[str, Any]:
    start_ns = world.scenario.start_ns
    fleet = world.fleet
    node = int(fleet.node_of(fault.gpu))
    first, last = _steps(fault, run)
    lost_s, share = _lost(run, replay, first, last, by_clock=getattr(load(fault.condition), "by_clock", False))
    stopped = run is not None and run.stop is not None and run.stop.at_s >= fault.onset_s
    stops = stopped and replay is not None and (replay.stop is None or replay.stop != run.stop if run else False)
    end_s = min(fault.end_s, run.end_s if run else world.windows * WINDOW_S)
    ranks = sorted({fleet.rank_of(int(gpu)) for gpu in fault.gpus} - {-1})
    nic = fault.kind in ("nic", "rail")
    name = fleet.nic_name if nic else fleet.gpu_name
    return {
        "condition": fault.condition, "subject": _subject(world, fault), "node": fleet.nodes[node],
        "rack": fleet.racks[node], "job": fleet.jobs[fault.job].plan.name if fault.job >= 0 else "",
        "devices": [name(int(gpu)) for gpu in fault.gpus], "ranks": ranks,
        "onset_ns": start_ns + int(fault.onset_s * 1e9), "end_ns": start_ns + int(end_s * 1e9),
        "onset_step": first, "last_step": last, "severity": round(fault.severity, 6),
        "lost_s_per_step": round(lost_s, 6), "lost_share": 1.0 if stops else round(share, 6), "stops": bool(stops),
        "victims": _victims(run, replay, ranks, lost_s),
    }  # fmt: skip


def _requests_lost(fault: Injection, made: Serving, without: Serving) -> tuple[float, float]:
    """Return the seconds that a request of the struck replicas takes longer, and that as a share of its time."""
    struck = np.isin(made.first, fault.gpus)
    begin = np.arange(made.windows) * WINDOW_S
    there = (begin + WINDOW_S > fault.onset_s) & (begin < fault.end_s)
    took, usual = (_request_s(one, there, struck) for one in (made, without))
    lost = took - usual
    return (lost, lost / took) if lost > 1e-9 else (0.0, 0.0)


def _request_s(one: Serving, there: Array, struck: Array) -> float:
    count = one.finished[np.ix_(there, struck)]
    return float((one.total_s[np.ix_(there, struck)] * count).sum() / max(count.sum(), 1.0))


def _subject(world: World, fault: Injection) -> str:
    fleet, gpu = world.fleet, fault.gpu
    node = int(fleet.node_of(gpu))
    job = fleet.jobs[fault.job].plan.name if fault.job >= 0 else ""
    nodes = np.unique(fleet.node_of(fault.gpus))
    kind = fault.kind
    if kind == "gpu" and len(fault.gpus) > 1:
        kind = "node" if len(nodes) == 1 else "rack"
    return {
        "gpu": fleet.gpu_name(gpu), "nic": fleet.nic_name(gpu), "rail": fleet.nic_name(gpu), "node": fleet.nodes[node],
        "replica": f"{fleet.nodes[node]}/{job}-{_replica(fleet, fault)}",
        "rack": fleet.racks[node], "job": job, "rank": f"{job}/rank{fleet.rank_of(gpu)}",
    }[kind]  # fmt: skip


def _replica(fleet: Fleet, fault: Injection) -> int:
    """Return the number of the struck replica among those of its job."""
    job = fleet.jobs[max(fault.job, 0)]
    return (fault.gpu - job.first_gpu) // job.plan.tp


def _steps(fault: Injection, run: Run | None) -> tuple[int, int]:
    """Return the first and last step that the fault could touch, -1 for none."""
    if run is None or not run.steps:
        return -1, -1
    touched = np.flatnonzero((run.start_s + run.seconds > fault.onset_s) & (run.start_s < fault.end_s))
    return (int(touched[0]), int(touched[-1])) if len(touched) else (-1, -1)


def _lost(run: Run | None, replay: Run | None, first: int, last: int, *, by_clock: bool) -> tuple[float, float]:
    """Return the mean seconds that each touched step lost, and that as a share of it.

    `by_clock` counts the time between steps too, where a fault costs what is between them.
    """
    if run is None or replay is None or first < 0:
        return 0.0, 0.0
    end = min(last + 1, run.steps, replay.steps)
    if end <= first:
        return 0.0, 0.0
    took, usual = (
        float(one.start_s[end - 1] + one.seconds[end - 1] - one.start_s[first]) / (end - first) if by_clock
        else float(one.seconds[first:end].mean()) for one in (run, replay)
    )  # fmt: skip
    lost = took - usual
    return (lost, lost / took) if abs(lost) > 1e-9 else (0.0, 0.0)


def _victims(run: Run | None, replay: Run | None, ranks: list[int], lost_s: float) -> list[int]:
    """Return the ranks that wait longer because of the fault."""
    if run is None or replay is None or not run.steps or not replay.steps:
        return []
    if run.stop is not None and replay.stop != run.stop:
        return [rank for rank in range(run.layout.plan.ranks) if rank not in ranks]
    if lost_s <= 0:
        return []
    more = _waiting(run) / run.steps - _waiting(replay) / replay.steps
    return [int(rank) for rank in np.flatnonzero(more > VICTIM_SHARE * lost_s * 0.5) if rank not in ranks]


def _waiting(run: Run) -> Array:
    """Return all seconds of waiting of each rank [ranks]."""
    return np.asarray(sum(run.sums[f"wait_{group}"].sum(axis=0) for group in run.layout.groups))
