"""How does each rank's device spend its time: computing, communicating, copying or idle?

Time is counted once: what runs beside computation is hidden by it. So compute + exposed communication + exposed copies
+ other + idle is the whole span, from the first to the last work of the device. `non_compute` (the exposed parts
together) and `idle` are what HolisticTraceAnalysis calls so; the exposed parts are those of TraceLens'
gpu_timeline. Recordings without devices are answered from host threads; there *other* is input, garbage collection
and checkpoints. The table `together` tells which kinds of work ran at the same time, as its kernel breakdown does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.reports import wording
from skewscope.stats import intervals

from ._needed import largest, smallest
from ._work import COPY, FILL, Array, Work, device, merged, totals, whole_steps

PARTS = ("compute_s", "exposed_communication_s", "exposed_copy_s", "exposed_other_s", "idle_s")
WORDS = ("compute", "exposed communication", "exposed copies and fills", "other work of the host", "idle")


@dataclass(frozen=True)
class TemporalBreakdown:
    """The view; it has no settings."""

    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return the breakdown of each rank and of each step; raises NoData without ops."""
        work = device(tables)
        ranks = np.unique(work.rank)
        rows = _ranks(work, ranks)
        steps = _steps(tables, work)
        notes = () if work.on_device else ("No device work was recorded: these are the times of host threads.",)
        pictures = (
            Picture("ranks", "stacked", "Where the time of each rank goes", "rank", parts=PARTS),
            Picture("steps", "lines", "Busy share of each step", "step", "busy_percent", "rank"),
        )
        found = {"ranks": rows, "steps": steps, "together": _together(work, ranks)}
        return Shown(found, _said(rows), notes, pictures)


def split(inside: Sequence[Array], span: Array) -> dict[str, Array]:
    """Return the parts of `span` in s; `inside` are four times that include one another.

    They are compute, that or communication, those or copies, and any work.

    >>> made = split([np.array([time_s]) for time_s in (4.0, 6.0, 7.0, 7.5)], np.array([10.0]))
    >>> [float(made[name][0]) for name in PARTS], float(made["non_compute_s"][0])
    ([4.0, 2.0, 1.0, 0.5, 2.5], 3.5)
    """
    compute, moving, copying, busy = inside
    return {
        "compute_s": compute, "exposed_communication_s": moving - compute, "exposed_copy_s": copying - moving,
        "exposed_other_s": busy - copying, "idle_s": span - busy, "non_compute_s": busy - compute,
    }  # fmt: skip


def _ranks(work: Work, ranks: Array) -> pd.DataFrame:
    busy, place = work.busy, np.searchsorted(work.busy.lane, ranks)
    last = np.append(place[1:], len(busy.lane)) - 1
    span = (busy.end[last] - busy.start[place]) / 1e9
    parts = split([totals(spans, ranks) for spans in (work.compute, work.moving, work.copying, busy)], span)
    share = np.where(span > 0, span, np.nan)
    return pd.DataFrame({
        "rank": ranks, "span_s": span, **{name: parts[name] for name in PARTS},
        **{name.replace("_s", "_percent"): 100 * parts[name] / share for name in PARTS},
        "non_compute_s": parts["non_compute_s"], "communication_s": totals(work.communication, ranks),
    })  # fmt: skip


def _together(work: Work, ranks: Array) -> pd.DataFrame:
    """Return how long which kinds of work ran together on each rank, each moment counted once."""
    copies = work.spans(COPY, FILL)
    kinds = {"compute": work.compute, "communication": work.communication, "copies": copies}
    one, two, three = (totals(spans, ranks) for spans in kinds.values())
    first, second, last = (
        totals(spans, ranks)
        for spans in (work.moving, merged(work.compute, copies), merged(work.communication, copies))
    )
    any_of = totals(work.copying, ranks)
    all_of = one + two + three - first - second - last + any_of
    parts = {
        "compute": any_of - last, "communication": any_of - second, "copies": any_of - first,
        "compute + communication": one + two - first - all_of, "compute + copies": one + three - second - all_of,
        "communication + copies": two + three - last - all_of, "compute + communication + copies": all_of,
    }  # fmt: skip
    rows = [
        pd.DataFrame({"rank": ranks, "kinds": name, "time_s": np.maximum(time_s, 0.0)})
        for name, time_s in parts.items()
    ]
    made = pd.concat(rows, ignore_index=True)
    return made.sort_values(["rank", "time_s"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _steps(tables: Frames, work: Work) -> pd.DataFrame:
    rows = whole_steps(tables, work)
    rank, start, end = (rows[name].to_numpy() for name in ("rank", "start_ns", "end_ns"))
    kinds = (work.compute, work.moving, work.copying, work.busy)
    span = (end - start) / 1e9
    parts = split([intervals.covered(spans, rank, start, end) / 1e9 for spans in kinds], span)
    return pd.DataFrame({
        "step": rows["step"], "rank": rows["rank"], "span_s": span, **{name: parts[name] for name in PARTS},
        "busy_percent": 100 * (1 - parts["idle_s"] / np.where(span > 0, span, np.nan)),
    })  # fmt: skip


def _said(rows: pd.DataFrame) -> tuple[str, ...]:
    total = rows[list(PARTS)].sum()
    whole = float(rows["span_s"].sum()) or 1.0
    parts = ", ".join(f"{wording.share(total[name] / whole)} {word}" for name, word in zip(PARTS, WORDS, strict=True)
                      if total[name] > 0)  # fmt: skip
    who = f"{len(rows)} ranks" if len(rows) > 1 else f"Rank {rows['rank'].iloc[0]}"
    said = [f"{who}: {parts}."]
    if rows["compute_percent"].notna().sum() > 1:
        least, most = smallest(rows, "compute_percent"), largest(rows, "compute_percent")
        said.append(
            f"Rank {least['rank']} computes {wording.share(least['compute_percent'] / 100)} of its time, rank "
            f"{most['rank']} {wording.share(most['compute_percent'] / 100)}; the median is "
            f"{wording.share(float(rows['compute_percent'].median()) / 100)}."
        )
    return tuple(said)
