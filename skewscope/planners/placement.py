"""Place ranks on GPUs so that heavy traffic runs over fast links.

Takes a measured matrix of link speeds (GPU by GPU or node by node, in GB/s; send and receive tests give it), or
recordings that hold probed links. Says which GPU each pipeline stage and replica should have, what the communication of
a step costs now and then, and a bound that no placement can be below.

How it works: `pipette` adds the slowest pipeline's transfers across its stage boundaries and the slowest all-reduce of
gradients (ring, at its slowest link); `dt-fm` lets all replicas wait at each boundary, twice. Up to 8 units all
placements are tried, so the answer is the best one; above, annealing from several starts (today's, a pipeline side by
side, a stage side by side, both again with well linked units as neighbours). Never worse than today.

What to know: tensor-parallel groups (--tensor) stay together, and rows of the matrix in a row are such a group. The
ring runs through the replicas in the order of the plan, as NCCL would where it finds no better one. What overlaps with
computation is counted as if it did not. Other network cards are just slower links here; --kinds FILE (a word per row)
says besides what it costs to keep each stage's replicas inside one kind, as Holmes does: a what-if, not the plan.

Examples:
  skewscope plan placement links.csv --stages 4 --activation 0.1 --gradients 10
  skewscope plan placement links.npy --stages 8 --tensor 8 --activation 0.3 --gradients 2.5 --out ranks.csv
  skewscope plan placement links.csv --stages 4 --activation 0.1 --gradients 10 --kinds kinds.txt
  skewscope plan placement probes/ --stages 2 --activation 0.05 --gradients 1 --model dt-fm --html plan.html

Worked example: two racks of four, 100 GB/s inside, 10 GB/s between, gradients of 10 GB. With each pipeline in a rack
the gradients cross (1.006 s); with each stage in a rack only small activations do.

>>> import numpy as np
>>> rack = np.arange(8) // 4
>>> links = of_matrix(np.where(np.equal.outer(rack, rack), 100.0, 10.0), None, "links.csv")
>>> made = planned(links, Wanted(stages=4, activation_bytes=0.1e9, gradient_bytes=10e9, order="pipeline"))
>>> [round(one["communication_s"], 3) for one in (made.current, made.proposed)], made.optimal
([1.006, 0.124], True)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import layout
from ..optimize.annealing import anneal
from ..optimize.layout import Job
from ..plans import Picture, Plan
from . import _kinds, _links, _rounds, _tables
from ._links import Links, of_matrix

__all__ = ["Placement", "Wanted", "of_matrix", "planned"]

Array = np.ndarray[Any, Any]

GIGA = 1e9
LEAST_GAIN_RATIO = 0.02
PROVED_RATIO = 1e-9
LISTED = 64


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as the flags say; `current` [units], the unit of each place, overrides `order`."""

    stages: int
    activation_bytes: float
    gradient_bytes: float
    tensor: int = 1
    model: str = "pipette"
    order: str = "stage"
    current: Array | None = None
    seed: int = 0
    moves: int = 2000
    out: str | None = None
    kinds: tuple[str, ...] | None = None


class Placement:
    """`skewscope plan placement`."""

    name: ClassVar[str] = "placement"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("path", metavar="LINKS", help="matrix in GB/s (CSV without head, NPY), or recordings with probed links")
        add("--latency", metavar="FILE", help="matrix of one-way latencies in microseconds, alike")
        add("--stages", type=_rounds.whole, required=True, metavar="P", help="pipeline stages (1: none)")
        add("--tensor", type=_rounds.whole, default=1, metavar="T", help="GPUs of a tensor-parallel group")
        size = "GB that a microbatch hands from one stage to the next"
        add("--activation", type=_rounds.seconds, required=True, metavar="GB", help=size)
        add("--gradients", type=_rounds.seconds, required=True, metavar="GB", help="GB of gradients of a stage")
        add("--model", choices=("pipette", "dt-fm"), default="pipette", help="cost model (default: %(default)s)")
        order = (
            "today's order of ranks: neighbours are a stage's replicas, or a pipeline's stages (default: %(default)s)"
        )
        add("--order", choices=("stage", "pipeline"), default="stage", help=order)
        add("--current", metavar="N,N...", help="instead: the row of the matrix that each rank has today")
        add("--kinds", metavar="FILE", help="kind of network card of each row of the matrix, a word per line")
        add("--seed", type=_rounds.count, default=0, help="of the search (default: %(default)s)")
        add("--moves", type=_rounds.whole, default=2000, help="moves of each chain (default: %(default)s)")
        add("--out", metavar="FILE", help="write the placement as CSV: rank, stage, replica, unit")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        links = _links.read(Path(args.path), None if args.latency is None else Path(args.latency))
        current = None if args.current is None else _tables.wholes(args.current, "--current")
        wanted = Wanted(
            args.stages, args.activation * GIGA, args.gradients * GIGA, args.tensor, args.model, args.order, current,
            args.seed, args.moves, args.out, None if args.kinds is None else _kinds.read(Path(args.kinds)),
        )  # fmt: skip
        return planned(links, wanted)


def planned(links: Links, wanted: Wanted) -> Plan:
    """Return the plan; raises UsageError where the units do not divide into stages and groups."""
    it = _job(links, wanted)
    units = it.replicas * it.stages
    now = _now(it, wanted)
    cost_now = float(it.seconds(now))
    tried = units <= layout.EXACT_UNITS
    course: list[float] = []
    if tried:
        best = layout.exact(it)
    else:
        made = anneal(it.seconds, _starts(it, now), wanted.seed, moves=wanted.moves)
        best, course = made.order, made.best.tolist()
    cost = float(it.seconds(best))
    changed = cost < cost_now * (1 - LEAST_GAIN_RATIO)
    best = best if changed else now
    after = float(it.seconds(best))
    bound = cost if tried else min(it.bound_s(), cost)
    gap = after / bound - 1 if bound > 0 else 0.0
    names = _names(links, wanted)
    kinds, told = _kinds_told(it, (now, best), len(links.speed), wanted)
    numbered = _ranked(it, wanted)
    rows = list(_rows(it, now[numbered], best[numbered], numbered, names))
    return Plan(
        name="placement",
        inputs={"units": units, "tensor": wanted.tensor, "stages": it.stages, "replicas": it.replicas,
                "activation_bytes": it.activation_bytes, "gradient_bytes": wanted.gradient_bytes, "model": wanted.model,
                "seed": wanted.seed, "slowest_link_gb_per_s": float(it.speed.min() / GIGA)},
        objective="communication_s", current=_metrics(it, now), proposed=_metrics(it, best),
        verdict=_verdict(cost_now, after, changed, tried),
        plan={"grid": best.reshape(it.replicas, it.stages), "grid_now": now.reshape(it.replicas, it.stages),
              "rows": rows, "all_tried": tried, "kinds": kinds},
        lower_bound=bound, gap=max(gap, 0.0), optimal=gap <= PROVED_RATIO,
        steps=[*_steps(rows, changed, wanted), *told], warnings=links.warnings,
        pictures=_pictures(it, (now, best), numbered, bound, course),
        files={wanted.out: _file(rows)} if wanted.out else {},
    )  # fmt: skip


def _job(links: Links, wanted: Wanted) -> Job:
    count = len(links.speed)
    if count % (wanted.tensor * wanted.stages):
        raise UsageError(f"{count} rows of links are no multiple of {wanted.tensor} (--tensor) times {wanted.stages} "
                         "(--stages): every stage of every replica wants its GPUs")  # fmt: skip
    replicas = count // (wanted.tensor * wanted.stages)
    speed, latency = links.speed.copy(), links.latency_s
    if wanted.tensor > 1:
        speed, latency = layout.narrowed(speed, wanted.tensor), -layout.narrowed(-latency, wanted.tensor)
    return layout.job(speed, replicas, wanted.stages, wanted.activation_bytes, wanted.gradient_bytes, latency,
                      wanted.model)  # fmt: skip


def _now(it: Job, wanted: Wanted) -> Array:
    if wanted.current is None:
        return layout.by_stage(it) if wanted.order == "stage" else layout.contiguous(it)
    units = it.replicas * it.stages
    if sorted(wanted.current.tolist()) != list(range(units)):
        raise UsageError(
            f"--current: wants each of the rows 0 to {units - 1} once, by rank, not {wanted.current.tolist()}"
        )
    now = np.empty(units, dtype=np.int64)
    now[_ranked(it, wanted)] = wanted.current
    return now


def _starts(it: Job, now: Array) -> Array:
    near = layout.clusters(it.speed)
    plain = (layout.by_stage(it), layout.contiguous(it))
    return np.stack([now, *plain, *(near[one] for one in plain)])


def _names(links: Links, wanted: Wanted) -> list[str]:
    if wanted.tensor == 1:
        return list(links.names)
    starts = range(0, len(links.names), wanted.tensor)
    return [f"{links.names[at]} to {links.names[at + wanted.tensor - 1]}" for at in starts]


def _kinds_told(it: Job, orders: tuple[Array, Array], rows: int, wanted: Wanted) -> tuple[dict[str, Any], list[str]]:
    if wanted.kinds is None:
        return {}, []
    units = _kinds.of_units(wanted.kinds, rows, wanted.tensor)
    found, told = _kinds.what_if(it, units, orders, wanted.seed, wanted.moves)
    return found, [told]


def _metrics(it: Job, order: Array) -> dict[str, float]:
    pipeline, gradients = it.parts(order)
    return {
        "communication_s": float(pipeline + gradients),
        "pipeline_s": float(pipeline),
        "gradients_s": float(gradients),
    }


def _verdict(now: float, then: float, changed: bool, tried: bool) -> str:
    how = "no placement is better" if tried else "found by annealing"
    if not changed:
        return f"Leave the ranks where they are: no placement that was found saves {LEAST_GAIN_RATIO:.0%} ({how})."
    gain = f"{then:.4g} s per step, not {now:.4g} ({1 - then / now:.0%} less; {how})"
    return f"Place ranks anew: communication takes {gain}."


def _ranked(it: Job, wanted: Wanted) -> Array:
    """Return the place in the grid of each rank, [units], as today's order numbers them."""
    return layout.by_stage(it).argsort() if wanted.order == "stage" else layout.contiguous(it)


def _rows(it: Job, now: Array, best: Array, places: Array, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one row per rank; `now` and `best` [units] are the units of the ranks."""
    for rank, place in enumerate(places.tolist()):
        replica, stage = divmod(place, it.stages)
        yield {"rank": rank, "stage": stage, "replica": replica, "unit": names[best[rank]], "now": names[now[rank]]}


def _steps(rows: Sequence[dict[str, Any]], changed: bool, wanted: Wanted) -> Iterator[str]:
    if not changed:
        return
    what = "group" if wanted.tensor > 1 else "rank"
    moved = [one for one in rows if one["unit"] != one["now"]]
    for one in moved[:LISTED]:
        yield (f"{what} {one['rank']} (stage {one['stage']}, replica {one['replica']}): on {one['unit']} instead of "
               f"{one['now']}")  # fmt: skip
    if len(moved) > LISTED:
        yield f"and {len(moved) - LISTED} more: plan.rows in the JSON, or --out FILE"
    yield "start with a host file or rank file in this order; frameworks number ranks by the order of hosts"
    yield "measure the links again after the move, and the step: what overlaps with computation saves nothing"


def _file(rows: Sequence[dict[str, Any]]) -> bytes:
    lines = (f"{one['rank']},{one['stage']},{one['replica']},{one['unit']}" for one in rows)
    return ("rank,stage,replica,unit\n" + "\n".join(lines) + "\n").encode()


def _pictures(
    it: Job, orders: tuple[Array, Array], numbered: Array, bound: float, course: Sequence[float]
) -> list[Picture]:
    named = dict(zip(("now", "planned"), orders, strict=True))
    parts = {name: _metrics(it, order) for name, order in named.items()}
    labels = ["pipeline", "gradients", "together"]
    bars = {name: (labels, [one["pipeline_s"], one["gradients_s"], one["communication_s"]])
            for name, one in parts.items()}  # fmt: skip
    shown = it.speed / GIGA
    shown[np.isinf(shown)] = np.nan
    drawn = [
        Picture("bars", "Communication of a step", f"No placement is below {bound:.4g} s.", "part",
                "seconds per step, s", bars),
        Picture("heatmap", "Links, ranks in order", "A good placement has the heavy traffic on fast links.", "rank",
                "rank", {name: shown[np.ix_(order[numbered], order[numbered])] for name, order in named.items()},
                z="speed, GB/s"),
    ]  # fmt: skip
    if course:
        text = f"The best of all chains after each move; it ends at {course[-1]:.4g} s."
        lines = {"best": (list(range(len(course))), course)}
        drawn.append(Picture("lines", "The search", text, "move", "seconds per step, s", lines))
    return drawn
