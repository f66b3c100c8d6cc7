"""Findings of a report as cells of tables: who, with links to where it is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skewscope.reports import wording

from ._page import Cell, Link
from ._selection import Selection
from ._view import View

Found = Mapping[str, Any]
FRESH: dict[str, Any] = {"show": "", "order": ""}  # a page's own switches mean nothing on another page


def culprits(view: View) -> list[Found]:
    """Return the culprits among the findings, the dearest first as the report sorts them."""
    return [one for one in view.report["findings"] if one["role"] == "culprit"]


def who(one: Found, selection: Selection) -> Cell:
    """Return whom a finding or an incident concerns, as a link to why."""
    return Link(wording.who(one["subject"]), why(one, selection))


def why(one: Found, selection: Selection) -> str:
    """Return the address that explains a finding: its rank, host and steps are selected, and it by its id."""
    subject, window = one["subject"], one.get("window") or {}
    rank, node = subject["rank"], subject["node"]
    return selection.link(
        "/why", **{**FRESH, "show": str(one["id"])}, rank=-1 if rank is None else int(rank), node=str(node or ""),
        begin=_known(window.get("first_step")), end=_known(window.get("last_step")), since_ns=-1, until_ns=-1,
    )  # fmt: skip


def condition(name: str, selection: Selection) -> Cell:
    """Return a condition as a link to its runbook."""
    return Link(name, selection.link("/conditions", **{**FRESH, "show": name}))


def host(node: str | None, selection: Selection) -> Cell:
    """Return a host as a link to its page, a dash where it is not known."""
    return Link(wording.clean(node), selection.link("/node", **FRESH, node=str(node))) if node else wording.UNKNOWN


def chosen(view: View, selection: Selection) -> Found | None:
    """Return the finding that is selected, by id, else by rank, else by host, else the first culprit."""
    found: Sequence[Found] = wording.culprits_first(view.report["findings"])
    named = [one for one in found if selection.show and one["id"] == selection.show]
    same_rank = [one for one in found if selection.rank >= 0 and one["subject"]["rank"] == selection.rank]
    same_host = [one for one in found if selection.node and one["subject"]["node"] == selection.node]
    for some in (named, same_rank, same_host):
        if some:
            return some[0]
    if selection.rank >= 0:
        return None
    return next(iter(culprits(view)), None)


def answers(view: View, one: Found) -> list[Found]:
    """Return the recommendations for a finding."""
    return [answer for answer in view.report["recommendations"] if one["id"] in answer["for"]]


def gain(answer: Found) -> str:
    """Return what a recommendation brings at best, in words."""
    told = answer["predicted"]
    hours = told["gpu_hours_saved"]
    saved = f", {wording.hours(hours)} GPU-hours of the recorded time" if hours else ""
    return f"step at best {wording.share(told['step_time_ratio'])} of today's time{saved}"


def _known(value: int | None) -> int:
    return -1 if value is None else int(value)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "finding"), counted(1200, "rank")
    ('1 finding', '1,200 ranks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
