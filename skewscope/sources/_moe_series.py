"""Series of engines' metrics that tell of expert balance: vLLM's (proposed), SGLang's and vLLM-Ascend's.

Counters and histograms grow since the engine's start: between two pages lies their difference, and a page alone tells
all since the start. SGLang's histogram of tokens per GPU has the numbers of the GPUs as its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._balance_lines import inverse
from ._expert_rows import MOST_EXPERTS, MOST_LAYERS, Batch

Array = np.ndarray[Any, Any]

EXPERT, RANK, HEAT, RATIO, INVERSE, SUM, COUNT, MOVES, MOVE_S = range(9)
SOURCE = "exposition-page"
PHASES = {"EXTEND": "prefill", "PREFILL": "prefill", "DECODE": "decode", "TARGET_VERIFY": "decode"}
HOTNESS = {
    "eplb:expert_hotness:current_mean": "ascend", "eplb:expert_hotness:current_max": "ascend-worst",
    "eplb:expert_hotness:update_mean": "ascend-forecast", "eplb:expert_hotness:update_max": "ascend-forecast-worst",
}  # fmt: skip
MOVED = (
    "vllm:eplb_rearrangements_total", "vllm:eplb_rebalance_events_total", "vllm:eplb_rearrangement_seconds_count",
    "eplb:expert_weight_update:duration_count",
)  # fmt: skip
MOVED_S = ("vllm:eplb_rearrangement_seconds_sum", "eplb:expert_weight_update:duration_sum")


@dataclass(frozen=True)
class Moe:
    """What one series tells: kind, layer (-1 all), expert or rank, and for reports phase and whose formula."""

    kind: int
    layer: int = -1
    place: int = -1
    phase: str = ""
    definition: str = ""


def meaning(name: str, labels: Mapping[str, str]) -> Moe | None:
    """Return what a series tells, None for what has no meaning here.

    >>> meaning("vllm:eplb_tokens_routed_to_expert_total", {"layer_idx": "3", "logical_expert_id": "17"}).place
    17
    """
    bare = name.removesuffix("_total")
    if bare == "vllm:eplb_tokens_routed_to_expert":
        return _placed(EXPERT, labels.get("layer_idx"), labels.get("logical_expert_id"))
    if bare == "vllm:eplb_tokens_routed_to_ep_rank":
        return _placed(RANK, labels.get("layer_idx"), labels.get("dst_ep_rank"))
    if name == "sglang:eplb_gpu_physical_count_bucket":
        return _placed(HEAT, labels.get("layer"), labels.get("le", "").removesuffix(".0"))
    if name.startswith("sglang:eplb_balancedness_"):
        kind = {"sum": SUM, "count": COUNT}.get(name.rpartition("_")[2])
        mode = labels.get("forward_mode", "").rpartition(".")[2].upper()
        return None if kind is None else Moe(kind, phase=PHASES.get(mode, ""), definition="sglang")
    return _gauge(name, labels)


def _gauge(name: str, labels: Mapping[str, str]) -> Moe | None:
    if name in HOTNESS:
        return Moe(INVERSE, definition=HOTNESS[name])
    if name == "eplb:expert_hotness:imbalance":
        layer = _whole(labels.get("layer"), MOST_LAYERS)
        forecast = labels.get("phase", "").startswith("update")
        return Moe(INVERSE, layer, definition="ascend-forecast" if forecast else "ascend") if layer >= 0 else None
    if name.startswith("vllm:eplb_balancedness_"):
        part = name.rpartition("_")[2]
        return Moe(RATIO, definition=f"vllm-{part}") if part in ("min", "p50", "p90", "avg") else None
    if name in MOVED:
        return Moe(MOVES)
    return Moe(MOVE_S) if name in MOVED_S else None


def _placed(kind: int, layer: str | None, place: str | None) -> Moe | None:
    made = Moe(kind, _whole(layer, MOST_LAYERS), _whole(place, MOST_EXPERTS))
    return made if made.layer >= 0 and made.place >= 0 else None


def _whole(text: str | None, most: int) -> int:
    fits = text is not None and text.isascii() and text.isdecimal() and len(text) < 9
    return int(text) if text is not None and fits and int(text) < most else -1


def batches(told: Mapping[int, Moe], numbers: Array, values: Array, t_ns: Array) -> list[Batch]:
    """Return `expert_loads`, `balance_reports` and `events` of values [N] of the series `numbers` [N] at `t_ns` [N]."""
    mine = np.isin(numbers, list(told)) & np.isfinite(values) & (np.abs(values) < 2.0**53) & (t_ns >= 0)
    if not mine.any():
        return []
    numbers, values, t_ns = numbers[mine], values[mine], t_ns[mine]
    order = np.lexsort((t_ns, numbers))
    numbers, values, t_ns = numbers[order], values[order], t_ns[order]
    width = max(told) + 1
    kind, layer, place = (np.full(width, -1) for _ in range(3))
    for number, one in told.items():
        kind[number], layer[number], place[number] = one.kind, one.layer, one.place
    grown, sound = _grown(numbers, values, t_ns)
    cumulative = np.isin(kind[numbers], (EXPERT, RANK, HEAT, SUM, COUNT, MOVES, MOVE_S))
    kept = sound | ~cumulative
    rows = Rows(numbers[kept], np.where(cumulative, grown, values)[kept], t_ns[kept], kind, layer, place, told)
    return [*rows.loads(), *rows.reports(), *rows.moves()]


def _grown(numbers: Array, values: Array, t_ns: Array) -> tuple[Array, Array]:
    """Return how much each value grew since the one before of its series, and for which that is known.

    A counter that fell began anew. The first value of all tells nothing unless it is the only page, or the series is
    new.
    """
    first = np.concatenate(([True], numbers[1:] != numbers[:-1]))
    before = np.where(first, 0.0, np.roll(values, 1))
    grown = np.where(values >= before, values - before, values)
    begins = t_ns.min()
    alone = begins == t_ns.max()
    return grown, ~first | alone | (t_ns > begins)


@dataclass
class Rows:
    """Values of known series, each with its number, growth or value, and time; and what the numbers stand for."""

    numbers: Array
    values: Array
    t_ns: Array
    kind: Array
    layer: Array
    place: Array
    told: Mapping[int, Moe]

    def _of(self, *kinds: int) -> Array:
        return np.flatnonzero(np.isin(self.kind[self.numbers], kinds))

    def loads(self) -> list[Batch]:
        """Return tokens per expert of the time before each page."""
        at = self._of(EXPERT)
        if not len(at) or not self.values[at].any():
            return []
        number = self.numbers[at]
        _, step = np.unique(self.t_ns[at], return_inverse=True)
        keys, place = np.unique(np.stack([step, self.layer[number], self.place[number]]), axis=1, return_inverse=True)
        tokens = np.bincount(place.ravel(), self.values[at])
        return [("expert_loads", {
            "job": "job", "step": keys[0], "layer": keys[1], "expert": keys[2], "rank": -1,
            "routed_tokens": np.rint(tokens).astype(np.int64), "source": SOURCE,
        })]  # fmt: skip

    def reports(self) -> list[Batch]:
        """Return the balance that engines tell, and that of the tokens per rank that they count."""
        made = [*self._gauges(), *self._ranks(RANK), *self._ranks(HEAT), *self._summaries()]
        if not made:
            return []
        names = ("t_ns", "layer", "phase", "definition", "balance_ratio", "mean_tokens", "max_tokens")
        columns = {name: [row[at] for row in made] for at, name in enumerate(names)}
        return [("balance_reports", {"job": "job", "step": -1, "source": SOURCE, **columns})]

    def _gauges(self) -> list[tuple[Any, ...]]:
        """Return reports of gauges; of ranks that export the same the mean counts."""
        found: dict[tuple[int, Moe], list[float]] = {}
        for at in self._of(RATIO, INVERSE).tolist():
            one = self.told[int(self.numbers[at])]
            ratio = inverse(float(self.values[at])) if one.kind == INVERSE else float(self.values[at])
            if 0 < ratio <= 1.0001:
                found.setdefault((int(self.t_ns[at]), one), []).append(ratio)
        return [
            (t_ns, one.layer, one.phase, one.definition, sum(ratios) / len(ratios), math.nan, math.nan)
            for (t_ns, one), ratios in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].layer))
        ]

    def _summaries(self) -> list[tuple[Any, ...]]:
        """Return the mean of a summary between two pages, per phase."""
        found: dict[tuple[int, str], list[float]] = {}
        for at in self._of(SUM, COUNT).tolist():
            one = self.told[int(self.numbers[at])]
            sums = found.setdefault((int(self.t_ns[at]), one.phase), [0.0, 0.0])
            sums[one.kind == COUNT] += float(self.values[at])
        return [
            (t_ns, -1, phase, "sglang", total / count, math.nan, math.nan)
            for (t_ns, phase), (total, count) in sorted(found.items())
            if count > 0 and total > 0
        ]

    def _ranks(self, kind: int) -> list[tuple[Any, ...]]:
        """Return mean over maximum of the tokens per rank, of each layer and page."""
        at = self._of(kind)
        if not len(at):
            return []
        number = self.numbers[at]
        times, step = np.unique(self.t_ns[at], return_inverse=True)
        layers, layer = np.unique(self.layer[number], return_inverse=True)
        ranks = int(self.place[number].max()) + 1
        shape = (len(times), len(layers), ranks)
        if np.prod(shape, dtype=float) > 1 << 26:
            return []
        flat = (step * shape[1] + layer) * ranks + self.place[number]
        tokens = np.bincount(flat, self.values[at], math.prod(shape)).reshape(shape)
        if kind == HEAT:  # buckets hold all ranks up to their own
            tokens = np.diff(tokens, axis=2, prepend=0.0).clip(min=0)
        mean, most = tokens.mean(axis=2), tokens.max(axis=2)
        return [
            (int(times[i]), int(layers[j]), "", "ranks", float(mean[i, j] / most[i, j]), float(mean[i, j]),
             float(most[i, j]))
            for i, j in np.argwhere(most > 0).tolist()
        ]  # fmt: skip

    def moves(self) -> list[Batch]:
        """Return an event for each page before which experts were rearranged."""
        count, took_s = (self._summed(kind) for kind in (MOVES, MOVE_S))
        moved = sorted(t_ns for t_ns, grown in count.items() if grown > 0)
        if not moved or len(set(self.t_ns.tolist())) < 2:
            return []
        return [("events", {
            "t_ns": moved, "event": "moe-rebalance",
            "message": [_moved(count[t_ns], took_s.get(t_ns, 0.0)) for t_ns in moved],
        })]  # fmt: skip

    def _summed(self, kind: int) -> dict[int, float]:
        """Return the largest growth of each time; several names may count the same."""
        found: dict[int, float] = {}
        for at in self._of(kind).tolist():
            t_ns = int(self.t_ns[at])
            found[t_ns] = max(found.get(t_ns, 0.0), float(self.values[at]))
        return found


def _moved(times: float, took_s: float) -> str:
    what = "experts rearranged" if times == 1 else f"experts rearranged {times:.0f} times"
    return f"{what} in {took_s:.2f} s" if took_s > 0 else what
