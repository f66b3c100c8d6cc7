"""Conditions: everything that can be found, and for each how it is seen and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar

from skewscope.catalogue import Room, rooms
from skewscope.outline import Outline, outlines
from skewscope.reports import wording

from .._culprits import FRESH, condition, who
from .._page import Block, Cell, Control, Link
from .._selection import Selection
from .._view import View

TITLE = "Conditions"


class Conditions:
    """The catalogue with its runbooks."""

    path: ClassVar[str] = "/conditions"
    title: ClassVar[str] = TITLE
    order: ClassVar[int] = 11
    needs: ClassVar[tuple[str, ...]] = ()

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the runbook of the selected condition where there is one, then the catalogue."""
        known = {room.id: room for room in rooms("detectors")}
        room = known.get(selection.show)
        catalogue = _catalogue(view, selection)
        return (catalogue,) if room is None else (*_runbook(view, room, selection), catalogue)


def _catalogue(view: View, selection: Selection) -> Block:
    every = outlines()
    kinds = sorted({one.category for one in every})
    chosen = selection.order if selection.order in kinds else ""
    counts = _counts(view)
    shown = [one for one in every if not chosen or one.category == chosen]
    shown.sort(key=lambda one: -counts.get(one.id, 0))
    rows = tuple(_row(one, counts, selection) for one in shown)
    there = [name for name in counts if counts[name]]
    said = f"{len(every)} conditions can be found; {len(there)} are found in what is loaded now."
    options = (("", "all"), *((kind, kind) for kind in kinds))
    columns = ("condition", "what it is", "category", "severity", "found now")
    return Block("catalogue", TITLE, said, columns=columns, rows=rows,
                 controls=(Control("Category", "order", options, chosen),))  # fmt: skip


def _counts(view: View) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in view.report["findings"]:
        counts[one["condition"]] = counts.get(one["condition"], 0) + 1
    return counts


def _row(one: Outline, counts: dict[str, int], selection: Selection) -> tuple[Cell, ...]:
    found = counts.get(one.id, 0)
    named = Link(one.id, selection.link("/conditions", show=one.id))
    return named, one.title, one.category, one.severity, str(found) if found else "-"


def _runbook(view: View, room: Room, selection: Selection) -> list[Block]:
    detector, page = room.load(), room.page().strip()
    parts = [_part(text) for text in re.split(r"\n\s*\n", page) if text.strip()]
    found = [one for one in view.report["findings"] if one["condition"] == room.id]
    named = sorted({other.id for other in rooms("detectors")} & set(re.findall(r"`([a-z0-9-]+)`", page)) - {room.id})
    rows: list[tuple[Cell, ...]] = [
        (name or ("" if at else "what it means"), text) for at, (name, text) in enumerate(parts)
    ]
    rows += [("found now", who(one, selection)) for one in found]
    rows += [("look-alike or cause", condition(name, selection)) for name in named]
    rows += [("threshold", f"{one.name} = {getattr(detector, one.name)}") for one in fields(detector)]
    rule = detector.alert()
    if rule is not None:
        rows += [("alert", rule.alert), ("its expression", rule.expr), ("for", wording.seconds(rule.for_s))]
    rows.append(("reads the tables", ", ".join(detector.needs)))
    said = f"{parts[0][1].rstrip('.') if parts else room.id}; {len(found)} of them in what is loaded now."
    links = (Link("What to do about what was found", selection.link("/actions", **FRESH)),)
    made = [Block("runbook", f"Runbook: {room.id}", said, columns=("part", "text"), rows=tuple(rows), links=links)]
    checks = _checks(detector)
    return [*made, checks] if checks is not None else made


def _part(text: str) -> tuple[str, str]:
    r"""Return the heading of a paragraph, "" where it has none, and its text.

    >>> _part("What to do\nDrain it.\nThen look.")
    ('What to do', 'Drain it. Then look.')
    """
    head, _, rest = text.strip().partition("\n")
    if rest and len(head) <= 40 and not head.rstrip().endswith((".", ",", ":")):
        return head.strip(), " ".join(rest.split())
    return "", " ".join(text.split())


def _checks(detector: Any) -> Block | None:  # noqa: ANN401 - rooms of every kind
    """Return the troubleshooting guide of a condition that has one."""
    if not hasattr(detector, "guide"):
        return None
    rows = tuple(
        (one.name, one.what, f"{one.take} of {one.metric} {one.expect}", one.query, one.yes, one.no)
        for one in detector.guide()
    )
    if not rows:
        return None
    said = f"{len(rows)} checks, in the order to do them; `skewscope runbook` walks them on the data at hand."
    columns = ("check", "what", "expects", "PromQL", "if so", "if not")
    return Block("checks", "Checks", said, columns=columns, rows=rows)
