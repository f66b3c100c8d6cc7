"""How near do operators come to what the device can do, and what bounds them: arithmetic, memory or overhead?

From the sizes of its inputs each call's arithmetic (FLOPs) and least traffic (bytes) are computed; over the device time
that it launched this gives TFLOP/s, bytes per second and intensity (FLOPs per byte), the roofline model of Williams,
Waterman and Patterson (CACM 2009). Against the device's peaks a call is bound by *compute* or by *memory*, whichever it
uses more of, or by *overhead* where it uses little of both: too small, badly shaped, or waiting. Formulas and their
sources stand in `_cost_matrix`, `_cost_attention` and `_cost_moving`, peaks in `gpu_peaks.toml`. Device time belongs to
the innermost call at or above its launch whose cost is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from . import _calls, _costs, _device_rows
from ._peaks import Peaks, peaks

Array = np.ndarray[Any, Any]

FIRST = (
    "calls_count", "device_s", "bound", "rate_tflops_per_s", "rate_bytes_per_s", "compute_of_peak_ratio",
    "memory_of_peak_ratio", "savable_s", "intensity_ratio",
)  # fmt: skip
SUMS = ("calls_count", "device_s", "flops_count", "moved_bytes", "least_s")


@dataclass(frozen=True)
class Roofline:
    """View of the roofline: `device` names the GPU (as "H100 SXM") where the recording does not.

    A call that reaches less than `overhead_below_ratio` of both peaks is bound by overhead.
    """

    needs: ClassVar[tuple[str, ...]] = ("operators", "device_work")
    device: str = ""
    overhead_below_ratio: float = 0.2
    rows_count: int = 500

    def show(self, tables: Frames) -> Shown:
        """Return the achieved rates by operator, shapes, family and rank. NoData where no shapes are recorded."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work(tables)
        named = self.device or recorded_device(tables)
        peak = peaks(named) if named else None
        priced = _priced(forest, work, peak)
        if not len(priced):
            raise NoData("no operator with recorded shapes and a known cost; profile with record_shapes=True")
        keys = ["name", "family", "precision", "unit"]
        found = {
            "by_operator": self._rated(priced, keys, peak),
            "by_shapes": self._rated(priced, [*keys, "shapes", "values"], peak).head(self.rows_count),
            "by_family": _with_rest(self._rated(priced, ["family"], peak), work),
            "by_rank": _by_rank(priced, work, peak),
        }
        whole = float(work["length_ns"].sum()) / 1e9
        return Shown(
            found,
            _said(found, whole, peak),
            _notes(priced, whole, named, peak),
            (
                Picture("by_operator", "points", "Roofline", "intensity_ratio", "rate_tflops_per_s", "bound"),
                Picture("by_family", "bars", "Device time by kind of operator", "family", "device_s"),
            ),
        )

    def _rated(self, priced: pd.DataFrame, keys: list[str], peak: Peaks | None) -> pd.DataFrame:
        """Return sums over `keys` with rates, and beside the peaks what bounds them."""
        found = priced.groupby(keys, observed=True, sort=False)[list(SUMS)].sum(min_count=1)
        weighted = priced.assign(**{part: priced[f"{part}_least_s"] for part in ("compute", "memory")})
        least = weighted.groupby(keys, observed=True, sort=False)[["compute", "memory"]].sum()
        found["calls_count"] = found["calls_count"].astype(np.int64)
        busy = found["device_s"].where(found["device_s"] > 0)
        found["rate_tflops_per_s"] = found["flops_count"] / busy / 1e12
        found["rate_bytes_per_s"] = found["moved_bytes"] / busy
        found["intensity_ratio"] = found["flops_count"] / found["moved_bytes"].where(found["moved_bytes"] > 0)
        if peak is None:
            fastest = found[["rate_tflops_per_s", "rate_bytes_per_s"]].max()
            found["compute_of_best_ratio"] = found["rate_tflops_per_s"] / fastest["rate_tflops_per_s"]
            found["memory_of_best_ratio"] = found["rate_bytes_per_s"] / fastest["rate_bytes_per_s"]
            found["bound"] = "unknown"
        else:
            found["compute_of_peak_ratio"] = least["compute"] / busy
            found["memory_of_peak_ratio"] = least["memory"] / busy
            found["savable_s"] = (found["device_s"] - found["least_s"]).clip(lower=0)
            found["bound"] = self._bound(found)
        found = found.reset_index()
        first = [keys[0], *(name for name in FIRST if name in found)]
        found = found[[*first, *(name for name in found.columns if name not in first)]]
        return found.sort_values(
            ["device_s", *keys], ascending=[False, *[True] * len(keys)], kind="stable"
        ).reset_index(drop=True)

    def _bound(self, found: pd.DataFrame) -> Array:
        compute = found["compute_of_peak_ratio"].fillna(0.0).to_numpy()
        memory = found["memory_of_peak_ratio"].fillna(0.0).to_numpy()
        higher = np.where(compute >= memory, "compute", "memory")
        told = np.where(np.maximum(compute, memory) < self.overhead_below_ratio, "overhead", higher)
        unknown = found["moved_bytes"].isna().to_numpy() & (compute < self.overhead_below_ratio)
        return np.where(unknown, "unknown", told).astype(object)


def _with_rest(found: pd.DataFrame, work: pd.DataFrame) -> pd.DataFrame:
    """Return the families with a last row for the device time of unknown cost, and what share of all each has."""
    whole = float(work["length_ns"].sum()) / 1e9
    rest = max(whole - float(found["device_s"].sum()), 0.0)
    if rest > 0:
        last = {"family": "unknown cost", "calls_count": 0, "device_s": rest, "bound": "unknown"}
        found = pd.concat([found, pd.DataFrame([last])], ignore_index=True)
    found.insert(3, "device_share_ratio", found["device_s"] / max(whole, 1e-12))
    return found


def recorded_device(tables: Frames) -> str:
    """Return the name of the GPU as the recording gives it, "" where it does not or ranks differ."""
    ranks = tables.get("ranks")
    if ranks is None or "gpu_model" not in ranks or not len(ranks):
        return ""
    names = sorted({str(name) for name in ranks["gpu_model"].unique()} - {""})
    return names[0] if len(names) == 1 else ""


def _priced(forest: _calls.Calls, work: pd.DataFrame, peak: Peaks | None) -> pd.DataFrame:
    """Return one row per call of known cost that launched device work: its cost, device time, and least times."""
    known, number = _costs.costs(forest.frame)
    has_cost = np.isin(number, known.index.to_numpy()) & forest.of_kind("operator")
    row = _device_rows.above(work, forest)
    owner = np.where(row >= 0, _calls.nearest(forest, has_cost)[np.maximum(row, 0)], -1)
    mine = owner >= 0
    busy = np.bincount(owner[mine], weights=work["length_ns"].to_numpy()[mine], minlength=len(number)) / 1e9
    tf32 = _tensor_float(work, owner, len(number))
    rows = np.flatnonzero(busy > 0)
    cost = known.reindex(number[rows])
    frame = forest.frame.iloc[rows]
    kind = np.where(tf32[rows] & (cost["precision"] == "fp32").to_numpy(), "tf32", cost["precision"].to_numpy())
    made = pd.DataFrame(
        {
            "rank": frame["rank"].to_numpy(),
            **{key: frame[key].astype(object).to_numpy() for key in ("name", "shapes", "values")},
            "family": cost["family"].to_numpy(),
            "unit": cost["unit"].to_numpy(),
            "precision": kind,
            "calls_count": 1,
            "device_s": busy[rows],
            "flops_count": cost["flops"].to_numpy(),
            "moved_bytes": cost["moved_bytes"].to_numpy(),
        }
    )
    made["compute_least_s"], made["memory_least_s"] = _least(made, peak)
    made["least_s"] = np.fmax(made["compute_least_s"], made["memory_least_s"])
    return made


def _least(made: pd.DataFrame, peak: Peaks | None) -> tuple[Array, Array]:
    """Return the time each call would take at the peak of arithmetic, and at that of memory."""
    if peak is None:
        nothing = np.full(len(made), np.nan)
        return nothing, nothing
    pairs = made[["precision", "unit"]].drop_duplicates()
    rate = {(kind, unit): peak.of(kind, unit) for kind, unit in pairs.itertuples(index=False, name=None)}
    best = np.array([rate[pair] for pair in zip(made["precision"], made["unit"], strict=True)])
    return made["flops_count"].to_numpy() / best, made["moved_bytes"].to_numpy() / peak.memory_bytes_per_s


def _tensor_float(work: pd.DataFrame, owner: Array, calls: int) -> Array:
    """Return which calls launched a kernel that computes in TF32, by the kernel's name."""
    names = work["name"].array
    told = np.array(["tf32" in name.lower() for name in names.categories] + [False])[names.codes]
    found = np.zeros(calls, dtype=bool)
    found[owner[told & (owner >= 0)]] = True
    return found


def _by_rank(priced: pd.DataFrame, work: pd.DataFrame, peak: Peaks | None) -> pd.DataFrame:
    """Return, per rank, all arithmetic over the time from its first device work to its last."""
    spans = work.groupby("rank", observed=True).agg(first=("start_ns", "min"), last=("end_ns", "max"))
    found = priced.groupby("rank", observed=True).agg(
        device_s=("device_s", "sum"), flops_count=("flops_count", "sum"), compute_least_s=("compute_least_s", "sum")
    )
    found["span_s"] = (spans["last"] - spans["first"]).reindex(found.index) / 1e9
    found["rate_tflops_per_s"] = found["flops_count"] / found["span_s"] / 1e12
    found["utilization_ratio"] = found["compute_least_s"] / found["span_s"] if peak else np.nan
    return found.drop(columns="compute_least_s").reset_index()


def _said(found: dict[str, pd.DataFrame], whole_s: float, peak: Peaks | None) -> tuple[str, ...]:
    told = []
    columns = ("name", "device_s", "rate_tflops_per_s", "rate_bytes_per_s")
    for name, device, flops, moved in zip(*(found["by_operator"].head(1)[key] for key in columns), strict=True):
        rate = f"{flops:.3g} TFLOP/s" if flops > 0 else f"{moved / 1e12:.3g} TB/s"
        told.append(f"{name} takes {_device_rows.share(device, whole_s):.0%} of device time at {rate}.")
    if peak is None:
        return tuple(told)
    shares = found["by_operator"].groupby("bound")["device_s"].sum() / whole_s
    parts = [f"{part:.0%} {name}" for name, part in shares.sort_values(ascending=False).items()]
    told.append(f"Bound, of all device time: {', '.join(parts)} ({peak.name}).")
    worst = found["by_operator"].sort_values("savable_s", ascending=False, kind="stable").head(1)
    for name, saved, bound in zip(worst["name"], worst["savable_s"], worst["bound"], strict=True):
        told.append(f"{name} is furthest from its roof: {saved * 1e3:.3g} ms above it, bound by {bound}.")
    used = found["by_rank"]["utilization_ratio"]
    low, high = f"{used.min():.1%}", f"{used.max():.1%}"
    reach = low if low == high else f"{low} to {high}"
    told.append(f"Known arithmetic uses {reach} of the peak over a rank's whole span.")
    return tuple(told)


def _notes(priced: pd.DataFrame, whole_s: float, named: str, peak: Peaks | None) -> tuple[str, ...]:
    told = []
    rest = whole_s - float(priced["device_s"].sum())
    if rest > 0.005 * whole_s:
        told.append(f"{rest / whole_s:.0%} of the device time belongs to operators of unknown cost (or none at all).")
    if peak is None:
        told.append(
            f"The peaks of {named} are not listed; rates are relative to the best one seen."
            if named
            else "The recording does not name its GPU: rates are relative to the best one seen (--set device=NAME)."
        )
    lacking = priced["moved_bytes"].isna()
    if lacking.any():
        told.append(f"{int(lacking.sum())} calls do not record the types of their inputs: their bytes are unknown.")
    return tuple(told)
