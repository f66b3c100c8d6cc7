"""Pictures of a pipeline plan: stages, schedules, and the order of passes before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..optimize.pipeline_run import Run
from ..optimize.schedules import OURS, PUBLISHED, Compared
from ..plans import Picture

MOST_SPANS = 1500


class Simulated(Protocol):
    """A split with its run."""

    @property
    def stage_s(self) -> np.ndarray:
        """Seconds per microbatch, [stages]."""

    @property
    def sizes(self) -> np.ndarray:
        """Layers, [stages]."""

    @property
    def run(self) -> Run:
        """The passes."""


def pictures(before: Simulated, after: Simulated, rows: Sequence[Compared], unit: str) -> list[Picture]:
    """Return the pictures: bars of stages, of layers, of schedules, and the passes now and planned."""
    stages = [str(stage) for stage in range(len(before.stage_s))]
    known = [one for one in rows if np.isfinite(one.makespan_s)]
    least = min(known, key=lambda one: one.makespan_s)
    compared = {whose: ([one.name for one in known if one.order == whose],
                        [one.makespan_s for one in known if one.order == whose])
                for whose in (PUBLISHED, OURS)}  # fmt: skip
    return [
        Picture("bars", "Time of each stage", f"The slowest stage takes {before.stage_s.max():.4g} s now, "
                f"{after.stage_s.max():.4g} s planned, per microbatch.", "stage", "forward and backward, s",
                {"now": (stages, before.stage_s.tolist()), "planned": (stages, after.stage_s.tolist())}),
        Picture("bars", "Layers of each stage", f"{'/'.join(map(str, after.sizes))} instead of "
                f"{'/'.join(map(str, before.sizes))}.", "stage", unit,
                {"now": (stages, before.sizes.tolist()), "planned": (stages, after.sizes.tolist())}),
        Picture("bars", "Schedules on the planned split", f"{least.name} is the shortest, {least.makespan_s:.4g} s.",
                "schedule", "makespan, s", {name: one for name, one in compared.items() if one[0]}),
        _passes("Passes now", before.run),
        _passes("Passes planned", after.run),
    ]  # fmt: skip


def _passes(title: str, run: Run) -> Picture:
    most = MOST_SPANS // len(run.spans)
    series = {f"stage {device}": [(start, end, f"{op.kind}{op.microbatch}") for start, end, op in spans[:most]]
              for device, spans in enumerate(run.spans)}  # fmt: skip
    text = f"{run.makespan_s:.4g} s, of which a device idles {run.bubble_s:.4g} s on average."
    if any(len(spans) > most for spans in run.spans):
        text += f" The first {most} passes of each stage are drawn."
    return Picture("gantt", title, text, "time, s", "stage", series)
