"""Which kernels follow each other again and again, and which of these sequences are worth fusing?

*Sequences*: runs of kernels on one stream that come more than once, of 2 to `longest_count` kernels, those that take
most time first; only ones that cannot be made longer without coming less often; occurrences that overlap count once.
*Below operators*: the whole sequence of kernels that a call of an operator launches, with everything in it
(HolisticTraceAnalysis' frequent kernel sequences). A sequence of short kernels is a candidate for fusing: fusing
saves the gaps between them at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..stats import segments
from ..stats import sequences as repeating
from . import _calls, _device_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sequences:
    """View of sequences; a kernel is short below `short_below_s`, `operator` is part of the names looked below."""

    needs: ClassVar[tuple[str, ...]] = ("device_work",)
    longest_count: int = 12
    short_below_s: float = 10e-6
    operator: str = ""
    rows_count: int = 200

    def show(self, tables: Frames) -> Shown:
        """Return the repeated sequences of kernels, those below operators, and the candidates for fusing."""
        work = _device_rows.work(tables)
        found = {"sequences": self._repeated(work)}
        fusing = found["sequences"]
        fusing = fusing[fusing["short_ratio"] == 1.0]
        if len(fusing):
            found["fusing"] = fusing.sort_values(["gap_s", "sequence"], ascending=[False, True], ignore_index=True)
        if len(tables["operators"]):
            found["below_operators"] = self._below(_calls.calls(tables["operators"]), work)
        return Shown(
            found,
            _said(found, float(work["length_ns"].sum()) / 1e9),
            (),
            (Picture("sequences", "bars", "Time in repeated sequences of kernels", "sequence", "device_s"),),
        )

    def _repeated(self, work: pd.DataFrame) -> pd.DataFrame:
        """Return the maximal repeated sequences, most time first; each occurrence stands for itself only once."""
        code = work["name"].array.codes.astype(np.int64)
        start, end, length = (work[name].to_numpy() for name in ("start_ns", "end_ns", "length_ns"))
        sums = np.concatenate([[0], np.cumsum(length)])
        rows = []
        for grams in repeating.repeated(code, _device_rows.lane(work), self.longest_count):
            over = segments.runs(grams.gram)
            time = segments.total(sums[grams.first + grams.length] - sums[grams.first], over)
            for run in np.argsort(-time, kind="stable")[: self.rows_count]:
                first = grams.first[over.first[run] : over.first[run] + over.size[run]]
                first = first[repeating.apart(first, grams.length)]
                last = first + grams.length - 1
                if len(first) < 2:
                    continue
                busy = int((sums[last + 1] - sums[first]).sum())
                each = length[(first[:, None] + np.arange(grams.length)).ravel()]
                rows.append(
                    (
                        grams.length,
                        len(first),
                        busy / 1e9,
                        float((end[last] - start[first]).sum()) / 1e9,
                        float((each < self.short_below_s * 1e9).mean()),
                        int(first[0]),
                    )
                )
        columns = ["kernels_count", "times_count", "device_s", "span_s", "short_ratio", "row"]
        made = pd.DataFrame(rows, columns=columns)
        made["gap_s"] = (made["span_s"] - made["device_s"]).clip(lower=0)
        made = made.sort_values(
            ["device_s", "kernels_count", "row"], ascending=[False, False, True], kind="stable"
        ).head(self.rows_count)
        names = np.asarray(work["name"].array.categories, dtype=object)
        made.insert(
            0,
            "sequence",
            [
                " > ".join(_device_rows.short(name) for name in names[code[row : row + count]])
                for row, count in zip(made["row"], made["kernels_count"], strict=True)
            ],
        )
        return made.drop(columns="row").reset_index(drop=True)

    def _below(self, forest: _calls.Calls, work: pd.DataFrame) -> pd.DataFrame:
        """Return the sequences of kernels that calls of outermost operators (named like `operator`) launch."""
        names = forest.frame["name"].array
        chosen = np.array([self.operator in name for name in names.categories] + [False])[names.codes]
        top = _calls.outermost(forest, chosen & forest.of_kind("operator"))
        row = _device_rows.above(work, forest)
        call = np.where(row >= 0, top[np.maximum(row, 0)], -1)
        mine = np.flatnonzero(call >= 0)
        mine = mine[np.lexsort((work["start_ns"].to_numpy()[mine], call[mine]))]
        over = segments.runs(call[mine])
        distinct, number = repeating.equal_runs(work["name"].array.codes.astype(np.int64)[mine], over)
        owner = call[mine][over.first]
        made = pd.DataFrame(
            {
                "operator": forest.names(owner),
                "number": number,
                "kernels_count": over.size,
                "device_s": segments.total(work["length_ns"].to_numpy()[mine], over) / 1e9,
                "host_s": (forest.end - forest.start)[owner] / 1e9,
            }
        )
        groups = made.groupby(["operator", "number"], sort=False)
        found = groups.agg(
            calls_count=("device_s", "size"),
            kernels_count=("kernels_count", "first"),
            device_s=("device_s", "sum"),
            host_s=("host_s", "sum"),
        ).reset_index()
        kernels = np.asarray(work["name"].array.categories, dtype=object)
        found["sequence"] = [
            " > ".join(_device_rows.short(name) for name in kernels[distinct[run]]) for run in found["number"]
        ]
        by = ["device_s", "operator", "sequence"]
        found = found.drop(columns="number").sort_values(
            by, ascending=[False, True, True], kind="stable", ignore_index=True
        )
        return found.head(self.rows_count)


def _said(found: dict[str, pd.DataFrame], whole_s: float) -> tuple[str, ...]:
    told = []
    for name, count, times, time in zip(
        *(found["sequences"][key][:1] for key in ("sequence", "kernels_count", "times_count", "device_s")), strict=True
    ):
        told.append(
            f"The costliest sequence that repeats has {count} kernels, comes {times} times and takes "
            f"{_device_rows.share(time, whole_s):.0%} of device time; it begins with {name.split(' > ')[0]}."
        )
    if not told:
        told.append("No sequence of kernels repeats.")
    for name, times, gap in zip(
        *(
            found.get("fusing", pd.DataFrame({"sequence": [], "times_count": [], "gap_s": []}))[key][:1]
            for key in ("sequence", "times_count", "gap_s")
        ),
        strict=True,
    ):
        told.append(f"Fusing {name}, {times} times, saves its gaps at least: {gap * 1e3:.3g} ms.")
    return tuple(told)
