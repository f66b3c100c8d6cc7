"""How often to sample telemetry: often enough to find faults in time, no more often than that pays.

Weighs the work that is lost while a fault is not yet found (faults x GPUs held up x delay) against the price of a
sample, and says how late faults are then found, on the average and at most, and which short events are missed.

How it works: a fault is found when so many samples in a row have crossed a threshold (--looks; or worked out from the
noise of a healthy signal, --signal, and the shift to be seen, --effect). It is then (looks - 1/2) intervals late on the
average. Samples closer than twice the correlation time of the noise tell nothing new: sampling faster does not find
anything sooner. The optimum is closed: sqrt(price of a sample / (faults x GPUs x (looks - 1/2))).

What to know: a counter loses nothing between samples, a gauge does. An event shorter than the interval is seen with
chance (event + window) / interval. Prices are in GPU-seconds: --price says how many one node's sample costs, with
what reading stalls the job for.

Examples:
  skewscope plan telemetry-rate --nodes 2048 --faults 3.8 --lost-gpus 512
  skewscope plan telemetry-rate --nodes 256 --now 15 --looks 3 --event 2 --html plan.html
  skewscope plan telemetry-rate --nodes 256 --signal healthy.csv --effect 0.1 --most-delay 120

Worked example: 100 nodes, 8.64 faults a day that hold up 10 GPUs each, .001 GPU-seconds per sample of a node. At 14.1 s
undetected faults and sampling cost the same.

>>> made = planned(Wanted(nodes=100, faults_per_s=1e-4, lost_gpus=10.0, price_gpu_s=0.001, looks=1, now_s=60))
>>> round(made.plan["interval_s"], 2), round(made.proposed["late_gpus"], 5), round(made.proposed["sampling_gpus"], 5)
(14.14, 0.00707, 0.00707)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import sampling
from ..optimize.sampling import Costs
from ..plans import Picture, Plan
from . import _rounds, _tables

FAULTS = 3.8  # interruptions per 1,000 node-days of a published run of 16,384 GPUs
PRICE_GPU_S, LOST_GPUS, NOW_S, SERIES, SAMPLE_BYTES = 0.001, 512.0, 15.0, 500, 1.5
SHORTEST_S, LONGEST_S = 0.1, 3600.0
FALSE_ALARM_S = 1000 * sampling.DAY_S  # one false alarm of a node in 1,000 days
LEAST_GAIN_RATIO = 0.02
POINTS = 80


class TelemetryRate:
    """`skewscope plan telemetry-rate`."""

    name: ClassVar[str] = "telemetry-rate"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--nodes", type=_rounds.whole, required=True, metavar="N", help="nodes that are sampled")
        add("--faults", type=_tables.positive, default=FAULTS, metavar="R",
            help="faults per 1,000 days of one node (default: %(default)g)")  # fmt: skip
        add("--lost-gpus", type=_tables.positive, default=LOST_GPUS, metavar="N",
            help="GPUs' worth of work lost while a fault is not found (default: %(default)g)")  # fmt: skip
        add("--price", type=_tables.positive, default=PRICE_GPU_S, metavar="S",
            help="GPU-seconds that one sample of one node costs (default: %(default)g)")  # fmt: skip
        add("--now", type=_tables.positive, default=NOW_S, metavar="S", help="interval today (default: %(default)g)")
        add("--looks", type=_rounds.whole, metavar="K", help="samples in a row that raise an alarm (default: 3)")
        add("--signal", metavar="FILE", help="a healthy signal: columns t_s and value; tells looks with --effect")
        add("--effect", type=_tables.positive, metavar="D", help="shift of the signal that should be found")
        add("--latency", type=_rounds.seconds, default=0.0, metavar="S", help="seconds of scrape and rule on top")
        add("--event", type=_rounds.seconds, metavar="S", help="a short event: how often is it seen?")
        add("--window", type=_rounds.seconds, default=0.0, metavar="S", help="seconds that one sample averages")
        add("--most-delay", type=_tables.positive, metavar="S", help="a fault must be found within this time")
        add("--series", type=_rounds.whole, default=SERIES, metavar="N", help="series of a node (default: %(default)s)")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        looks, memory_s = args.looks or 3, 0.0
        if args.signal:
            if args.effect is None:
                raise UsageError("--effect D is missing: which shift of the signal should be found?")
            looks, memory_s = _told(Path(args.signal), args.effect, args.looks)
        return planned(Wanted(
            args.nodes, args.faults * args.nodes / 1000 / sampling.DAY_S, args.lost_gpus, args.price, looks, args.now,
            args.latency, memory_s, args.event, args.window, args.most_delay, args.series,
        ))  # fmt: skip


def _told(path: Path, effect: float, looks: int | None) -> tuple[int, float]:
    """Return (samples that find the shift, correlation time in s) of a healthy signal."""
    table = _tables.read(path)
    if not {"t_s", "value"} <= set(table.columns):
        raise UsageError(f"{path}: wants columns t_s and value; has {', '.join(map(str, table.columns))}")
    time = np.sort(_tables.column(table, "t_s", path))
    every = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    if every <= 0:
        raise UsageError(f"{path}: column t_s does not go on; wants the times of the samples in seconds")
    seen = sampling.noise(table.sort_values("t_s")["value"].to_numpy(), every)
    per_decision = min(0.1, every / FALSE_ALARM_S)
    return looks or sampling.looks(effect, seen.spread, per_decision), seen.correlation_s


@dataclass(frozen=True)
class Wanted:
    """A fleet, all times in seconds; `faults_per_s` of the whole fleet, `price_gpu_s` of one sample of one node."""

    nodes: int
    faults_per_s: float
    lost_gpus: float = LOST_GPUS
    price_gpu_s: float = PRICE_GPU_S
    looks: int = 3
    now_s: float = NOW_S
    latency_s: float = 0.0
    memory_s: float = 0.0
    event_s: float | None = None
    window_s: float = 0.0
    most_delay_s: float | None = None
    series: int = SERIES

    @property
    def costs(self) -> Costs:
        """Return the prices."""
        return Costs(self.faults_per_s, self.lost_gpus, self.price_gpu_s * self.nodes)


def planned(wanted: Wanted) -> Plan:
    """Return the plan for a fleet; not feasible where no interval finds faults within the time asked for."""
    free_s = sampling.best_s(wanted.costs, wanted.looks, wanted.memory_s)
    best_s = float(np.clip(free_s, SHORTEST_S, LONGEST_S))
    allowed_s = _longest_allowed_s(wanted)
    feasible = allowed_s >= SHORTEST_S
    best_s = min(best_s, max(allowed_s, SHORTEST_S))
    now = _total(wanted, wanted.now_s)
    in_time = wanted.most_delay_s is None or wanted.now_s <= allowed_s
    keeps = in_time and now - _total(wanted, best_s) < LEAST_GAIN_RATIO * now
    chosen_s = wanted.now_s if keeps else best_s
    bound = _total(wanted, free_s) if np.isfinite(free_s) else wanted.faults_per_s * wanted.lost_gpus
    return Plan(
        name="telemetry-rate",
        inputs={"nodes": wanted.nodes, "faults_per_day": wanted.faults_per_s * sampling.DAY_S,
                "lost_gpus": wanted.lost_gpus, "price_gpu_s": wanted.price_gpu_s, "looks": wanted.looks,
                "latency_s": wanted.latency_s, "correlation_s": wanted.memory_s},
        objective="total_gpus", current=_metrics(wanted, wanted.now_s), proposed=_metrics(wanted, chosen_s),
        verdict=_verdict(wanted, chosen_s, keeps, feasible),
        plan={"interval_s": chosen_s, "best_unlimited_s": free_s, "longest_allowed_s": allowed_s,
              "no_use_below_s": 2 * wanted.memory_s, "looks": wanted.looks},
        lower_bound=bound, gap=max(0.0, _total(wanted, chosen_s) / bound - 1) if bound > 0 else 0.0,
        optimal=_total(wanted, chosen_s) <= bound * (1 + 1e-9), feasible=feasible,
        steps=list(_steps(wanted, chosen_s, keeps)), pictures=_pictures(wanted, chosen_s),
    )  # fmt: skip


def _longest_allowed_s(wanted: Wanted) -> float:
    """Return the longest interval that finds every fault within `most_delay_s`; 0 or less where none does."""
    if wanted.most_delay_s is None:
        return LONGEST_S
    left = wanted.most_delay_s - wanted.latency_s
    even = left / wanted.looks
    return even if even >= 2 * wanted.memory_s else left - (wanted.looks - 1) * 2 * wanted.memory_s


def _total(wanted: Wanted, every_s: float) -> float:
    return float(wanted.costs.total(every_s, wanted.looks, wanted.latency_s, wanted.memory_s))


def _metrics(wanted: Wanted, every_s: float) -> dict[str, Any]:
    late = float(sampling.delay_s(every_s, wanted.looks, wanted.latency_s, wanted.memory_s))
    made = {
        "interval_s": every_s, "mean_delay_s": late,
        "longest_delay_s": sampling.longest_delay_s(every_s, wanted.looks, wanted.latency_s, wanted.memory_s),
        "late_gpus": wanted.faults_per_s * wanted.lost_gpus * late,
        "sampling_gpus": wanted.costs.sample_gpu_s / every_s, "total_gpus": _total(wanted, every_s),
        "stored_bytes_per_day": sampling.stored_bytes_per_day(wanted.nodes, wanted.series, every_s, SAMPLE_BYTES),
    }  # fmt: skip
    if wanted.event_s is not None:
        made["event_seen_ratio"] = sampling.seen_ratio(wanted.event_s, every_s, wanted.window_s)
    return made


def _verdict(wanted: Wanted, chosen_s: float, keeps: bool, feasible: bool) -> str:
    late = float(sampling.delay_s(chosen_s, wanted.looks, wanted.latency_s, wanted.memory_s))
    if not feasible:
        return (f"No interval finds a fault within {wanted.most_delay_s:g} s: {wanted.looks} samples that tell "
                "anything new last longer. Ask for a larger shift, or average over less noise.")  # fmt: skip
    if keeps:
        return f"Keep sampling every {chosen_s:.3g} s: faults are found after {late:.3g} s on the average."
    return f"Sample every {chosen_s:.3g} s instead of {wanted.now_s:.3g} s: faults are found after {late:.3g} s."


def _steps(wanted: Wanted, chosen_s: float, keeps: bool) -> Iterator[str]:
    if not keeps:
        yield f"set the scrape interval to {chosen_s:.3g} s, and the alarm to {wanted.looks} samples in a row"
    if chosen_s < 2 * wanted.memory_s:
        yield (f"leave {2 * wanted.memory_s:.3g} s between the samples that an alarm counts: closer ones tell nothing "
               "new")  # fmt: skip
    if wanted.event_s is not None and sampling.seen_ratio(wanted.event_s, chosen_s, wanted.window_s) < 1:
        yield f"count events of {wanted.event_s:g} s with a counter on the node: a gauge misses some of them"


def _pictures(wanted: Wanted, chosen_s: float) -> Sequence[Picture]:
    grid = np.geomspace(SHORTEST_S, LONGEST_S, POINTS)
    delay = sampling.delay_s(grid, wanted.looks, wanted.latency_s, wanted.memory_s)
    late, cost = wanted.faults_per_s * wanted.lost_gpus * delay, wanted.costs.sample_gpu_s / grid
    parts = {"faults not yet found": late, "sampling": cost, "both": late + cost}
    lines = {name: (grid.tolist(), values.tolist()) for name, values in parts.items()}
    found = {"mean delay": (grid.tolist(), delay.tolist())}
    return (
        Picture("lines", "What an interval costs", f"{_total(wanted, chosen_s):.3g} GPUs at {chosen_s:.3g} s.",
                "interval, s", "GPUs' worth of work", lines),
        Picture("lines", "How late faults are found", f"{wanted.looks} samples in a row.", "interval, s", "delay, s",
                found),
    )  # fmt: skip
