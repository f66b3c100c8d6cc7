"""Placements of one load on GPUs that are all alike: replicas, packing and local search, by slots per GPU.

Where the steps of the window are known, not only its sum, the plan is made to hold: parts of the window are evened out
beside the sum, so that experts which rise and fall together come to lie apart, and experts that swing get replicas
first. This costs the balance of the window itself nothing that can be seen and is what a later window is won by.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, P slots, G GPUs, K parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pack import Held, pack
from .pairing import paired_counts
from .replicate import Counts, Floats, replicate
from .swap import cool, even_out, of_slots

ENOUGH_RATIO = 3e-4  # of the bound: closer is not worth an exchange
SWING = 2.0  # standard deviations over parts that replicas are kept ready for
ROOM_RATIO = 0.9  # of the mean GPU that a replica may weigh for the sake of swings
SWINGS = (0.0, 0.5, 1.0, 2.0)  # the same, each tried where slots per GPU are two
SLACK_RATIO, PART_WEIGHT = 0.01, 2.0  # worse than the highest averages at most; of the mean part against the window
ROUNDS = 24
PARTS = 8  # of a window, at most


@dataclass(frozen=True, eq=False)
class Task:
    """Rows to place: tokens [B, E], tokens of parts of the window [K, B, E] (K = 0 where only the sum is known).

    `least` [B] is what the hottest GPU cannot be below.
    """

    loads: Floats
    slots: int
    gpus: int
    least: Floats
    parts: Floats

    @property
    def mean(self) -> Floats:
        """Return the tokens of the mean GPU [B]; 1 where there are none."""
        total = self.loads.sum(1)
        return np.where(total > 0, total, 1.0) / self.gpus


def parts_of(steps: NDArray[np.int64]) -> Floats:
    """Return parts of a window [K, L, E] of its steps [T, L, E], each scaled up to the whole window; none of one step.

    >>> parts_of(np.array([[[1, 0]], [[0, 1]]])).tolist()
    [[[2.0, 0.0]], [[0.0, 2.0]]]
    """
    number = min(PARTS, len(steps))
    if number < 2:
        return np.zeros((0, *steps.shape[1:]))
    edges = np.linspace(0, len(steps), number + 1).astype(int)
    spans = np.diff(edges)[:, None, None]
    scaled: Floats = np.add.reduceat(steps, edges[:-1], axis=0) * (len(steps) / spans)
    return scaled


def place(task: Task) -> Held:
    """Return the experts of each GPU [B, G, S].

    >>> task = Task(np.array([[4.0, 3.0, 2.0, 1.0]]), 4, 2, np.array([5.0]), np.zeros((0, 1, 4)))
    >>> place(task).tolist()
    [[[0, 3], [1, 2]]]
    """
    per_gpu, experts = task.slots // task.gpus, task.loads.shape[1]
    if per_gpu >= experts:  # all GPUs alike: nothing is more even
        alike = np.arange(per_gpu, dtype=np.int32) % experts
        return np.broadcast_to(alike, (len(task.loads), task.gpus, per_gpu)).copy()
    if per_gpu == 1:
        return pack(task.loads, replicate(task.loads, task.slots, task.gpus), task.gpus)
    if per_gpu == 2:
        return _paired(task)
    counts = counts_for_swings(task)
    held = even_out(pack(task.loads, counts, task.gpus), _features(task) / counts[..., None], ROUNDS)
    return cool(held, task.loads / counts, task.least * (1 + ENOUGH_RATIO))


def counts_for_swings(task: Task) -> Counts:
    """Return replicas [B, E], some kept for experts that swing where that leaves replicas light enough to pack."""
    counts = replicate(task.loads, task.slots, task.gpus)
    if not len(task.parts):
        return counts
    swinging = replicate(task.loads + SWING * task.parts.std(0), task.slots, task.gpus)
    room = np.maximum(ROOM_RATIO * task.mean, (task.loads / counts).max(1))
    return np.where(((task.loads / swinging).max(1) <= room)[:, None], swinging, counts)


def _features(task: Task) -> Floats:
    """Return what shall be even [B, E, 1 + K]: the window, and each part's distance from it."""
    mean = task.mean[:, None]
    away = (task.parts - task.loads) / (mean * np.sqrt(max(1, len(task.parts))))
    return np.moveaxis(np.concatenate([(task.loads / mean)[None], away]), 0, -1)


def _paired(task: Task) -> Held:
    """Return pairs [B, G, 2] for the replica counts that serve best.

    Of the sum alone, counts and pairs are chosen together. With parts known, counts with replicas for swings are tried
    as well, and the hottest GPU of the mean part decides, among those that leave the window hardly worse than the
    highest averages do: the last thousandths of the window are lost on the next one.
    """
    loads, slots, gpus = task.loads, task.slots, task.gpus
    together = pack(loads, paired_counts(loads, slots, gpus, task.least), gpus)
    if not len(task.parts):
        return together
    swing = task.parts.std(0)
    tried = [pack(loads, replicate(loads + more * swing, slots, gpus), gpus) for more in SWINGS]
    scores = [_hottest(task, held) for held in (*tried, together)]
    most = scores[0][0] * (1 + SLACK_RATIO)
    best = np.stack([np.where(window <= most, window + PART_WEIGHT * part, np.inf) for window, part in scores]).argmin(
        0
    )
    chosen: Held = np.stack([*tried, together])[best, np.arange(len(loads))]
    return chosen


def _hottest(task: Task, held: Held) -> tuple[Floats, Floats]:
    """Return the tokens of the hottest GPU of the window and of the mean part [B]."""
    counts = np.zeros(task.loads.shape, np.int64)
    np.add.at(counts, (np.arange(len(held))[:, None], held.reshape(len(held), -1)), 1)
    window, *parts = (of_slots(loads / counts, held).sum(2).max(1) for loads in (task.loads, *task.parts))
    return window, np.mean(parts, axis=0)
