"""Every pipeline schedule that can be compared: its order, whose it is, and its published formula beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import (
    bubbles,
    schedule_1f1b,
    schedule_blocks,
    schedule_gpipe,
    schedule_interleaved,
    schedule_two_ways,
    schedule_v,
    schedule_waves,
    schedule_zero_bubble,
)
from .bubbles import Shape
from .pipeline_run import Run, Schedule, Times, least_s, run

Array = np.ndarray[Any, Any]

PUBLISHED = "published order"
OURS = "our order on its placement"


def _one(it: Shape) -> float:
    return 1.0


@dataclass(frozen=True)
class Kind:
    """One schedule: what it costs, and how to order it.

    `order` makes it for a shape; `ours` True: it is our order on the published placement, not the published order.
    `formula` is the published bubble over makespan for even stages, where one is known. `traffic` between stages and
    `weights` are multiples of 1F1B's; `gathers` the weights that a device gathers per step, in multiples of its own.
    """

    name: str
    note: str
    order: Callable[[Shape], Schedule]
    ours: bool = False
    formula: Callable[[Shape], float] | None = None
    traffic: int = 1
    weights: Callable[[Shape], float] = _one
    gathers: Callable[[Schedule], float] | None = None


@dataclass(frozen=True)
class Compared:
    """One row of the comparison; NaN where nothing is known. `simulated` False: it cannot run with these microbatches.

    `ideal_ratio` is the bubble over the work, `total_ratio` over the makespan, both simulated; `formula_ratio` is the
    published one, over the makespan, for even stages. `least_s` is what no order of these passes on these devices can
    be below. `peaks` [devices] are activations in microbatches of a whole device, `peak_activations` the greatest.
    """

    name: str
    makespan_s: float
    least_s: float
    bubble_s: float
    ideal_ratio: float
    total_ratio: float
    peak_activations: float
    peaks: tuple[float, ...]
    simulated: bool
    formula_ratio: float
    traffic: int
    weights: float
    gathers: float
    order: str
    note: str


def _usual_ratio(it: Shape) -> float:
    return (it.devices - 1) / (it.microbatches + it.devices - 1)


KINDS = (
    Kind("1f1b", "the usual order", lambda it: schedule_1f1b.schedule(it.devices, it.microbatches),
         formula=_usual_ratio),
    Kind("gpipe", "holds every microbatch", lambda it: schedule_gpipe.schedule(it.devices, it.microbatches),
         formula=_usual_ratio),
    Kind("interleaved", "2 chunks per device; microbatches a multiple of the devices",
         lambda it: schedule_interleaved.schedule(it.devices, it.microbatches), traffic=2,
         formula=lambda it: (it.devices - 1) / (2 * it.microbatches + it.devices - 1)),
    Kind("zb-h1", "gradients of weights apart", lambda it: schedule_zero_bubble.h1(it.devices, it.microbatches)),
    Kind("zb-h2", "its bubble of 0 is each device's own span: needs an optimizer step that is not synchronised",
         lambda it: schedule_zero_bubble.h2(it.devices, it.microbatches)),
    Kind("zb-v", "2 chunks per device in a V, gradients of weights apart",
         lambda it: schedule_v.schedule(it.devices, it.microbatches, it.forward_s, it.backward_s), ours=True,
         traffic=2),
    Kind("hanayo", "2 waves, 4 chunks per device in zigzag; its formula is for backward twice the forward and as many "
         "microbatches as devices, and it is not said of what it is a share",
         lambda it: schedule_waves.schedule(it.devices, it.microbatches, it.forward_s, it.backward_s), ours=True,
         formula=lambda it: bubbles.hanayo_ratio(it.devices, 2), traffic=4),
    Kind("chimera", "two directions, the weights twice and their gradients exchanged; its formula is for equal passes",
         lambda it: schedule_two_ways.chimera(it.devices, it.microbatches, it.forward_s, it.backward_s), ours=True,
         formula=lambda it: bubbles.chimera_ratio(it.devices, it.microbatches), weights=lambda it: 2.0),
    Kind("bitpipe", "two directions, each a V of 2 chunks per device, the weights twice and their gradients exchanged; "
         "its formula is for equal passes, and not checked against its source",
         lambda it: schedule_two_ways.bitpipe(it.devices, it.microbatches, it.forward_s, it.backward_s), ours=True,
         formula=lambda it: bubbles.bitpipe_ratio(it.devices, it.microbatches), traffic=2, weights=lambda it: 2.0),
    Kind("zeropp", "ZeRO-3 instead of tensor parallelism, 2 chunks per device, gradients of weights apart; its gathers "
         "are not in the makespan; no formula is known, up to 33 % less time is published",
         lambda it: schedule_blocks.schedule(it.devices, it.microbatches, it.forward_s, it.backward_s, it.weight_share),
         ours=True, traffic=2, weights=lambda it: schedule_blocks.weights(it.shards), gathers=schedule_blocks.gathers),
)  # fmt: skip


def order(name: str, shape: Shape) -> Schedule:
    """Return the order of a schedule by name; raises KeyError where there is none of that name."""
    return {one.name: one.order for one in KINDS}[name](shape)


def times(
    made: Schedule, forward_s: Array, backward_s: Array, shape: Shape, transfer_s: float = 0.0,
    speeds: Array | None = None,
) -> Times:  # fmt: skip
    """Return the times of a schedule's passes from those of whole stages, [devices] seconds per microbatch.

    Chunks are equal parts of their stage's layers. Where a second copy of a stage stands on another device, it takes
    the stage's time, by the `speeds` [devices] of the two (None: all alike).
    """
    home = np.tile(made.device_of[: made.length], made.paths)
    ratio = np.ones(len(home)) if speeds is None else speeds[home] / speeds[made.device_of]
    full = (len(home), made.microbatches)
    spread = [
        np.broadcast_to((one[home] * ratio / made.chunks)[:, None], full) for one in (forward_s, backward_s)
    ]  # fmt: skip
    return Times(spread[0], spread[1], shape.weight_share, transfer_s)


def simulate(
    made: Schedule, forward_s: Array, backward_s: Array, shape: Shape, transfer_s: float = 0.0,
    speeds: Array | None = None,
) -> Run:  # fmt: skip
    """Return the run of a schedule with uneven stages; arguments as in `times`.

    >>> shape = Shape(4, 16, 1.125, 2.25)
    >>> simulate(order("1f1b", shape), np.array([1, 1, 1.5, 1]), np.array([2, 2, 3.0, 2]), shape).makespan_s
    79.5
    """
    return run(made, times(made, forward_s, backward_s, shape, transfer_s, speeds))


def compare(
    forward_s: Array, backward_s: Array, shape: Shape, transfer_s: float = 0.0, speeds: Array | None = None
) -> list[Compared]:
    """Return one row per schedule, in the order of `KINDS`; arguments as in `times`.

    >>> even = np.ones(4)
    >>> rows = compare(even, 2 * even, Shape(4, 16, 1.0, 2.0))
    >>> {one.name: one.makespan_s for one in rows[:6]}
    {'1f1b': 57.0, 'gpipe': 57.0, 'interleaved': 52.5, 'zb-h1': 51.0, 'zb-h2': 51.0, 'zb-v': 49.5}
    >>> {one.name: one.makespan_s for one in rows[6:]}
    {'hanayo': 53.75, 'chimera': 52.0, 'bitpipe': 52.5, 'zeropp': 49.5}
    """
    return [_row(one, forward_s, backward_s, shape, transfer_s, speeds) for one in KINDS]


def _row(
    kind: Kind, forward_s: Array, backward_s: Array, shape: Shape, transfer_s: float, speeds: Array | None
) -> Compared:
    unknown = float("nan")
    runs = kind.name != "interleaved" or shape.microbatches % shape.devices == 0
    least = makespan = bubble = ideal = total = peak = gathers = unknown
    peaks: tuple[float, ...] = ()
    if runs:
        made = kind.order(shape)
        taken = times(made, forward_s, backward_s, shape, transfer_s, speeds)
        ran = run(made, taken)
        least, makespan, bubble = least_s(made, taken), ran.makespan_s, ran.bubble_s
        ideal, total = ran.ideal_ratio, ran.total_ratio
        peaks = tuple(made.peaks().tolist())
        peak = max(peaks)
        gathers = kind.gathers(made) if kind.gathers else 0.0
    formula = kind.formula(shape) if kind.formula else unknown
    whose = OURS if kind.ours else PUBLISHED
    return Compared(kind.name, makespan, least, bubble, ideal, total, peak, peaks, runs, formula, kind.traffic,
                    kind.weights(shape), gathers, whose, kind.note)  # fmt: skip
