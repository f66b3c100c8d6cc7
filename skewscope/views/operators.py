"""Which operators take the time, on the host and on the device?

*By name*: calls; host time in all (calls inside a call of the same name count once) and the operator's own (without
the operators and runtime calls in it); device time that it launched itself, and with all that runs below it; its
share of all device time; how far the slowest rank is from the middle one. *By name and shapes*: the same per size of
the inputs. *By kernels*: which kernels a call launches, how often, and the delays from its start to the first launch
and from there to the device (HolisticTraceAnalysis calls these "aten op kernels and delay"). Device time is the sum
of durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from ..stats import segments, sequences
from . import _calls, _device_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Operators:
    """View of operators; `rows_count` of the largest of each table are shown."""

    needs: ClassVar[tuple[str, ...]] = ("operators",)
    rows_count: int = 500

    def show(self, tables: Frames) -> Shown:
        """Return the breakdown of operators by name, by shapes, by kernels launched and by rank."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work_or_none(tables)
        row = _device_rows.above(work, forest)
        every = _every(forest, work, row)
        if not len(every):
            raise NoData("no operators among the host calls of this recording; profile with ProfilerActivity.CPU")
        by_name = _by_name(every)
        shaped = _grouped(every, ["name", "shapes", "dtypes"])
        by_shapes = shaped[shaped["shapes"] != ""].reset_index(drop=True)
        found = {
            "by_name": by_name,
            "by_shapes": by_shapes,
            "by_kernels": _by_kernels(forest, work, row),
            "by_rank": _by_rank(every, by_name["name"].head(20)),
        }
        outside = float(work["length_ns"].to_numpy()[row < 0].sum()) / 1e9
        return Shown(
            {name: part.head(self.rows_count) for name, part in found.items()},
            _said(by_name),
            _notes(outside, by_shapes, work),
            (
                Picture("by_name", "bars", "Device time by operator", "name", "device_direct_s")
                if len(work)
                else Picture("by_name", "bars", "Host time by operator", "name", "host_self_s"),
            ),
        )


def _every(forest: _calls.Calls, work: pd.DataFrame, row: Array) -> pd.DataFrame:
    """Return one row per call of an operator, with its times in seconds."""
    known = row >= 0
    direct = np.bincount(row[known], weights=work["length_ns"].to_numpy()[known], minlength=len(forest.start))
    kernels = np.bincount(row[known], minlength=len(forest.start))
    operator = forest.of_kind("operator")
    launched = operator | (direct > 0)
    name = forest.frame["name"].array.codes.astype(np.int64)
    first = _calls.first_of_name(forest, name)
    length = (forest.end - forest.start) / 1e9
    below = _calls.below(forest, direct) / 1e9
    inner = forest.of_kind("operator", "runtime")
    found = forest.frame[["rank", "name", "shapes", "dtypes"]].assign(
        host_self_s=_calls.self_ns(forest, inner) / 1e9,
        host_total_s=np.where(first, length, 0.0),
        device_direct_s=direct / 1e9,
        device_below_s=np.where(first, below, 0.0),
        kernels_count=kernels,
    )
    return found[launched]


TIMES = ("host_self_s", "host_total_s", "device_direct_s", "device_below_s", "kernels_count")


def _grouped(every: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    groups = every.groupby(keys, observed=True, sort=False)
    found = groups[list(TIMES)].sum()
    found.insert(0, "calls_count", groups.size())
    found["device_mean_s"] = found["device_direct_s"] / found["calls_count"]
    whole = float(every["device_direct_s"].sum())
    found["device_share_ratio"] = found["device_direct_s"] / whole if whole > 0 else 0.0
    found = found.reset_index()
    for key in keys:
        found[key] = found[key].astype(object)
    by = ["device_direct_s", "host_self_s", *keys]
    return found.sort_values(by, ascending=[False, False, *[True] * len(keys)], kind="stable").reset_index(drop=True)


def _by_name(every: pd.DataFrame) -> pd.DataFrame:
    """Return the times by name, with the spread over ranks of the device time below, or of the host's without any."""
    found = _grouped(every, ["name"])
    told = "device_below_s" if every["device_below_s"].any() else "host_total_s"
    wide = every.groupby(["name", "rank"], observed=True)[told].sum().unstack().fillna(0.0)
    wide = wide.reindex(found["name"])
    middle, most = wide.median(axis=1).to_numpy(), wide.max(axis=1).to_numpy()
    found["slowest_rank"] = np.where(most > 0, wide.columns.to_numpy()[wide.to_numpy().argmax(axis=1)], -1)
    found["rank_spread_ratio"] = np.divide(most, middle, out=np.full(len(most), np.nan), where=middle > 0)
    return found


def _by_rank(every: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Return the times of the largest operators by rank."""
    kept = every[every["name"].isin(set(names))]
    groups = kept.groupby(["name", "rank"], observed=True, sort=True)
    found = groups[list(TIMES)].sum().assign(calls_count=groups.size()).reset_index()
    found["name"] = found["name"].astype(object)
    place = {name: index for index, name in enumerate(names)}
    return found.sort_values(
        ["name", "rank"], key=lambda part: part.map(place) if part.name == "name" else part, kind="stable"
    ).reset_index(drop=True)


def _by_kernels(forest: _calls.Calls, work: pd.DataFrame, row: Array) -> pd.DataFrame:
    """Return, per operator and sequence of kernels that one call launches, how often and with which delays."""
    columns = ["name", "kernels", "calls_count", "kernels_count", "device_s", "first_launch_delay_s", "device_delay_s"]
    launch = work["launch_ns"].to_numpy()
    mine = np.flatnonzero((row >= 0) & (launch >= 0))
    mine = mine[segments.ordered(row[mine], launch[mine], work["start_ns"].to_numpy()[mine])]
    if not len(mine):
        return pd.DataFrame(columns=columns)
    code = work["name"].array.codes.astype(np.int64)[mine]
    runs = segments.runs(row[mine])
    call, first = row[mine][runs.first], mine[runs.first]
    order, sequence = sequences.equal_runs(code, runs)
    found = pd.DataFrame(
        {
            "name": forest.frame["name"].array.codes[call],
            "sequence": sequence,
            "kernels_count": runs.size,
            "device_s": segments.total(work["length_ns"].to_numpy()[mine], runs) / 1e9,
            "first_launch_delay_s": (launch[first] - forest.start[call]) / 1e9,
            "device_delay_s": np.maximum(work["start_ns"].to_numpy()[first] - launch[first], 0) / 1e9,
        }
    )
    groups = found.groupby(["name", "sequence"], sort=False)
    means = groups[["first_launch_delay_s", "device_delay_s"]].mean()
    told = means.assign(
        calls_count=groups.size(), kernels_count=groups["kernels_count"].first(), device_s=groups["device_s"].sum()
    ).reset_index()
    names = np.asarray(forest.frame["name"].array.categories, dtype=object)
    kernels = np.asarray(work["name"].array.categories, dtype=object)
    told["name"] = names[told["name"].to_numpy()]
    told["kernels"] = [" > ".join(_device_rows.short(name) for name in kernels[order[run]]) for run in told["sequence"]]
    by = ["device_s", "calls_count", "name", "kernels"]
    return told.sort_values(by, ascending=[False, False, True, True], kind="stable")[columns].reset_index(drop=True)


def _said(by_name: pd.DataFrame) -> tuple[str, ...]:
    told = []
    if len(by_name) and by_name["device_direct_s"].iloc[0] > 0:
        top = by_name.head(3)
        parts = [f"{name} {part:.0%}" for name, part in zip(top["name"], top["device_share_ratio"], strict=True)]
        told.append(f"Most device time is launched by {', '.join(parts)}.")
    host = by_name.sort_values("host_self_s", ascending=False, kind="stable").head(1)
    for name, own, calls in zip(host["name"], host["host_self_s"], host["calls_count"], strict=True):
        told.append(f"The host spends most in {name}: {own * 1e3:.3g} ms in {calls} calls.")
    wide = by_name[(by_name["rank_spread_ratio"] > 1.2) & (by_name["device_share_ratio"] > 0.02)].head(1)
    for name, rank, ratio in zip(wide["name"], wide["slowest_rank"], wide["rank_spread_ratio"], strict=True):
        told.append(f"{name} takes {ratio:.2f} times the median rank's device time on rank {rank}.")
    return tuple(told)


def _notes(outside_s: float, by_shapes: pd.DataFrame, work: pd.DataFrame) -> tuple[str, ...]:
    told = [] if len(work) else ["No device work was recorded: these are the host's times."]
    if outside_s > 0:
        told.append(f"{outside_s * 1e3:.3g} ms of device work was launched by no recorded operator and is in no row.")
    if not len(by_shapes):
        told.append("No shapes were recorded: profile with record_shapes=True for the table by shapes.")
    return tuple(told)
