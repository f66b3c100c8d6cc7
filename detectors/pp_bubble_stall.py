"""Pipeline stages stand idle longer than the schedule itself demands.

Why it hurts
    A pipeline of p stages and m microbatches idles (p - 1) / (m + p - 1) of the step by construction. What stages wait
    beyond that is lost: a heavy stage, a slow rank or a slow link upstream.

How it is seen
    Waiting in receives exceeds the schedule's bubble by a tenth of the step. The waiting stage is the victim: where a
    heavy stage or a late rank is known, this finding is explained by it; otherwise it says where the waiting is. Not to
    be confused with `pp-stage-imbalance`, which names the cause.

What to do
    Follow the explanation. Without one: more microbatches, an interleaved schedule, and a look at the transfer times
    between the stages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.frames import frame

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class PpBubbleStall:
    """Thresholds: waiting beyond the schedule's bubble, as a share of the step."""

    category: ClassVar[str] = "pipeline"
    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "step_times", "collectives", "ops", "blame")

    stall_share_ratio: float = 0.10

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding for the stage that waits most beyond the bubble."""
        steps = tables["rank_steps"]
        staged = steps[(steps["stage"] >= 0).to_numpy()]
        stages = int(staged["stage"].max()) + 1 if len(staged) else 0
        microbatches = _microbatches(tables)
        step_s = _prices.step_s(tables)
        if stages < 2 or microbatches < 1 or not step_s > 0:
            return
        bubble = (stages - 1) / (microbatches + stages - 1)
        waits = staged.groupby("stage")["wait_ns"].mean() / 1e9
        stage, wait_s = int(str(waits.idxmax())), float(waits.max())
        waited = wait_s / step_s
        stall = waited - bubble
        if stall < self.stall_share_ratio:
            return
        yield Finding(
            condition="pp-bubble-stall", subject=subjects.stage("job", stage), role="victim",
            severity=_prices.severity(stall), confidence=0.9, window=_prices.steps_of(tables), lost_s=stall * step_s,
            lost_share=stall,
            evidence=(
                _prices.evidence("wait_share_of_step", waited, bubble, bubble + self.stall_share_ratio, "ratio"),
            ),
            summary=f"stage {stage} waits {waited:.0%} of the step for its neighbours; {stages} stages and "
            f"{microbatches} microbatches explain {bubble:.0%}",
            advice="mend what it waits for; else more microbatches or an interleaved schedule",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "pp-bubble-stall", self.stall_share_ratio, 900, "info", "{{ $labels.subject }} waits for its neighbours"
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: no pipeline, waiting within the bubble, waiting beyond it."""
        yield World("quiet", _priced_worlds.priced())
        yield World("near-miss", _staged(0.30))
        yield World("stall", _staged(0.60), frozenset({"job/stage0"}))


def _microbatches(tables: Frames) -> int:
    """Return the microbatches of a step: as recorded, else receives per step of a rank that has one neighbour."""
    recorded = tables["ops"]["microbatch"]
    if len(recorded) and int(recorded.max()) >= 0:
        return int(recorded.max()) + 1
    calls = tables["collectives"]
    received = calls[((calls["op"] == "recv") & (calls["step"] >= 0)).to_numpy()]
    if not len(received):
        return 0
    per_peer = received.groupby(["rank", "peer", "step"], observed=True).size()
    return int(per_peer.median())


def _staged(wait_share: float) -> dict[str, pd.DataFrame]:
    """Return a world of 8 stages and 16 microbatches whose first stage waits this share of the step."""
    tables = _priced_worlds.priced()
    steps = tables["rank_steps"].copy()
    steps["stage"] = steps["rank"].astype("int16")
    steps["wait_ns"] = wait_share * _priced_worlds.STEP_NS * (steps["rank"] == 0)
    ops = frame("ops", {
        "job": "job", "rank": 0, "op": "forward", "stream": 0, "microbatch": range(16), "start_ns": 0, "end_ns": 1,
    })  # fmt: skip
    return {**tables, "rank_steps": steps, "ops": ops}
