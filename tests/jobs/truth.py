"""The label of a job and its card: what was injected, what a right answer says, what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scenario import (
    BACKWARD_MS,
    FORWARD_MS,
    LAYERS,
    SEQUENCE_TOKENS,
    STAGE_BACKWARD_MS,
    STAGE_FORWARD_MS,
    WATCHDOG_S,
    Scenario,
)

CONDITIONS = {
    "compute-slow": ("gpu-slow-silent", ["coll-late-rank"]),
    "compute-twice": ("gpu-slow-silent", ["coll-late-rank"]),
    "dataloader-stall": ("data-loader-stall", ["coll-late-rank"]),
    "seqlen-rotating": ("data-sequence-skew", []),
    "gc-pause": ("host-gc-pause", []),
    "slow-link": ("coll-slow-endpoint", ["coll-slow-link", "comm-exposed"]),
    "pipeline-imbalance": ("pp-stage-imbalance", ["pp-bubble-stall"]),
    "hang": ("coll-missing-rank", ["host-process-stuck"]),
}
NAMELESS = ("seqlen-rotating", "gc-pause")  # the suffering rank changes: naming one is wrong


@dataclass(frozen=True)
class Machine:
    """What the machine did to a job: its load before and after, and for how long (ms) each rank had to wait for a core
    in each step but the first."""

    load: tuple[float, float]
    kept_waiting_ms: dict[int, list[float]]

    def mean_ms(self, job: Scenario) -> dict[int, float]:
        """Return how long each rank waited per step, of the profiled ones if there are any."""
        chosen = slice(job.first_profiled - 1, job.last_profiled)
        parts = {rank: waits[chosen] or waits for rank, waits in self.kept_waiting_ms.items()}
        return {rank: round(statistics.fmean(waits), 3) if waits else 0.0 for rank, waits in parts.items()}


def label(
    job: Scenario, name: str, step_ms: float | None, controls: Sequence[float], machine: Machine
) -> dict[str, object]:
    """Return the label; `controls` are median steps of healthy jobs run just before and after, in milliseconds."""
    condition, also = CONDITIONS.get(job.kind, (None, []))
    named = [job.culprit] if condition and job.kind not in NAMELESS else []
    tolerated = ["comm-exposed", "pp-bubble-stall"] if job.is_pipeline() else ["comm-exposed"]
    seen: dict[str, object] = {"step_ms_median": step_ms}
    if controls and step_ms is not None:
        healthy = statistics.mean(controls)
        seen |= {
            "step_ms_median_healthy_same_size": round(healthy, 1),
            "step_ms_median_healthy_before_after": [round(one, 1) for one in controls],
            "cost_ms_per_step": round(step_ms - healthy, 1),
        }
    return {
        "scenario": name, "kind": job.kind, "condition": condition, "also_right": also, "tolerated": tolerated,
        "culprit_ranks": named, "from_step": job.from_step if condition else None,
        "to_step": job.steps - 1 if condition and job.kind != "hang" else None,
        "injected": injected(job),
        "expected_victim_ranks": [rank for rank in range(job.world) if condition and rank not in named],
        "profiled_steps": [job.first_profiled, job.last_profiled],
        "notes": "", "seen": seen, "host_load_1min_before_after": [round(one, 1) for one in machine.load],
        "kept_waiting_ms_per_step": machine.mean_ms(job), "kept_waiting_ms": machine.kept_waiting_ms,
    }  # fmt: skip


def injected(job: Scenario) -> dict[str, object]:
    """Return what was done to the job, in numbers."""
    device_ms = LAYERS * (FORWARD_MS + BACKWARD_MS)
    if job.kind == "compute-slow":
        return {"device_time_ratio": job.amount, "extra_ms_per_step_expected": round((job.amount - 1) * device_ms, 1)}
    if job.kind == "dataloader-stall":
        return {"extra_read_ms_per_batch": job.amount, "spread": "+-15 %"}
    if job.kind == "seqlen-rotating":
        ranks = {str(step): next(r for r in range(job.world) if job.is_hit(r, step))
                 for step in range(job.from_step, job.steps)}  # fmt: skip
        return {"long_sequence_ratio": job.amount, "one_rank_per_step": ranks,
                "extra_ms_per_step_expected": round((job.amount - 1) * device_ms, 1)}  # fmt: skip
    if job.kind == "gc-pause":
        return {"pause_ms": job.amount, "one_rank_per_step": True}
    if job.kind == "slow-link":
        return {"link_rate_of_culprit_mbit": job.amount, "link_rate_of_others_mbit": 2000}
    if job.kind == "pipeline-imbalance":
        usual = STAGE_FORWARD_MS + STAGE_BACKWARD_MS
        rounds = job.microbatches + job.world - 1
        whole = (job.microbatches - 1) * usual * job.amount + (job.world - 1 + job.amount) * usual
        even = rounds * usual * (job.world - 1 + job.amount) / job.world
        return {"device_time_ratio_of_stage": job.amount, "stage": job.culprit,
                "device_ms_even_split_over_actual": round(even / whole, 3),
                "ms_per_step_saved_by_even_split": round(whole - even, 1)}  # fmt: skip
    if job.kind == "hang":
        return {"how": "sleeps in forward before a tensor-parallel all-reduce", "layer": 1, "watchdog_s": WATCHDOG_S}
    return {}


def job_card(job: Scenario, started_ns: int) -> dict[str, object]:
    """Return job.json: what a user knows of a job, without what was injected."""
    pipeline, hybrid = job.is_pipeline(), job.kind == "hang"
    names = {"pipeline": "transformer-1f1b", "hybrid": "mlp-tp-ddp", "plain": "transformer-ddp"}
    return {
        "job": names["pipeline" if pipeline else "hybrid" if hybrid else "plain"],
        "framework": "torch 2.13.0+cpu", "backend": "gloo",
        "world_size": job.world, "ranks_per_node": job.ranks_per_node,
        "ranks": [{"rank": rank, "host": job.host(rank), "local_rank": rank % job.ranks_per_node}
                  for rank in range(job.world)],
        "parallelism": {"dp": 1 if pipeline else job.world // 2 if hybrid else job.world, "tp": 2 if hybrid else 1,
                        "pp": job.world if pipeline else 1, "ep": 1},
        "experts": None, "microbatches": job.microbatches if pipeline else None,
        "batch_per_rank": job.samples or (job.microbatches if pipeline else 2), "seq_len": SEQUENCE_TOKENS,
        "steps_planned": job.steps, "dataloader_workers": job.loader_workers,
        "profiler": {"wait": job.wait, "warmup": job.warmup, "active": job.active, "record_shapes": True,
                     "with_stack": job.with_stack},
        "network": "one network namespace per rank, bridged" if job.kind == "slow-link" else "loopback",
        "started_ns": started_ns,
    }  # fmt: skip
