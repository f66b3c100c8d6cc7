"""Say which rank runs out of memory first, and the cheapest way to make it fit.

Takes a transformer's sizes and how it is split, and estimates what a rank of each pipeline stage holds: weights,
gradients, optimizer states, activations, logits. Says which stage binds and by what, what each single change would free
and cost, and the cheapest combination of ZeRO stage, recomputation and offload that fits. Where today's setup fits and
wastes time (say, full recomputation that is not needed), it says that too.

How it works: all combinations are tried, so the answer is the cheapest of them. Their cost in seconds per step takes
nothing as hidden behind computation: an upper bound. The microbatches that a stage holds come out of the schedule.

What to know: estimates leave out fragmentation (often 5 to 10 %) and buffers of libraries; measure a step and put the
difference into --other. ZeRO 2 and 3 with pipelines gather and reduce for every microbatch; ZeRO 1 is usual there.

Examples:
  skewscope plan memory --layers 32 --hidden 4096 --heads 32 --sequence 4096 --vocabulary 32000 --data 8 --gpu-memory 80
  skewscope plan memory --layers 96 --hidden 12288 --heads 96 --sequence 2048 --vocabulary 51200 --data 8 --tensor 8
    --split 12,12,12,12,12,12,12,12 --microbatches 64 --zero 1 --gpu-memory 80 --step 20 --html plan.html

Worked example: 7.5e9 parameters and 64 data-parallel ranks hold 120 GB each; 31.4, 16.6 and 1.9 under ZeRO 1, 2 and 3.

>>> import numpy as np
>>> from dataclasses import replace
>>> model, now = Model(1, 25000, 1, 1, 0, 100000, 25000), Setup(np.array([1]), np.array([1]), 64)
>>> [round(sum(float(part[0]) for name, part in stages(model, replace(now, zero=zero)).items()
...            if name in ("weights", "gradients", "optimizer")) / 1e9, 1) for zero in range(4)]
[120.0, 31.4, 16.6, 1.9]
>>> planned(model, now, Wanted(80e9)).plan["zero"]
1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import UsageError
from ..optimize import schedules
from ..optimize.bubbles import Shape
from ..optimize.memory import PARTS, RECOMPUTE, Model, Setup, Speeds, cheapest, extra_s, single, stages, total
from ..optimize.partition import even_split
from ..plans import Picture, Plan
from . import _rounds, _tables

__all__ = ["Memory", "Model", "Setup", "Wanted", "planned", "stages"]

GIB, GIGA = 2.0**30, 1e9
ORDERED = tuple(one.name for one in schedules.KINDS if one.order is not None)
TIGHT_RATIO = 0.9  # of the memory; fragmentation takes the rest

NO_WAY = (
    "use more pipeline stages, tensor-parallel or data-parallel ranks, or smaller microbatches",
    "where the first stage binds by activations, give it fewer layers: skewscope plan pipeline --memory",
)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the memory of a GPU, and what tells the cost of a change."""

    capacity_bytes: float
    speeds: Speeds = Speeds(1.0, 50 * GIGA, 25 * GIGA)


class Memory:
    """`skewscope plan memory`."""

    name: ClassVar[str] = "memory"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _model_arguments(parser)
        add, whole = parser.add_argument, _rounds.whole
        add("--gpu-memory", type=_tables.positive, required=True, metavar="GIB", help="memory of a GPU")
        add(
            "--other",
            type=_rounds.seconds,
            default=2.0,
            metavar="GIB",
            help="context, libraries (default: %(default)s)",
        )
        add("--data", type=whole, default=1, metavar="D", help="data-parallel ranks (default: %(default)s)")
        add("--tensor", type=whole, default=1, metavar="T", help="tensor-parallel ranks (default: %(default)s)")
        add("--stages", type=whole, default=1, metavar="P", help="pipeline stages (default: %(default)s)")
        add("--split", metavar="N,N...", help="layers of each stage (default: even)")
        add("--schedule", choices=ORDERED, default="1f1b", help="order of passes (default: %(default)s)")
        add("--microbatch", type=whole, default=1, metavar="B", help="sequences of a microbatch (default: %(default)s)")
        add("--microbatches", type=whole, default=1, metavar="M", help="microbatches of a step (default: %(default)s)")
        add("--sequence-parallel", action="store_true", help="norms and dropouts are split over tensor ranks too")
        add("--zero", type=int, choices=range(4), default=0, help="ZeRO stage today (default: %(default)s)")
        add("--recompute", choices=RECOMPUTE, default="none", help="recomputation today (default: %(default)s)")
        add("--offload-optimizer", action="store_true", help="optimizer states are on the host today")
        add("--offload-activations", type=_rounds.ratio, default=0.0, metavar="SHARE", help="of activations, today")
        add("--step", type=_tables.positive, default=1.0, metavar="S", help="compute of a step (default: 1 s)")
        add("--link", type=_tables.positive, default=50.0, metavar="GB/S", help="between ranks (default: %(default)s)")
        add("--host", type=_tables.positive, default=25.0, metavar="GB/S", help="GPU to host (default: %(default)s)")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError."""
        model = Model(
            args.layers, args.hidden, args.heads, args.sequence, args.vocabulary, args.ffn or 4 * args.hidden,
            args.key_value_hidden or args.hidden, args.gated,
        )  # fmt: skip
        split = even_split(args.layers, args.stages) if args.split is None else _tables.wholes(args.split, "--split")
        if split.sum() != args.layers or (split < 1).any():
            raise UsageError(f"--split {split.tolist()}: wants a layer or more on each stage, {args.layers} in all")
        order = schedules.order(args.schedule, Shape(len(split), args.microbatches, 1.0, 2.0))
        now = Setup(
            split, order.peaks(), args.data, args.tensor, args.microbatch, args.microbatches, args.sequence_parallel,
            args.zero, args.recompute, args.offload_optimizer, args.offload_activations, other_bytes=args.other * GIB,
        )  # fmt: skip
        return planned(model, now, Wanted(args.gpu_memory * GIB, Speeds(args.step, args.link * GIGA, args.host * GIGA)))


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    add, whole = parser.add_argument, _rounds.whole
    add("--layers", type=whole, required=True, metavar="L", help="layers of the transformer")
    add("--hidden", type=whole, required=True, metavar="H", help="hidden size")
    add("--heads", type=whole, required=True, metavar="A", help="attention heads")
    add("--sequence", type=whole, required=True, metavar="S", help="tokens of a sequence")
    add("--vocabulary", type=whole, required=True, metavar="V", help="tokens known")
    add("--ffn", type=whole, metavar="F", help="inner size of the MLP (default: 4 H)")
    add("--key-value-hidden", type=whole, metavar="K", help="size of all KV heads (default: H)")
    add("--gated", action="store_true", help="the MLP has three matrices (SwiGLU)")


def planned(model: Model, now: Setup, wanted: Wanted) -> Plan:
    """Return the plan: what binds, what frees it, and the cheapest setup that fits."""
    best = cheapest(model, now, wanted.speeds, wanted.capacity_bytes)
    fits = float(total(model, now).max()) <= wanted.capacity_bytes
    then = now if best is None else best
    held = total(model, now)
    stage = int(held.argmax())
    parts = {name: float(part[stage]) for name, part in stages(model, now).items()}
    cost = extra_s(model, then, wanted.speeds)
    return Plan(
        name="memory",
        inputs={"capacity_bytes": wanted.capacity_bytes, "layers": model.layers, "hidden": model.hidden,
                "sequence": model.sequence, "data": now.data, "tensor": now.tensor, "stages": len(now.split),
                "split": now.split, "held_microbatches": now.held, "other_bytes": now.other_bytes,
                "step_compute_s": wanted.speeds.compute_s, "link_bytes_per_s": wanted.speeds.link_bytes_per_s,
                "host_bytes_per_s": wanted.speeds.host_bytes_per_s},
        objective="extra_s", current=_metrics(model, now, wanted), proposed=_metrics(model, then, wanted),
        verdict=_verdict(model, now, best, fits, wanted, stage, max(parts, key=lambda name: parts[name])),
        plan={**_said(then), "binding_stage": stage, "binding_parts_bytes": parts,
              "stage_bytes": total(model, then), "stage_now_bytes": held,
              "single_changes": list(_changes(model, now, wanted, stage))},
        lower_bound=cost if best is not None else None, gap=0.0 if best is not None else None,
        optimal=best is not None, feasible=best is not None,
        steps=list(_steps(now, then)) if best is not None else list(NO_WAY), warnings=_warnings(model, then, wanted),
        pictures=_pictures(model, now, then, wanted),
    )  # fmt: skip


def _metrics(model: Model, it: Setup, wanted: Wanted) -> dict[str, Any]:
    held = total(model, it)
    return {
        "extra_s": extra_s(model, it, wanted.speeds), "fullest_gib": float(held.max() / GIB),
        "fullest_ratio": float(held.max() / wanted.capacity_bytes), "emptiest_gib": float(held.min() / GIB),
    }  # fmt: skip


def _said(it: Setup) -> dict[str, Any]:
    return {"zero": it.zero, "recompute": it.recompute, "offload_optimizer": it.offload_optimizer,
            "offload_activations": it.offload_activations}  # fmt: skip


def _words(it: Setup) -> str:
    words = [f"ZeRO {it.zero}", f"recompute {it.recompute}"]
    words += ["optimizer on the host"] if it.offload_optimizer else []
    words += [f"{it.offload_activations:.0%} of activations on the host"] if it.offload_activations else []
    return ", ".join(words)


def _verdict(
    model: Model, now: Setup, best: Setup | None, fits: bool, wanted: Wanted, stage: int, part: str
) -> str:  # fmt: skip
    most = float(total(model, now).max()) / GIB
    binds = f"stage {stage} binds with {most:.4g} of {wanted.capacity_bytes / GIB:.4g} GiB, most of it {part}"
    if best is None:
        return f"Nothing fits: {binds}, and all ways together do not free enough."
    cost, before = (extra_s(model, one, wanted.speeds) for one in (best, now))
    if not fits:
        return f"Does not fit today ({binds}): {_words(best)} fits, for {cost:.4g} s per step at most."
    if best == now or cost >= before:
        return f"Fits as it is, and no cheaper way does: {binds}."
    return f"Fits ({binds}), and so does {_words(best)}, which saves up to {before - cost:.4g} s per step."


def _changes(model: Model, now: Setup, wanted: Wanted, stage: int) -> Iterator[dict[str, Any]]:
    """Yield what each single change frees on the binding stage and costs, the most freed per second first."""
    held, cost = float(total(model, now)[stage]), extra_s(model, now, wanted.speeds)
    found = [
        (held - float(total(model, one)[stage]), extra_s(model, one, wanted.speeds) - cost, one) for one in single(now)
    ]
    for freed, more, one in sorted(found, key=lambda row: (-row[0], row[1])):
        fits = bool(total(model, one).max() <= wanted.capacity_bytes)
        yield {"change": _words(one), "freed_bytes": freed, "cost_s": more, "fits": fits}


def _steps(now: Setup, then: Setup) -> Iterator[str]:
    if then.zero != now.zero:
        yield f"shard states over the data-parallel ranks: ZeRO {then.zero} instead of {now.zero}"
    if then.recompute != now.recompute:
        yield f"recompute {then.recompute} instead of {now.recompute}"
    if then.offload_optimizer != now.offload_optimizer:
        yield "keep optimizer states on the host" if then.offload_optimizer else "take optimizer states off the host"
    if then.offload_activations != now.offload_activations:
        yield f"offload {then.offload_activations:.0%} of activations between a forward and its backward"
    if then != now:
        yield "run ten steps and compare the peak that the framework reports with this estimate"


def _warnings(model: Model, then: Setup, wanted: Wanted) -> list[str]:
    share = float(total(model, then).max()) / wanted.capacity_bytes
    tight = TIGHT_RATIO < share <= 1
    said = [f"the fullest stage is {share:.0%} full: fragmentation may still run it over"] if tight else []
    if then.zero >= 2 and len(then.split) > 1:
        said.append(f"ZeRO {then.zero} with a pipeline works for every microbatch; frameworks often allow ZeRO 1 only")
    return said


def _pictures(model: Model, now: Setup, then: Setup, wanted: Wanted) -> list[Picture]:
    names = [str(stage) for stage in range(len(now.split))]
    size = wanted.capacity_bytes / GIB
    held = {name: (names, (total(model, one) / GIB).tolist()) for name, one in (("now", now), ("planned", then))}
    stage = int(total(model, now).argmax())
    parts = {name: (list(PARTS), [float(stages(model, one)[part][stage] / GIB) for part in PARTS])
             for name, one in (("now", now), ("planned", then))}  # fmt: skip
    return [
        Picture("bars", "Memory of a rank of each stage", f"A GPU holds {size:.4g} GiB.", "stage", "held, GiB",
                {**held, "a GPU holds": (names, [size] * len(names))}),
        Picture("bars", f"What stage {stage} holds", "The stage that binds today.", "part", "held, GiB", parts),
    ]  # fmt: skip
