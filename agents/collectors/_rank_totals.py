"""What one rank has done since the agent follows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skewscope.contracts import Sample

from ._job_totals import JobTotals, bus_factor
from ._recent import RecentMin

MOST_LAYERS = 1024


class Calls:
    """The calls of one operation in one group."""

    __slots__ = ("count", "labels", "shortest", "size_bytes", "spent_ns")

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.count = self.spent_ns = self.size_bytes = 0
        self.shortest = RecentMin()


class Experts:
    """Token counts of experts by layer, of the step that is being told."""

    def __init__(self) -> None:
        self.tokens = 0
        self.ratio: float | None = None
        self._step = -1
        self._layers: dict[int, tuple[int, int, int]] = {}

    def add(self, step: int, layer: int, counts: Sequence[int]) -> None:
        """Add some experts of a layer: tokens each."""
        if step != self._step:
            self._finish()
            self._step = step
        total, experts, most = self._layers.get(layer, (0, 0, 0))
        if layer in self._layers or len(self._layers) < MOST_LAYERS:
            self._layers[layer] = total + sum(counts), experts + len(counts), max(most, *counts, 0)
        self.tokens += sum(counts)

    def _finish(self) -> None:
        ratios = [most * experts / total for total, experts, most in self._layers.values() if total]
        self.ratio = max(ratios, default=self.ratio)
        self._layers.clear()


class RankTotals:
    """Counters of one rank, under its labels."""

    def __init__(self, job_id: str, rank: str, gpu: str, job: JobTotals) -> None:
        self.labels = (job_id, rank, gpu)
        self.job = job
        self.experts = Experts()
        self.steps = self.steps_ns = 0
        self.last_step_s: float | None = None
        self.dropped_tokens: int | None = None
        self._calls: dict[tuple[str, str], Calls] = {}
        self._phases: dict[str, int] = {}
        self._work: dict[str, int] = {}

    def relabel(self, gpu: str) -> None:
        """Go on under another GPU label."""
        self.labels = (*self.labels[:2], gpu)
        for (op, group), calls in self._calls.items():
            calls.labels = (*self.labels, op, group)

    def add_calls(
        self, op: str, group: str, ranks: int, spent_ns: Sequence[int], sizes: Sequence[int], now_s: float
    ) -> list[int]:
        """Add calls (ns and bytes each) of one operation in a group of `ranks`; return the durations in order."""
        ordered = sorted(spent_ns)
        sum_ns = sum(ordered)
        calls = self._calls.get((op, group))
        if calls is None:
            calls = self._calls[op, group] = Calls((*self.labels, op, group))
        calls.count += len(ordered)
        calls.spent_ns += sum_ns
        calls.size_bytes += max(sum(sizes), 0)
        calls.shortest.add(now_s, ordered[0])
        self.job.calls(op, group).add(ordered, sum_ns)
        factor = bus_factor(op, ranks)
        if factor:
            self.job.moved(op, group, factor, spent_ns, sizes, now_s)
        return ordered

    def exemplify(self, op: str, group: str, seq: int, spent_ns: int, now_s: float, time_s: float) -> None:
        """Name one call of this rank as the example of its bucket."""
        text = f'rank="{self.labels[1]}",seq="{seq}"'
        self.job.calls(op, group).exemplify(now_s, spent_ns, time_s, text)

    def add_steps(self, spent_ns: Sequence[int], last_s: float) -> None:
        """Add steps (ns each), the newest of which ended at `last_s` (Unix time)."""
        ordered = sorted(spent_ns)
        self.steps += len(ordered)
        self.steps_ns += sum(ordered)
        self.last_step_s = last_s
        self.job.steps().add(ordered, sum(ordered))

    def add_phase(self, phase: str, spent_ns: Iterable[int]) -> None:
        """Add times (ns each) in a phase."""
        self._phases[phase] = self._phases.get(phase, 0) + sum(spent_ns)

    def add_work(self, unit: str, units: int) -> None:
        """Add work of one kind."""
        if unit == "dropped_tokens":
            self.dropped_tokens = (self.dropped_tokens or 0) + units
        else:
            self._work[unit] = self._work.get(unit, 0) + units

    def samples(self, now_s: float) -> Iterable[Sample]:
        """Return all series of the rank but those of its groups' progress."""
        for calls in self._calls.values():
            labels = calls.labels
            yield "skewscope_collectives_total", labels, calls.count
            yield "skewscope_collective_seconds_total", labels, calls.spent_ns / 1e9
            yield "skewscope_collective_bytes_total", labels, calls.size_bytes
            shortest = calls.shortest.value(now_s)
            if shortest is not None:
                yield "skewscope_collective_min_seconds", labels, shortest / 1e9
        labels = self.labels
        if self.last_step_s is not None:
            yield "skewscope_steps_total", labels, self.steps
            yield "skewscope_step_seconds_total", labels, self.steps_ns / 1e9
            yield "skewscope_step_last_timestamp_seconds", labels, self.last_step_s
        for phase, spent_ns in self._phases.items():
            yield "skewscope_phase_seconds_total", (*labels, phase), spent_ns / 1e9
        for unit, units in self._work.items():
            yield "skewscope_work_units_total", (*labels, unit), units
        if self.experts.tokens:
            yield "skewscope_moe_tokens_total", labels, self.experts.tokens
        if self.experts.ratio is not None:
            yield "skewscope_moe_expert_max_mean_ratio", labels, self.experts.ratio
        if self.dropped_tokens is not None:
            yield "skewscope_moe_dropped_tokens_total", labels, self.dropped_tokens
