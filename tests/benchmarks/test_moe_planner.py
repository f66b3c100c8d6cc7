"""Placements of experts beside EPLB's, on the same loads in the same run: balance, copies and CPU time.

SKEWSCOPE_EPLB names a checkout of deepseek-ai/EPLB; without it only our own figures are measured. Balance is the mean
over layers of mean / hottest GPU. A plan is made from one window of 16 steps and scored on it and on the next.
"""

import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skewscope.moe import robust
from skewscope.moe.bounds import bounds
from skewscope.moe.placement import Placement, balancedness, start_layout
from skewscope.moe.planner import plan

from ._moe_loads import MODELS, made, unlike

EPLB = os.environ.get("SKEWSCOPE_EPLB")
SYNTHETIC = Path(__file__).parents[2] / "../shared/data/moe-synth"
WINDOW = 16
NOISE = 0.001
FLAT = (1, 1)

pytestmark = pytest.mark.benchmark
needs_eplb = pytest.mark.skipif(not EPLB, reason="SKEWSCOPE_EPLB names no checkout of EPLB")
needs_synthetic = pytest.mark.skipif(not SYNTHETIC.is_dir(), reason="the synthetic loads are not here")


def eplb(counts: np.ndarray, slots: int, gpus: int, nodes: int, groups: int) -> Placement:
    import torch

    if EPLB not in sys.path:
        sys.path.insert(0, str(EPLB))
        torch.set_num_threads(1)
    from eplb import rebalance_experts

    found = rebalance_experts(torch.from_numpy(np.ascontiguousarray(counts)), slots, groups, nodes, gpus)[0]
    return Placement(found.numpy(), gpus, counts.shape[1], nodes)


def peer(steps: np.ndarray, *sizes: int) -> Placement:
    return eplb(steps.sum(0), *sizes)


def of_sum(steps: np.ndarray, slots: int, gpus: int, nodes: int, groups: int) -> Placement:
    return plan(steps.sum(0), slots=slots, gpus=gpus, nodes=nodes, groups=groups).placement


def of_steps(steps: np.ndarray, slots: int, gpus: int, nodes: int, groups: int) -> Placement:
    return plan(steps, slots=slots, gpus=gpus, nodes=nodes, groups=groups).placement


PLANNERS: dict[str, Callable[..., Placement]] = {"EPLB": peer, "ours, sum": of_sum, "ours, steps": of_steps}


def balance(placement: Placement, steps: np.ndarray) -> np.ndarray:
    return balancedness(placement.gpu_loads(steps.sum(0)))


def scored(planner: Callable[..., Placement], series: list[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray:
    """Return same, worst same, next, single step of next and CPU seconds, means over windows and series."""
    found = []
    for counts in series:
        steps = min(WINDOW, len(counts) // 2)
        windows = counts[: len(counts) // steps * steps].reshape(-1, steps, *counts.shape[1:])
        for window, later in zip(windows[:-1], windows[1:], strict=True):
            start = time.process_time()
            placement = planner(window, *sizes)
            cpu_s = time.process_time() - start
            same = balance(placement, window)
            found.append((same.mean(), same.min(), balance(placement, later).mean(),
                          balancedness(placement.gpu_loads(later)).mean(), cpu_s))  # fmt: skip
    return np.mean(found, axis=0)


def synthetic(name: str) -> list[np.ndarray]:
    if not (SYNTHETIC / f"{name}.npz").exists():
        pytest.skip("the synthetic loads are not here")
    with np.load(SYNTHETIC / f"{name}.npz", allow_pickle=False) as file:
        if "counts" in file:
            return [file["counts"].astype(np.int64)]
        trace = file["trace"]
    step = np.array_split(trace, 2 * WINDOW)
    return [np.stack([[np.bincount(layer.ravel(), minlength=8) for layer in one.swapaxes(0, 1)] for one in step])]


def generated(model: str, profile: str) -> list[np.ndarray]:
    return [made(model, profile, seed=seed) for seed in (0, 1)]


ROWS = [
    *(("dsv3_r1-like", slots, gpus, nodes, groups) for slots, gpus, nodes, groups in (
        (256, 32, *FLAT), (288, 32, *FLAT), (288, 32, 4, 8), (288, 32, 8, 8), (320, 64, 8, 8), (320, 64, *FLAT),
        (288, 72, *FLAT), (288, 96, *FLAT), (288, 144, *FLAT), (320, 320, *FLAT))),
    *((f"dsv3_{name}", 288, 32, *FLAT) for name in ("burst", "shift", "uniform")),
    *(("qwen3-235b_mild", slots, gpus, *FLAT) for slots, gpus in ((128, 8), (128, 16), (144, 16), (160, 32))),
    *(("mixtral_trace", slots, gpus, *FLAT) for slots, gpus in ((8, 4), (12, 4), (16, 8))),
    *((f"DeepSeek-V3 {name}", 288, 32, *FLAT) for name in ("r1-like", "mild", "heavy", "zipf", "burst", "shift")),
    ("DeepSeek-V3 mild", 256, 32, *FLAT), ("DeepSeek-V3 mild", 288, 32, 8, 8), ("DeepSeek-V3 r1-like", 288, 32, 8, 8),
    ("DeepSeek-V3 r1-like", 288, 72, *FLAT), ("DeepSeek-V3 r1-like", 288, 144, *FLAT),
    ("Qwen3-235B r1-like", 144, 16, *FLAT), ("Qwen3-235B r1-like", 160, 32, *FLAT),
    *(("Kimi-K2 r1-like", slots, gpus, *FLAT) for slots, gpus in ((384, 32), (416, 32), (448, 64))),
    *((f"Mixtral {name}", slots, gpus, *FLAT) for name in ("mild", "aux-loss")
      for slots, gpus in ((8, 4), (8, 8), (12, 4), (16, 8))),
]  # fmt: skip


@needs_eplb
@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(map(str, row)).replace(" 1 1", ""))
def test_never_below_eplb(row: tuple, capsys):
    name, slots, gpus, nodes, groups = row
    series = generated(*name.split(" ")) if name.split(" ")[0] in MODELS else synthetic(name)
    first = series[0][:WINDOW].sum(0)
    limit = bounds(first, slots, gpus, nodes, groups if nodes > 1 else 0)
    start = balancedness(start_layout(first.shape[1], slots, gpus, len(first)).gpu_loads(first)).mean()
    found = {planner: scored(PLANNERS[planner], series, (slots, gpus, nodes, groups)) for planner in PLANNERS}
    with capsys.disabled():
        where = f", {nodes} nodes" if nodes > 1 else ""
        print(f"\n{name} {slots}/{gpus}{where}: start {start:.3f}, bound {limit.balance.mean():.4f} "
              f"({max(set(limit.binding), key=limit.binding.count)})")  # fmt: skip
        for planner, (same, worst, later, step, cpu_s) in found.items():
            print(f"  {planner:11} same {same:.4f} (worst {worst:.4f}) next {later:.4f} step {step:.4f} "
                  f"CPU {cpu_s:.3f} s, EPLB's / it {found['EPLB'][-1] / cpu_s:.1f}")  # fmt: skip
    theirs, ours = found["EPLB"], found["ours, steps"]
    assert ours[0] >= theirs[0] - NOISE and ours[2] >= theirs[2] - NOISE
    assert found["ours, sum"][0] >= theirs[0] - NOISE


@needs_synthetic
@pytest.mark.parametrize(
    ("slots", "gpus", "nodes", "groups", "mean", "worst"),
    [(288, 32, *FLAT, 0.9995, 0.998), (288, 72, *FLAT, 0.994, 0.98), (288, 144, *FLAT, 0.7490, 0.5),
     (288, 32, 8, 8, 0.998, 0.99), (320, 320, *FLAT, 1 - 1e-9, 1 - 1e-9)],
)  # fmt: skip
def test_balance_on_the_window_planned_for(slots: int, gpus: int, nodes: int, groups: int, mean: float, worst: float,
                                           capsys):  # fmt: skip
    """Against the bound where groups or one slot per GPU bind.

    Of 288/144 the optimum is known: an integer program over replica counts (pairs are exact for given counts) puts it
    between .7526 and .7531 on this window, so .760 cannot be reached; the bound printed is .7605. A plan of the steps
    leaves out the last thousandths, which the next window would not keep.
    """
    steps = synthetic("dsv3_r1-like")[0][:WINDOW]
    results = {"sum": plan(steps.sum(0), slots=slots, gpus=gpus, nodes=nodes, groups=groups),
               "steps": plan(steps, slots=slots, gpus=gpus, nodes=nodes, groups=groups)}  # fmt: skip
    for how, made_ in results.items():
        unit = made_.bound if nodes > 1 or slots == gpus else np.ones(1)
        with capsys.disabled():
            print(f"\n{slots}/{gpus} of the {how}: {made_.after.mean():.4f}, worst {made_.after.min():.4f}, "
                  f"bound {made_.bound.mean():.4f}")  # fmt: skip
        assert (made_.after / unit).mean() >= mean and (made_.after / unit).min() >= worst


@pytest.mark.parametrize(("profile", "slots", "gpus", "most"), [("mild", 12, 4, 1.012), ("mild", 16, 8, 1.04),
                                                                ("aux-loss", 12, 4, 1.006)])  # fmt: skip
def test_few_experts_are_placed_exactly(profile: str, slots: int, gpus: int, most: float, capsys):
    found, best = [], []
    for counts in generated("Mixtral", profile):
        for window in counts.reshape(-1, WINDOW, *counts.shape[1:]):
            start = time.process_time()
            result = plan(window.sum(0), slots=slots, gpus=gpus)
            found.append((1 / result.after).mean())
            best.append((result.optimal.mean(), time.process_time() - start))
    proven, cpu_s = np.mean(best, axis=0)
    with capsys.disabled():
        print(f"\nMixtral {profile} {slots}/{gpus}: max/mean {np.mean(found):.4f}, {100 * proven:.0f} % of layers "
              f"proven, {cpu_s / 32 * 1000:.1f} ms CPU a layer")  # fmt: skip
    assert np.mean(found) <= most


@needs_eplb
@pytest.mark.parametrize("profile", ["dsv3_r1-like", "r1-like", "burst", "heavy"])
def test_few_copies(profile: str, capsys):
    """Replanned window by window from the running plan, EPLB's of the first; 15 layers, the next window counts."""
    if profile == "dsv3_r1-like":
        whole, steps = synthetic(profile), WINDOW // 2
    else:
        whole, steps = [made("DeepSeek-V3", profile, steps=7 * WINDOW, seed=seed) for seed in (0, 1, 2)], WINDOW
    series = [counts[:, ::4] for counts in whole]
    found = {most: np.mean([replanned(counts, most, steps) for counts in series], axis=0) for most in (0, 2, 8, 16, 32)}
    full = np.mean([replanned(counts, None, steps) for counts in series], axis=0)
    with capsys.disabled():
        print(f"\n{profile} 288/32, windows of {steps} steps: EPLB every window {full[0]:.3f} / {full[1]:.4f}, "
              f"{full[2]:.0f} copies")  # fmt: skip
        for most, (same, later, copies) in found.items():
            print(f"  at most {most:2} copies per layer: same {same:.3f} next {later:.4f}, {copies:.1f} copies, "
                  f"{100 * (later - found[0][1]) / (full[1] - found[0][1]):.0f} % of EPLB's gain")  # fmt: skip
    assert found[16][1] - found[0][1] >= 0.9 * (full[1] - found[0][1])
    assert found[16][2] <= 16 and (profile != "dsv3_r1-like" or found[16][1] >= 0.868)


def replanned(counts: np.ndarray, most: int | None, window_steps: int) -> tuple[float, float, float]:
    """Return same and next balance and copies per layer, means over windows; EPLB's whole plan where `most` is None."""
    windows = counts.reshape(-1, window_steps, *counts.shape[1:])
    running, found = eplb(windows[0].sum(0), 288, 32, *FLAT), []
    for window, later in zip(windows[1:-1], windows[2:], strict=True):
        if most is None:
            now = eplb(window.sum(0), 288, 32, *FLAT)
        else:
            now = plan(window, slots=288, gpus=32, current=running, max_moves=most).placement
        copies = (now.slots != running.slots).sum(1).mean()
        found.append((balance(now, window).mean(), balance(now, later).mean(), copies))
        running = now
    same, after, copies = np.mean(found, axis=0)
    return float(same), float(after), float(copies)


@needs_eplb
def test_one_plan_for_unlike_workloads(capsys):
    """72 slots on 12 GPUs, four workloads; plans of the first half are scored on the second."""
    found = []
    for seed in range(4):
        planned, later = unlike(seed)
        pooled = eplb(planned.sum(0), 72, 12, *FLAT)
        own = [eplb(one, 72, 12, *FLAT) for one in planned]
        made_ = plan(planned[0], slots=72, gpus=12, workloads=list(planned[1:])).placement
        found.append([np.mean([balancedness(pooled.gpu_loads(one)).mean() for one in later]),
                      np.mean([balancedness(made_.gpu_loads(one)).mean() for one in later]),
                      np.mean([balancedness(mine.gpu_loads(one)).mean() for mine, one in zip(own, later, strict=True)]),
                      np.mean([balancedness(mine.gpu_loads(one)).mean() for mine, one in
                               zip(own, later[[1, 2, 3, 0]], strict=True)])])  # fmt: skip
    pooled_, ours, own_, other = np.mean(found, axis=0)
    with capsys.disabled():
        print(f"\nfour workloads, 72/12, unseen halves: EPLB on pooled counts {pooled_:.3f}, our one plan {ours:.3f}; "
              f"EPLB with a plan for each {own_:.3f}, with another's plan {other:.3f}")  # fmt: skip
    assert ours >= 0.88 and pooled_ < 0.68


@needs_synthetic
@pytest.mark.parametrize(("slots", "gpus", "budget_s"), [(288, 32, 0.08), (288, 72, 0.3), (288, 144, 1.0)])
def test_cpu_time(slots: int, gpus: int, budget_s: float, capsys):
    steps = synthetic("dsv3_r1-like")[0][:WINDOW]
    ours = [least_cpu_s(lambda load=load: plan(load, slots=slots, gpus=gpus)) for load in (steps.sum(0), steps)]
    theirs = least_cpu_s(lambda: eplb(steps.sum(0), slots, gpus, *FLAT), tries=2) if EPLB else float("nan")
    with capsys.disabled():
        print(f"\n58 layers {slots}/{gpus}: {ours[0]:.3f} CPU s of the sum, {ours[1]:.3f} of the steps, "
              f"EPLB {theirs:.2f} ({theirs / ours[0]:.0f} and {theirs / ours[1]:.0f} times)")  # fmt: skip
    assert max(ours) < budget_s


def least_cpu_s(work: Callable[[], object], tries: int = 5) -> float:
    found = []
    for _ in range(tries):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def test_growth_with_experts(capsys):
    """58 layers, an eighth of the slots redundant, 9 slots per GPU."""
    rng = np.random.default_rng(0)
    found = {}
    for experts in (256, 512, 1024, 2048):
        counts = rng.multinomial(1 << 22, np.full(experts, 1 / experts), size=(8, 58))
        counts = (counts * np.exp(rng.standard_normal((58, experts)))).astype(np.int64)
        sizes = {"slots": experts * 9 // 8, "gpus": experts // 8}
        cpu_s = least_cpu_s(lambda counts=counts, sizes=sizes: plan(counts, **sizes), tries=2)
        tracemalloc.start()
        after = plan(counts, **sizes).after.mean()
        found[experts] = (cpu_s, tracemalloc.get_traced_memory()[1] / (1 << 20), after)
        tracemalloc.stop()
    with capsys.disabled():
        for experts, (cpu_s, mib, after) in found.items():
            print(f"\n{experts} experts: {cpu_s:.3f} CPU s, {mib:.0f} MiB at most, balance {after:.4f}", end="")
    assert found[2048][0] < 64 * found[256][0] and found[2048][2] > 0.99


def test_a_robust_plan_is_found_in_no_time(capsys):
    planned = robust.scaled(unlike(0)[0], 12)
    cpu_s = least_cpu_s(lambda: robust.robust(planned, 72, 12, np.full(4, 0.25)))
    with capsys.disabled():
        print(f"\nrobust plan of 24 layers, 72/12, four workloads: {1000 * cpu_s / 24:.1f} ms CPU a layer")
    assert cpu_s / 24 < 0.03
