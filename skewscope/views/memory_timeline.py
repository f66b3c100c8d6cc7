"""How much memory is in use over time, what holds it at the peak, how fragmented is it, does it leak?

*Allocated* is what tensors use, *reserved* what the allocator holds of the device; reserved minus allocated is free
for tensors but perhaps only in pieces (fragmentation). What holds the peak are the allocations of that moment that
were not given back yet, by the operator that made them; what was allocated before the recording began is one row of
its own. The leak slope is the median growth per step of the lowest use within each step (Sen, JASA 1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from ..stats import segments
from . import _calls

Array = np.ndarray[Any, Any]

FEWEST_STEPS = 3
BEFORE = "before the recording"


@dataclass(frozen=True)
class MemoryTimeline:
    """View of memory; each device's curve has at most `points_count` points, of which each keeps the highest moment."""

    needs: ClassVar[tuple[str, ...]] = ("allocations",)
    points_count: int = 1000
    rows_count: int = 200

    def show(self, tables: Frames) -> Shown:
        """Return use over time, the peak and its holders, the largest allocations. NoData where none are recorded."""
        rows = tables["allocations"]
        if not len(rows):
            raise NoData("no allocations in this recording; profile with profile_memory=True")
        rows = _ordered(rows)
        over = segments.runs(rows["lane"].to_numpy())
        operator = _operators(rows, tables)
        freed = _freed(rows)
        parts = [
            _device(rows.iloc[first : first + size], freed[first : first + size], operator[first : first + size], first)
            for first, size in zip(over.first.tolist(), over.size.tolist(), strict=True)
        ]
        devices = pd.DataFrame([part[0] for part in parts])
        holders = pd.concat([part[1] for part in parts], ignore_index=True)
        found = {
            "devices": devices,
            "timeline": self._timeline(rows, over),
            "holders": holders.head(self.rows_count * len(parts)),
            "largest": self._largest(rows, freed, operator),
        }
        return Shown(
            found,
            _said(devices, holders),
            _notes(devices),
            (
                Picture("timeline", "lines", "Memory in use", "at_s", "allocated_bytes", "device"),
                Picture("holders", "bars", "What holds the peak", "operator", "held_bytes"),
            ),
        )

    def _timeline(self, rows: pd.DataFrame, over: segments.Runs) -> pd.DataFrame:
        """Return the curve of each device, the highest moment of each of `points_count` stretches of events."""
        place = segments.ordinal(over)
        size = over.size[over.of]
        bucket = np.where(size > self.points_count, place * self.points_count // size, place)
        part = segments.runs(over.of, bucket)
        allocated = rows["allocated_bytes"].to_numpy()
        highest = np.lexsort((-allocated, part.of))[part.first]
        first_ns = int(rows["t_ns"].min())
        kept = rows.iloc[highest]
        made = kept[["rank", "device", "step"]].assign(at_s=(kept["t_ns"] - first_ns) / 1e9)
        made["device"] = made["device"].astype(object)
        made["allocated_bytes"], made["reserved_bytes"] = kept["allocated_bytes"], kept["reserved_bytes"]
        return made.reset_index(drop=True)

    def _largest(self, rows: pd.DataFrame, freed: Array, operator: Array) -> pd.DataFrame:
        """Return the largest allocations, how long each lived (NaN: to the end), and who made it."""
        size, at = rows["size_bytes"].to_numpy(), rows["t_ns"].to_numpy()
        taken = np.flatnonzero(size > 0)
        taken = taken[np.argsort(-size[taken], kind="stable")[: self.rows_count]]
        lived = np.where(freed[taken] >= 0, (at[np.maximum(freed[taken], 0)] - at[taken]) / 1e9, np.nan)
        made = rows.iloc[taken][["rank", "device", "step"]].assign(
            at_s=(at[taken] - int(at.min())) / 1e9, size_bytes=size[taken], lived_s=lived, operator=operator[taken]
        )
        made["device"] = made["device"].astype(object)
        return made.reset_index(drop=True)


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Return allocations by rank, device and time, with use after each; where that is not recorded it is summed up."""
    lane = segments.numbered(rows["rank"].to_numpy(), rows["device"].array.codes.astype(np.int64))
    order = np.lexsort((np.arange(len(rows)), rows["t_ns"].to_numpy(), lane))
    rows, lane = rows.iloc[order].reset_index(drop=True), lane[order]
    size, told = rows["size_bytes"].to_numpy(), rows["allocated_bytes"].to_numpy()
    total = np.cumsum(size)
    over = segments.runs(lane)
    own = total - (total - size)[over.first][over.of]
    low = np.minimum(segments.minimum(own, over), 0)[
        over.of
    ]  # what was given back before it was taken in the recording
    allocated = np.where(told >= 0, told, own - low)
    return rows.assign(lane=lane, allocated_bytes=allocated)


def _operators(rows: pd.DataFrame, tables: Frames) -> Array:
    """Return the name of the operator that made each allocation, "" where it is not known."""
    if "operators" not in tables or not len(tables["operators"]):
        return np.full(len(rows), "", dtype=object)
    forest = _calls.calls(tables["operators"])
    row = forest.rows(rows["rank"].to_numpy(), rows["call"].to_numpy())
    near = _calls.nearest(forest, forest.of_kind("operator", "module", "annotation"))
    names: Array = forest.names(np.where(row >= 0, near[np.maximum(row, 0)], -1))
    return names


def _freed(rows: pd.DataFrame) -> Array:
    """Return, for each allocation, the row that gave it back: the next release of its address; -1 for none."""
    size, address = rows["size_bytes"].to_numpy(), rows["address"].to_numpy()
    known = np.flatnonzero(address >= 0)
    key = segments.numbered(rows["lane"].to_numpy()[known], address[known])
    order = known[np.lexsort((known, key))]
    keys = key[np.lexsort((known, key))]
    freed = np.full(len(rows), -1)
    pair = np.flatnonzero((keys[1:] == keys[:-1]) & (size[order][:-1] > 0) & (size[order][1:] < 0))
    freed[order[pair]] = order[pair + 1]
    return freed


def _device(rows: pd.DataFrame, freed: Array, operator: Array, offset: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the summary of one device, and what holds its peak."""
    size, allocated, reserved, at = (
        rows[name].to_numpy() for name in ("size_bytes", "allocated_bytes", "reserved_bytes", "t_ns")
    )
    peak = int(np.argmax(allocated))
    alive = np.flatnonzero((size[: peak + 1] > 0) & ((freed[: peak + 1] < 0) | (freed[: peak + 1] > peak + offset)))
    held = pd.DataFrame({"operator": operator[alive], "held_bytes": size[alive]})
    before = int(allocated[peak]) - int(held["held_bytes"].sum())
    groups = held.groupby("operator", sort=False)["held_bytes"]
    table = groups.agg(held_bytes="sum", allocations_count="size").reset_index()
    if before > 0:
        table = pd.concat([table, pd.DataFrame([{"operator": BEFORE, "held_bytes": before, "allocations_count": 0}])])
    who: dict[str, Any] = {"rank": int(rows["rank"].iloc[0]), "device": str(rows["device"].iloc[0])}
    table = table.sort_values(["held_bytes", "operator"], ascending=[False, True], kind="stable", ignore_index=True)
    table["share_ratio"] = table["held_bytes"] / max(int(allocated[peak]), 1)
    table.insert(0, "device", str(who["device"]))
    table.insert(0, "rank", int(who["rank"]))
    free = np.where(reserved >= 0, reserved - allocated, -1)
    slope, steps = _slope(rows["step"].to_numpy(), allocated)
    return {
        **who,
        "peak_allocated_bytes": int(allocated[peak]),
        "peak_at_s": (int(at[peak]) - int(at[0])) / 1e9,
        "peak_step": int(rows["step"].iloc[peak]),
        "last_allocated_bytes": int(allocated[-1]),
        "peak_reserved_bytes": int(reserved.max()),
        "largest_free_bytes": int(free.max()),
        "free_at_peak_ratio": free[peak] / reserved[peak] if reserved[peak] > 0 else np.nan,
        "allocations_count": int((size > 0).sum()),
        "leak_per_step_bytes": slope,
        "steps_count": steps,
    }, table


def _slope(step: Array, allocated: Array) -> tuple[float, int]:
    """Return the median growth per step of the lowest use in each step (NaN for too few steps), and how many steps.

    >>> _slope(np.array([1, 1, 2, 3, 3]), np.array([10, 30, 12, 14, 50]))
    (2.0, 3)
    """
    known = np.flatnonzero(step >= 0)
    order = known[np.argsort(step[known], kind="stable")]
    over = segments.runs(step[order])
    if len(over.first) < FEWEST_STEPS:
        return float("nan"), len(over.first)
    low, number = segments.minimum(allocated[order], over), step[order][over.first]
    if len(low) > 300:  # pairs grow with the square
        kept = np.linspace(0, len(low) - 1, 300).astype(np.int64)
        low, number = low[kept], number[kept]
    one, two = np.triu_indices(len(low), 1)
    return float(np.median((low[two] - low[one]) / (number[two] - number[one]))), len(over.first)


def _said(devices: pd.DataFrame, holders: pd.DataFrame) -> tuple[str, ...]:
    gpus = devices[devices["device"] != "cpu"]
    most = (gpus if len(gpus) else devices).sort_values("peak_allocated_bytes", ascending=False, kind="stable").iloc[0]
    told = [
        f"{most['device']} of rank {most['rank']} uses most: {_mib(most['peak_allocated_bytes'])} at the peak, "
        f"{_mib(most['peak_reserved_bytes'])} reserved."
    ]
    mine = holders[(holders["rank"] == most["rank"]) & (holders["device"] == most["device"])].head(3)
    parts = [
        f"{name or 'no operator'} {part:.0%}" for name, part in zip(mine["operator"], mine["share_ratio"], strict=True)
    ]
    told.append(f"The peak is held by {', '.join(parts)}.")
    if most["free_at_peak_ratio"] > 0.2:
        told.append(f"{most['free_at_peak_ratio']:.0%} of what is reserved at the peak is not in use.")
    leaks = devices[
        (devices["leak_per_step_bytes"] > 0) & (devices["leak_per_step_bytes"] > devices["peak_allocated_bytes"] / 1000)
    ]
    for rank, device, slope in zip(
        leaks["rank"][:2], leaks["device"][:2], leaks["leak_per_step_bytes"][:2], strict=True
    ):
        told.append(f"Use on {device} of rank {rank} grows by {_mib(slope)} per step.")
    return tuple(told)


def _notes(devices: pd.DataFrame) -> tuple[str, ...]:
    told = []
    if (devices["peak_reserved_bytes"] < 0).any():
        told.append("Reserved memory is not recorded on every device: fragmentation is unknown there.")
    if (devices["steps_count"] < FEWEST_STEPS).any():
        told.append(f"Fewer than {FEWEST_STEPS} steps have allocations: whether memory leaks is not known.")
    return tuple(told)


def _mib(count: float) -> str:
    """Return bytes as people read them.

    >>> _mib(3 * 1024**2), _mib(2.5 * 1024**3)
    ('3 MiB', '2.5 GiB')
    """
    return f"{count / 1024**3:.3g} GiB" if count >= 1024**3 else f"{count / 1024**2:.3g} MiB"
