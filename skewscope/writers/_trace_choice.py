"""Which rows go into a trace that may hold so many events: the longest, and what is left out is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ._trace_choice_arrows import Arrows, arrows

Array = np.ndarray[Any, Any]
ALWAYS = np.iinfo(np.int64).max
BLAME_SLICES = 5  # of one step and rank, about
STEPS_SHARE = 0.5  # of all events, for steps and where they went
SHARE = 0.1  # of all events, for arrows and for counters each
TABLES = {"steps": "steps", "phases": "steps", "ops": "ops", "collectives": "collectives", "arrivals": "arrivals",
          "blame": "rank_steps"}  # fmt: skip


class RankRows:
    """Chosen rows of one table, sorted by rank: `span(rank)` tells where those of a rank stand among `rows`.

    >>> made = RankRows(np.array([0, 2, 3]), np.array([1, 1, 0, 1]))
    >>> made.rows.tolist(), made.span(1), made.span(7)
    ([2, 0, 3], slice(1, 3, None), slice(0, 0, None))
    """

    def __init__(self, rows: Array, ranks: Array) -> None:
        self.rows = rows[np.argsort(ranks[rows], kind="stable")]
        rank, first = np.unique(ranks[self.rows], return_index=True)
        ends = np.append(first, len(self.rows))[1:].tolist()
        self._spans = {
            who: slice(low, high) for who, low, high in zip(rank.tolist(), first.tolist(), ends, strict=True)
        }

    def span(self, rank: int) -> slice:
        """Return the place of a rank's rows."""
        return self._spans.get(rank, slice(0, 0))


@dataclass(frozen=True)
class Choice:
    """What to write: rows per kind of slices, arrows, how many counter values, and what is left out in words."""

    rows: Mapping[str, RankRows]
    arrows: Arrows
    counters: int
    left_out: Mapping[str, str]

    def frames(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """Return the chosen rows of each kind, sorted by rank: a rank's rows are then a slice without a copy."""
        return {kind: tables[TABLES[kind]].iloc[chosen.rows] for kind, chosen in self.rows.items()}


def choice(tables: Mapping[str, pd.DataFrame], most_events: int) -> Choice:
    """Return what to write; phases, operations, collectives and arrivals compete by their length.

    Steps, and where they went, are kept whole; where they would fill more than half of the trace, every k-th step is.
    """
    is_step = np.asarray(tables["steps"]["phase"] == "step")
    length = {"phases": np.where(is_step, -1, _length(tables["steps"])), "ops": _length(tables["ops"]),
              "collectives": _call_length(tables["collectives"]), "arrivals": _stay(tables["arrivals"])}  # fmt: skip
    kept, left = _steps(tables, is_step, most_events)
    room = most_events - int(kept["steps"].sum()) - BLAME_SLICES * int(kept["blame"].sum())
    reserved = int(SHARE * most_events)
    drawn = arrows(tables["arrivals"], min(reserved, max(room, 0)) // 2)
    length["arrivals"][np.unique(np.concatenate([drawn.late, drawn.waiting]))] = ALWAYS  # an arrow needs both its ends
    kept |= _longest(length, {"arrivals": 2}, max(room - 2 * len(drawn.late) - reserved, 0))
    rows = {
        kind: RankRows(np.flatnonzero(mask), tables[TABLES[kind]]["rank"].to_numpy()) for kind, mask in kept.items()
    }
    left |= {kind: _said(length[kind], kept[kind]) for kind in length}
    return Choice(rows, drawn, reserved, {kind: text for kind, text in left.items() if text})


def _steps(
    tables: Mapping[str, pd.DataFrame], is_step: Array, most_events: int
) -> tuple[dict[str, Array], dict[str, str]]:
    """Return which rows of steps and of `rank_steps` are kept, and what is left out."""
    derived = tables["rank_steps"]["step"].to_numpy()
    recorded = tables["steps"]["step"].to_numpy()
    wanted = int(is_step.sum()) + BLAME_SLICES * len(derived)
    stride = max(1, -(-wanted // max(int(STEPS_SHARE * most_events), 1)))
    kept = {"steps": is_step, "blame": np.ones(len(derived), dtype=bool)}
    if stride == 1:
        return kept, {}
    every = np.unique(np.concatenate([recorded[is_step], derived]))
    shown = every[::stride]
    kept = {"steps": is_step & np.isin(recorded, shown), "blame": np.isin(derived, shown)}
    return kept, {"steps": f"{len(every) - len(shown)} of {len(every)} steps: every {stride}th is shown"}


def _length(rows: pd.DataFrame) -> Array:
    return np.asarray(rows["end_ns"].to_numpy() - rows["start_ns"].to_numpy()).astype(np.int64)


def _call_length(rows: pd.DataFrame) -> Array:
    """Return how long calls take, -1 for those without any time, and for open ones the longest of all."""
    ready, start, end, told = (rows[name].to_numpy() for name in ("ready_ns", "start_ns", "end_ns", "duration_ns"))
    begin = np.where(ready >= 0, ready, start)
    length = np.where(told >= 0, told, np.where(end >= 0, end - begin, 0))
    is_open = np.asarray(rows["state"].isin(["started", "scheduled", "timed-out"]))
    return np.where(begin < 0, -1, np.where(is_open & (end < 0), ALWAYS, np.maximum(length, 0)))


def _stay(rows: pd.DataFrame) -> Array:
    wait = np.nan_to_num(rows["wait_ns"].to_numpy(), nan=0.0)
    stay = wait + np.maximum(np.nan_to_num(rows["transfer_ns"].to_numpy(), nan=0.0), 0.0)
    return np.where(rows["ready_ns"].to_numpy() >= 0, np.rint(stay), -1).astype(np.int64)


def _longest(length: Mapping[str, Array], cost: Mapping[str, int], room: int) -> dict[str, Array]:
    """Return a mask per table of the longest rows of all tables that together cost no more than `room`."""
    whole = np.concatenate(list(length.values()))
    price = np.concatenate([np.full(len(rows), cost.get(name, 1)) for name, rows in length.items()])
    usable = whole >= 0
    if int(price[usable].sum()) <= room:
        mask = usable
    else:
        order = np.argsort(-whole, kind="stable")
        order = order[usable[order]]
        mask = np.zeros(len(whole), dtype=bool)
        mask[order[np.cumsum(price[order]) <= room]] = True
    ends = np.cumsum([len(rows) for rows in length.values()])
    return dict(zip(length, np.split(mask, ends[:-1]), strict=True))


def _said(length: Array, mask: Array) -> str:
    lost = (length >= 0) & ~mask
    if not lost.any():
        return ""
    return (
        f"{int(lost.sum())} of {int((length >= 0).sum())} rows, none longer than {int(length[lost].max()) / 1e3:g} us"
    )
