"""Recommendations of a report with measured gains: which remedy answers a finding, and what the others would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..reports.recommend import recommend as best_case
from ._advise_ranking import NOTHING, Ranked, Ranking

Document = dict[str, Any]

SPLIT = ("reweight", "drop-slowest", "exclude-next", "code-gradients", "repack-sequences")
ANSWERS = {"move-layers": "re-partition the pipeline", "rebalance-experts": "rebalance experts",
           "respace-checkpoints": "checkpoint interval", "repack-sequences": "re-pack sequences",
           "exclude-next": "drain"}  # fmt: skip
NOTHING_ROW: Document = {
    "remedy": NOTHING, "planner": "none", "action": "do-nothing", "saved_s": 0.0, "saved_low_s": 0.0,
    "saved_high_s": 0.0, "saved_share": 0.0, "sure_ratio": 1.0, "pays": True, "refused": None, "needs": "",
    "params": {},
}  # fmt: skip


def answers(findings: Sequence[Mapping[str, Any]], ranking: Ranking, ranks: int) -> list[Document]:
    """Return recommendations r1.. for the culprits among the findings, priced by the ranking where it knows better.

    Findings of ranks with too much own work (planner "batch") get the best remedy of the job, one for all of them;
    those of one cause keep their repair, with the measured gain where it was replayed.
    """
    confidence = {one["id"]: one["confidence"] for one in findings}
    made: list[Document] = []
    shared: Document | None = None
    for one in best_case(findings):
        sure = confidence[one["for"][0]]
        if one["planner"] != "batch" or not any(row.option.action in SPLIT for row in ranking.rows):
            row = _replayed(one, ranking)
            params = {**row.option.params, **one["params"]} if row else one["params"]
            made.append({**one, "params": params, **(_told(row, ranking, sure, ranks) if row else {})})
        elif shared is None:
            shared = _best(one, ranking, sure, ranks)
            made.append(shared)
        else:
            shared["for"] += one["for"]
            shared["params"]["subjects"].append(one["params"]["subject"])
    for number, one in enumerate(made, 1):
        one["id"] = f"r{number}"
    return made


def _best(one: Document, ranking: Ranking, sure: float, ranks: int) -> Document:
    """Return the recommendation `one` with the best remedy of the job in the place of its own."""
    whom = {"subjects": [one["params"]["subject"]]}
    best = _of_split(ranking)
    if best is None:
        nothing = {
            "predicted": {"step_time_ratio": 1.0, "gpu_hours_saved": 0.0, "confidence": sure}, "planner": "none",
            "action": "do-nothing", "cost": "none", "risk": "the slowness may grow: watch it", "needs": "",
            "saved_s": 0.0, "saved_low_s": 0.0, "saved_high_s": 0.0, "alternatives": _others(ranking, None),
        }  # fmt: skip
        return {**one, **nothing, "params": {**one["params"], **whom}}
    option = best.option
    return {
        **one, "planner": option.planner, "action": option.action, "cost": option.cost, "risk": option.risk,
        "params": {**option.params, **one["params"], **whom}, **_told(best, ranking, sure, ranks),
    }  # fmt: skip


def _of_split(ranking: Ranking) -> Ranked | None:
    """Return the best remedy, if it is one for ranks that share a batch."""
    if ranking.best is not None and ranking.best.option.action in SPLIT:
        return ranking.best
    return next((row for row in ranking.rows if row.pays and row.option.action in SPLIT), None)


def _replayed(one: Mapping[str, Any], ranking: Ranking) -> Ranked | None:
    row = ranking.of(ANSWERS.get(one["action"], ""))
    if row is None or row.saved_s <= 0:
        return None
    if one["action"] == "exclude-next" and one["params"].get("rank") not in row.option.params["ranks"]:
        return None
    return row


def _told(row: Ranked, ranking: Ranking, sure: float, ranks: int) -> Document:
    hours = row.saved_s * len(ranking.today_s) * ranks / 3600
    return {
        "predicted": {
            "step_time_ratio": max(0.0, 1 - row.share), "gpu_hours_saved": max(0.0, hours),
            "confidence": round(sure * row.sure_ratio, 3),
        },
        "needs": row.option.needs, "saved_s": row.saved_s, "saved_low_s": row.low_s, "saved_high_s": row.high_s,
        "alternatives": _others(ranking, row),
    }  # fmt: skip


def _others(ranking: Ranking, taken: Ranked | None) -> list[Document]:
    """Return what the other remedies would save, doing nothing among them."""
    rows = [row.document() for row in ranking.rows if row is not taken]
    place = sum(row["saved_s"] > 0 and not row["refused"] for row in rows)
    return [*rows[:place], dict(NOTHING_ROW), *rows[place:]] if taken is not None else rows
