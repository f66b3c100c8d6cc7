"""Asks views: which there are, what each needs, and the answers to all that were asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import catalogue
from .catalogue import Room
from .contracts import Frames, Shown, View
from .errors import NoData, UsageError
from .frames import all_tables

DETAILED = ("operators", "device_work", "allocations")  # tables that only a detailed reading fills
SETS = ("light", "deep", "all", "none")


@dataclass(frozen=True)
class Answer:
    """What a view answered: `shown`, or None and in `missing` the reason; `settings` are those it was asked with."""

    view: str
    question: str
    settings: Mapping[str, Any]
    shown: Shown | None
    missing: str = ""


def question(room: Room) -> str:
    """Return the question that a view answers: the first line of its page."""
    return room.page().strip().partition("\n")[0].rstrip()


def deep(room: Room) -> bool:
    """Return whether a view needs a detailed reading."""
    return any(name in DETAILED for name in room.kind().needs)


def named(names: Collection[str]) -> tuple[Room, ...]:
    """Return the views of these names, each once; `light`, `deep`, `all` and `none` stand for sets of them.

    Raises UsageError that lists near names.

    >>> named(["none"])
    ()
    """
    found: dict[str, Room] = {}
    for name in names:
        every = catalogue.rooms("views") if name in SETS else ()
        chosen = [one for one in every if name == "all" or (name != "none" and deep(one) == (name == "deep"))]
        for one in chosen if name in SETS else [catalogue.room("views", name.replace("_", "-"))]:
            found[one.id] = one
    return tuple(found.values())


def of_ranks(tables: Frames, ranks: Sequence[tuple[int, int]]) -> dict[str, pd.DataFrame]:
    """Return the tables with only the rows of these ranks, first and last of each stretch; rows of no rank stay.

    Raises UsageError where no row of theirs is there.
    """
    made, seen = {}, False
    for name, rows in tables.items():
        if "rank" not in rows or not len(rows):
            made[name] = rows
            continue
        rank = rows["rank"].to_numpy()
        mine = np.logical_or.reduce([(rank >= first) & (rank <= last) for first, last in ranks])
        seen = seen or bool(mine.any())
        made[name] = rows[mine | (rank < 0)].reset_index(drop=True)
    if not seen:
        known = np.unique(np.concatenate([rows["rank"].to_numpy() for rows in tables.values() if "rank" in rows]))
        known = known[known >= 0]
        held = f"ranks {known[0]} to {known[-1]}" if len(known) else "no ranks"
        raise UsageError(f"--ranks: the recording holds none of them; it holds {held}")
    return made


def with_settings(rooms: Sequence[Room], given: Mapping[str, str]) -> list[View]:
    """Return a view of each room with the settings that it knows, as `top_count` or `kernels.top_count`.

    Raises UsageError for a setting that none of them knows, or a value of the wrong type.
    """
    unused = set(given)
    made: list[View] = []
    for room in rooms:
        view = room.load()
        known = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            owner, _, field_name = name.rpartition(".")
            if field_name in known and owner.replace("_", "-") in ("", room.id):
                values[field_name] = _value(name, text, known[field_name])
                unused.discard(name)
        made.append(dataclasses.replace(view, **values))
    if unused:
        fields = {f"{room.id}.{field.name}" for room in rooms for field in dataclasses.fields(room.kind())}
        listed = ", ".join(sorted(fields)) or "none"
        raise UsageError(f"--set {min(unused)}: no such setting; the settings of these views are: {listed}")
    return made


def answers(
    tables: Frames, rooms: Sequence[Room], settings: Mapping[str, str] | None = None,
    on_fault: Callable[[str, Exception], None] | None = None, progress: Callable[[int, int, str], None] | None = None,
) -> list[Answer]:  # fmt: skip
    """Return the answer of each view; one that lacks data says in `missing` what.

    A view that fails is told to `on_fault` (view, error) and has no answer; without one the error is raised.
    """
    found, tables = [], all_tables(tables)
    for place, (room, view) in enumerate(zip(rooms, with_settings(rooms, settings or {}), strict=True)):
        shown, missing = None, ""
        try:
            shown = view.show(tables)
        except NoData as nothing:
            missing = str(nothing)
        except Exception as error:
            if on_fault is None:
                raise
            on_fault(room.id, error)
            missing = f"the view failed: {type(error).__name__}: {error}"
        used = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}  # type: ignore[arg-type]
        found.append(Answer(room.id, question(room), used, shown, missing))
        if progress is not None:
            progress(place + 1, len(rooms), room.id)
    return found


def _value(name: str, text: str, like: object) -> object:
    """Return the text as a value of the type of `like`."""
    if isinstance(like, bool):
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise UsageError(f"--set {name}={text}: wants true or false")
    for kind, wanted in ((int, "a whole number"), (float, "a number")):
        if isinstance(like, kind):
            try:
                return kind(text)
            except ValueError:
                raise UsageError(f"--set {name}={text}: wants {wanted}") from None
    return text
