"""The catalogue of conditions as the API tells it: what each is, what it reads, its page and its alerting rule."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from ..catalogue import Room, rooms
from ..outline import outline

Condition = dict[str, Any]


@cache
def listed() -> tuple[Condition, ...]:
    """Return every condition, by category and id."""
    return tuple(sorted((_told(room) for room in rooms("detectors")), key=lambda one: (one["category"], one["id"])))


def one_condition(name: str) -> Condition | None:
    """Return one condition by its id, None where there is none.

    >>> one_condition("coll-late-rank")["id"]
    'coll-late-rank'
    """
    return next((one for one in listed() if one["id"] == name), None)


def _told(room: Room) -> Condition:
    detector = room.load()
    rule = detector.alert()
    return {
        **asdict(outline(room)),
        "needs": list(detector.needs),
        "page": room.page().strip(),
        "alert": None if rule is None else asdict(rule),
    }
