"""Move layers between pipeline stages so that no stage keeps the others waiting.

Takes recordings (own compute of each stage comes out of the attribution) or a table with one row per layer. Says how
many layers each stage should hold, what the step's pipeline then lasts, how much of the bubble is structural (even
stages have it too) and how much comes from uneven stages, and what other schedules would give with the same stages.

How it works: dynamic programming over contiguous splits, exact, with devices of other speeds, embedding and head, and
memory as a hard limit. Every makespan is simulated pass by pass in the schedule's order, since closed formulas hold for
even stages only. Never a split that the simulation finds slower than today's.

What to know: r_ideal is the bubble over the work, r_total the bubble over the makespan. zb-v, hanayo, chimera, bitpipe
and zeropp are simulated in our order on their published placement (list scheduling, 1F1B's activations at most), not in
the authors' order; the published formula stands beside it. Chunks of a stage are taken as equal. Gradient exchange,
optimizer and ZeRO-3's gathers (zeropp: counted, --shards) are not in the makespan. A rank slower than its replicas is
no stage's fault: see `skewscope plan batch`.

Examples:
  skewscope plan pipeline traces/ --split 8,8,8,8 --html plan.html
  skewscope plan pipeline --layers layers.csv --stages 4 --microbatches 16 --last 0.012
  skewscope plan pipeline --layers layers.csv --stages 4 --microbatches 16 --speeds 1,1,0.5,1 --memory 80

Worked example: 32 equal layers of 1 s, .3 s of embedding and 2.5 s of head. The even split waits for the head.

>>> import numpy as np
>>> layers, extra = np.full(32, 1.0), np.array([1 / 3, 2 / 3])
>>> model = Measured(layers / 3, layers * 2 / 3, np.full(4, 8), np.ones(4), 16, 0.3 * extra, 2.5 * extra)
>>> made = planned(model)
>>> made.plan["layers"], round(made.current["slowest_stage_s"], 3), round(made.proposed["slowest_stage_s"], 3)
([8, 9, 9, 6], 10.5, 9.0)
>>> round(made.current["makespan_s"], 2), round(made.proposed["makespan_s"], 2), round(made.lower_bound, 2)
(192.3, 169.3, 165.0)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import bubbles, schedules
from ..optimize.bubbles import Shape
from ..optimize.partition import Memory, Problem, moved, partition
from ..optimize.pipeline_run import Run, Schedule, even
from ..optimize.skip import skipped
from ..plans import Plan
from ..stats.bootstrap import block_draws, block_rounds, interval
from . import _pipeline_input, _pipeline_pictures, _rounds, _tables
from ._pipeline_input import Measured

Array = np.ndarray[Any, Any]

GIB = 2.0**30
LEAST_GAIN_RATIO = 0.02
PROVED_RATIO = 1e-9
DRAWS = 100
SLOW_RATIO = 1.1
SKIP_SHARES = (0.1, 0.25)
OTHER_WEIGHTS = ("chimera", "bitpipe", "zeropp")  # held twice or sharded: a split's memory would be another
ORDERED = tuple(one.name for one in schedules.KINDS if one.name not in OTHER_WEIGHTS)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: as the flags say; `memory_bytes` [stages] or None."""

    schedule: str = "1f1b"
    weight_share: float = 0.5
    transfer_s: float = 0.0
    memory_bytes: Array | None = None
    shards: int = 8


class Pipeline:
    """`skewscope plan pipeline`."""

    name: ClassVar[str] = "pipeline"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _pipeline_input.arguments(parser)
        add = parser.add_argument
        add("--schedule", choices=ORDERED, default="1f1b", help="today's order of passes (default: %(default)s)")
        part = "part of the backward that is the weights' gradients (default: %(default)s)"
        add("--weight-share", type=_rounds.ratio, default=0.5, metavar="SHARE", help=part)
        add("--transfer", type=_rounds.seconds, default=0.0, metavar="S", help="seconds to hand a microbatch on")
        shards = "ranks over which zeropp would shard the weights (default: %(default)s)"
        add("--shards", type=_rounds.whole, default=8, metavar="Z", help=shards)
        add("--memory", metavar="GIB[,GIB...]", help="memory of each stage; wants kept_bytes and activation_bytes")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        model = _pipeline_input.read(args)
        memory = None if args.memory is None else _tables.numbers(args.memory, len(model.sizes), "--memory") * GIB
        return planned(model, Wanted(args.schedule, args.weight_share, args.transfer, memory, args.shards))


@dataclass(frozen=True)
class Played:
    """One split, simulated: `stage_s` [stages] per microbatch, `run` and the makespan of level stages."""

    sizes: Array
    stage_s: Array
    run: Run
    level_s: float

    @property
    def split(self) -> bubbles.Split:
        """Return the bubble by cause."""
        return bubbles.split(self.run.makespan_s, self.level_s, float(self.run.busy_s.mean()))


def planned(model: Measured, wanted: Wanted | None = None) -> Plan:
    """Return the plan for a measured pipeline; raises UsageError where nothing takes time, or no split fits."""
    wanted = wanted or Wanted()
    if not (model.forward_s.any() or model.backward_s.any()):
        raise UsageError("the layers take no time, forward or backward: there is nothing to even out")
    shape = _shape(model, model.sizes, wanted)
    order = _order(wanted.schedule, shape)
    memory = _memory(model, wanted, order)
    problem = Problem(model.forward_s + model.backward_s, model.speeds, float(model.first_s.sum()),
                      float(model.last_s.sum()), memory, _forward_share(model))  # fmt: skip
    plain, sharp = partition(problem), partition(problem, model.microbatches)
    before = _played(model, model.sizes, order, wanted)
    tried = [_played(model, sizes, order, wanted) for sizes in (plain.sizes, sharp.sizes)]
    fits = memory is None or bool((memory.used(_cuts(model.sizes)) <= memory.capacity).all())
    best = min(([before] if fits else []) + tried, key=lambda one: one.run.makespan_s)
    gain = 1 - best.run.makespan_s / before.run.makespan_s
    after = before if fits and gain < LEAST_GAIN_RATIO else best
    bound = sharp.bound_s if wanted.schedule == "1f1b" else float(plain.times_s.max()) * model.microbatches
    forward_s, backward_s = model.stages_s(after.sizes)
    level = _shape(model, after.sizes, wanted)
    rows = schedules.compare(forward_s, backward_s, level, wanted.transfer_s, model.speeds)
    gap = after.run.makespan_s / bound - 1
    skip = _skip(model, after, order, wanted)
    low, high = _saved(model, (before.sizes, after.sizes), order, wanted)
    said = (
        f" Between {low:.1%} and {high:.1%}, from recorded steps." if after is not before and np.isfinite(low) else ""
    )
    return Plan(
        name="pipeline",
        inputs={"stages": len(model.sizes), "layers": len(model.forward_s), "unit": model.unit,
                "microbatches": model.microbatches, "schedule": wanted.schedule, "weight_share": wanted.weight_share,
                "transfer_s": wanted.transfer_s, "shards": wanted.shards, "speeds": model.speeds,
                "first_s": model.first_s.sum(), "last_s": model.last_s.sum(), "memory_bytes": wanted.memory_bytes},
        objective="makespan_s", current=_metrics(before, model, before, memory),
        proposed=_metrics(after, model, before, memory), verdict=_verdict(before, after, fits, model) + said,
        plan={
            "layers": after.sizes.tolist(), "layers_now": model.sizes.tolist(), "stage_s": after.stage_s,
            "stage_now_s": before.stage_s, "moved": moved(model.sizes, after.sizes),
            "memory_bytes": None if memory is None else memory.used(_cuts(after.sizes)),
            "saved_share_low": low, "saved_share_high": high, "schedules": [asdict(one) for one in rows], "skip": skip,
        },
        lower_bound=bound, gap=max(gap, 0.0), optimal=gap <= PROVED_RATIO,
        steps=list(_steps(model, before, after, rows, wanted, memory, skip)), warnings=model.warnings,
        pictures=_pipeline_pictures.pictures(before, after, rows, model.unit),
    )  # fmt: skip


def _shape(model: Measured, sizes: Array, wanted: Wanted) -> Shape:
    forward_s, backward_s = model.stages_s(sizes)
    return Shape(len(sizes), model.microbatches, float(forward_s.mean()), float(backward_s.mean()),
                 wanted.weight_share, wanted.shards)  # fmt: skip


def _forward_share(model: Measured) -> float:
    forward = np.array([*model.forward_s, model.first_s[0], model.last_s[0]])
    whole = forward + np.array([*model.backward_s, model.first_s[1], model.last_s[1]])
    return float((forward[whole > 0] / whole[whole > 0]).max())


def _order(name: str, shape: Shape) -> Schedule:
    return schedules.order(name, shape)


def _cuts(sizes: Array) -> Array:
    return np.concatenate([[0], np.cumsum(sizes)])


def _memory(model: Measured, wanted: Wanted, order: Schedule) -> Memory | None:
    if wanted.memory_bytes is None:
        return None
    if model.kept_bytes is None or model.activation_bytes is None:
        raise UsageError("--memory wants to know what layers hold: columns kept_bytes (weights, gradients, optimizer "
                         "states) and activation_bytes (of one microbatch) in --layers FILE")  # fmt: skip
    return Memory(model.kept_bytes, model.activation_bytes, order.peaks(), wanted.memory_bytes)


def _played(model: Measured, sizes: Array, order: Schedule, wanted: Wanted) -> Played:
    forward_s, backward_s = model.stages_s(sizes)
    shape = _shape(model, sizes, wanted)
    ran, level = (
        schedules.simulate(order, forward, backward, shape, wanted.transfer_s)
        for forward, backward in ((forward_s, backward_s), (_level(forward_s), _level(backward_s)))
    )
    return Played(sizes, forward_s + backward_s, ran, level.makespan_s)


def _saved(model: Measured, sizes: tuple[Array, Array], order: Schedule, wanted: Wanted) -> tuple[float, float]:
    """Return the interval of the share that the new split saves, from recorded steps resampled; NaN without steps."""
    ratios = model.spread_ratio
    if ratios is None or not len(ratios):
        return float("nan"), float("nan")
    spans, shape = [], _shape(model, model.sizes, wanted)
    for draw in block_draws(len(ratios), block_rounds(len(ratios), 1.0), DRAWS):
        factor = ratios[draw].mean(axis=0)
        times = (model.stages_s(one) for one in sizes)
        runs = (schedules.simulate(order, forward * factor, backward * factor, shape, wanted.transfer_s)
                for forward, backward in times)  # fmt: skip
        spans.append([one.makespan_s for one in runs])
    now, then = np.array(spans).T
    return interval(1 - then / now)


def _level(seconds: Array) -> Array:
    return np.full(len(seconds), seconds.mean())


def _metrics(one: Played, model: Measured, before: Played, memory: Memory | None) -> dict[str, Any]:
    split = one.split
    found = {
        "makespan_s": one.run.makespan_s, "slowest_stage_s": float(one.stage_s.max()),
        "slowest_over_mean_ratio": float(one.stage_s.max() / one.stage_s.mean()), "bubble_s": one.run.bubble_s,
        "structural_bubble_s": split.structural_s, "imbalance_bubble_s": split.imbalance_s,
        "bubble_over_work_ratio": one.run.ideal_ratio, "bubble_over_makespan_ratio": one.run.total_ratio,
    }  # fmt: skip
    if np.isfinite(model.step_s):
        found["step_s"] = model.step_s + one.run.makespan_s - before.run.makespan_s
    if memory is not None:
        found["fullest_stage_ratio"] = float((memory.used(_cuts(one.sizes)) / memory.capacity).max())
    return found


def _verdict(before: Played, after: Played, fits: bool, model: Measured) -> str:
    now, then = before.run.makespan_s, after.run.makespan_s
    split = before.split
    share = (f"of the bubble of {before.run.bubble_s:.4g} s, {split.imbalance_s:.4g} s come from uneven stages and "
             f"{split.structural_s:.4g} s from the schedule")  # fmt: skip
    if after is before:
        return f"Leave the layers where they are: no split saves {LEAST_GAIN_RATIO:.0%}; {share}."
    number = moved(model.sizes, after.sizes)
    unit = "layers" if model.unit == "layers" else model.unit
    layers = "/".join(map(str, after.sizes))
    if not fits:
        return f"Today's split does not fit into memory: {layers} does, in {then:.4g} s (today's {now:.4g} s)."
    gain = f"the pipeline takes {then:.4g} s, not {now:.4g} ({1 - then / now:.1%} less)"
    return f"Move {number} {unit} (to {layers}): {gain}; {share}."


def _skip(model: Measured, after: Played, order: Schedule, wanted: Wanted) -> list[dict[str, Any]]:
    """Return what passing over slow stages would give, where one is left that is slow and the order has one chunk."""
    if order.chunks > 1 or after.stage_s.max() < SLOW_RATIO * np.median(after.stage_s):
        return []
    times = even(len(after.sizes), model.microbatches, *model.stages_s(after.sizes), weight_share=wanted.weight_share,
                 transfer_s=wanted.transfer_s)  # fmt: skip
    made = [(share, skipped(order, times, share)) for share in SKIP_SHARES]
    return [{"share": share, "passed_over": one.counts, "makespan_s": one.makespan_s} for share, one in made]


def _steps(
    model: Measured, before: Played, after: Played, rows: Sequence[schedules.Compared], wanted: Wanted,
    memory: Memory | None, skip: Sequence[dict[str, Any]],
) -> Iterator[str]:  # fmt: skip
    if after is not before:
        first = 0
        for stage, (then, now) in enumerate(zip(after.sizes.tolist(), before.sizes.tolist(), strict=True)):
            if then != now:
                yield f"stage {stage}: {model.unit} {first} to {first + then - 1} ({then} instead of {now})"
            first += then
        yield "check memory: a stage may hold more layers than today" if memory is None else "memory was checked"
        yield "start again from a checkpoint whose layers can be loaded by their global number"
    for one in skip:
        yield (f"what-if, another training: passing over slow stages in {one['share']:.0%} of all passes would take "
               f"{one['makespan_s']:.4g} s; nothing here says whether it converges")  # fmt: skip
    usual = next(one for one in rows if one.name == wanted.schedule)
    able = [one for one in rows if one.simulated and one.name != "zb-h2" and one.name in ORDERED]
    best = min(able, key=lambda one: one.makespan_s)
    if best.makespan_s < usual.makespan_s * (1 - LEAST_GAIN_RATIO):
        gain = f"{best.makespan_s:.4g} s ({1 - best.makespan_s / usual.makespan_s:.1%} less than {usual.name})"
        held = f"{best.peak_activations:.4g} microbatches held at most (now {usual.peak_activations:.4g})"
        traffic = f"traffic times {best.traffic}, which eats into it where it does not hide"
        yield f"schedule {best.name} ({best.order}): {gain}, {held}, {traffic}"
