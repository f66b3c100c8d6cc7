"""The figures of a bench as a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import mistakes

HEAD = """\
# How often it is right

Measured on simulated fleets with known faults (`skewscope simulate --list`), with {count} {set} seeds from {first}:
every fault {size},
all rooms watching as they would live. A claim is right when it names
the condition and its place. *Detect* is the median time from onset to claim, *price error* the median and the 90 %
point of |claimed - true| / true over faults that cost at least 0.5 % of the step. In brackets: 95 % intervals.

Overall: recall {recall}, precision {precision}, the first claim names the root cause in {root}; price error {price}.
Healthy fleets: {alarms} false alarms in {days:.1f} node-days, at most {most:.0f} per 1,000 node-days (95 %).

Repeat it: `skewscope bench detect {flag}{effect}--seeds {count} --every {every} --markdown FILE`.

| condition | faults | recall | precision | detect | price error |
|---|---|---|---|---|---|
"""

MISTAKES = """\
All mistakes, one by one. Of several faults at once each costs what the step would be shorter without it alone, which
may be next to nothing."""


def page(document: Mapping[str, Any]) -> str:
    """Return a Markdown page of a `skewscope.bench/1` document."""
    seeds, overall, healthy = document["seeds"], document["overall"], document["healthy"]
    judged = seeds["set"] == "judging"
    head = HEAD.format(
        count=seeds["count"], set=seeds["set"], first=seeds["first"], recall=_share(overall, "recall"),
        precision=_share(overall, "precision"), root=_percent(overall["root_cause"]), price=_price(overall),
        alarms=healthy["false_alarms"], days=healthy["node_days"], most=healthy["at_most"] or float("nan"),
        flag="--judge " if judged else "", every=document["looks"]["every_windows"], **_sizes(document["effect"]),
    )  # fmt: skip
    rows = (
        f"| `{row['condition']}` | {row['faults']} | {_share(row, 'recall')} | {_share(row, 'precision')} "
        f"| {_seconds(row)} | {_price(row)} |"
        for row in document["conditions"]
    )
    told = [f"- {line}" for line in (*mistakes.wrong(document), *mistakes.missed(document))]
    return head + "\n".join([*rows, *(["", MISTAKES, "", *told] if told else [])]) + "\n"


def _sizes(effect: float) -> dict[str, str]:
    """Return what is said of the sizes of the faults, and the flag for it."""
    if not effect:
        return {"size": "in the sizes that its scenario ships", "effect": ""}
    said = f"strong enough to cost {effect:.0%} of the step where it can (several at once: as their scenario ships)"
    return {"size": said, "effect": f"--effect {effect:g} "}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _share(row: Mapping[str, Any], name: str) -> str:
    """Return a share and its interval.

    >>> _share({"recall": 1.0, "recall_95": [0.342, 1.0]}, "recall")
    '100% (34-100)'
    """
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_95"]
    return f"{row[name]:.0%} ({low * 100:.0f}-{high * 100:.0f})"


def _seconds(row: Mapping[str, Any]) -> str:
    return f"{row['detect_s']['median']:.0f} s" if row["detect_s"]["count"] else "-"


def _price(row: Mapping[str, Any]) -> str:
    told = row["price_error"]
    if not told["count"]:
        return "unknown" if row["unpriced"] else "-"
    return f"{told['median']:.0%}, {told['p90']:.0%}"
