"""The small reduce: digests of ranges of steps, in their order, become the tables of the whole recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..attribution import blame, layout
from ..attribution.price_series import PriceSeries, joined
from ..frames import concat, empty, frame
from ._digest import OF_STEPS, Digest
from ._layout import STEPWISE

Tables = dict[str, pd.DataFrame]


def merged(digests: Sequence[Digest], ranks: pd.DataFrame) -> tuple[Tables, list[str]]:
    """Return the stepwise and derived tables, and warnings; the digests are emptied. Their order does not matter."""
    ordered = sorted((one for one in digests if not one.failed), key=lambda one: one.place)
    _number_calls(ordered)
    made: Tables = {}
    for name in (*OF_STEPS, *STEPWISE):
        made[name] = _stacked(name, [one.columns.pop(name) for one in ordered if name in one.columns])
    made["clocks"] = _clocks([one.tables.pop("clocks") for one in ordered])
    made["pair_delays"] = _pairs([one.tables.pop("pair_delays") for one in ordered])
    series = [one.prices for one in ordered if one.prices is not None]
    made["blame"] = _blame(series, ranks)
    warnings = dict.fromkeys(text for one in ordered for text in one.warnings)
    return made, list(warnings)


def _blame(series: Sequence[PriceSeries], ranks: pd.DataFrame) -> pd.DataFrame:
    return blame.table(joined(series), layout.nodes(ranks)) if series else empty("blame")


def _number_calls(digests: Sequence[Digest]) -> None:
    """Give every call its own number, in place."""
    before = 0
    for one in digests:
        one.columns["arrivals"]["call"] = one.columns["arrivals"]["call"] + before
        before += one.calls


def _stacked(name: str, parts: list[dict[str, Any]]) -> pd.DataFrame:
    """Return all rows of a table; each part is let go column by column, so that nothing is there twice."""
    parts = [part for part in parts if len(part["job"])]
    if not parts:
        return empty(name)
    made: dict[str, Any] = {}
    for column in list(parts[0]):
        arrays = [part.pop(column) for part in parts]
        if isinstance(arrays[0], pd.Categorical):
            made[column] = pd.api.types.union_categoricals(arrays)
        else:
            made[column] = np.concatenate(arrays)
    return pd.DataFrame(made, copy=False)


def _clocks(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one clock per node: means over the ranges, weighted by the calls that they rest on."""
    rows = concat("clocks", parts)
    if len(parts) < 2 or not len(rows):
        return rows
    name = rows["node"].astype(str)
    weight = np.maximum(rows["pairs_count"].to_numpy(), 1).astype(float)
    known = np.isfinite(rows["uncertainty_ns"].to_numpy())
    made = pd.DataFrame({
        "offset_ns": rows["offset_ns"] * weight, "drift_ppm": rows["drift_ppm"] * weight, "weight": weight,
        "aligned": rows["aligned"] * weight, "pairs_count": rows["pairs_count"], "known": known * weight,
        "uncertainty_ns": np.where(known, rows["uncertainty_ns"], 0.0) * weight, "parts": known,
    }).groupby(name, sort=False).sum()  # fmt: skip
    aligned = (made["aligned"] > 0.5 * made["weight"]).to_numpy()
    doubt = (made["uncertainty_ns"] / made["known"].where(made["known"] > 0)).to_numpy()
    return frame("clocks", {
        "job": "job", "node": [str(one) for one in made.index], "offset_ns": made["offset_ns"] / made["weight"],
        "drift_ppm": made["drift_ppm"] / made["weight"], "pairs_count": made["pairs_count"], "aligned": aligned,
        "uncertainty_ns": np.where(aligned, doubt / np.sqrt(np.maximum(made["parts"], 1)), doubt),
    })  # fmt: skip


def _pairs(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per pair of ranks: what calls told is averaged over the ranges, by the transfers of each."""
    rows = concat("pair_delays", parts)
    if len(parts) < 2 or not len(rows):
        return rows
    told = (rows["source"] == "calls").to_numpy()
    fixed = rows[~told].drop_duplicates(["src_rank", "dst_rank", "source"])
    calls = rows[told]
    keys = [calls[name].to_numpy() for name in ("src_rank", "dst_rank")]
    weight = calls["transfers_count"].to_numpy().astype(float)
    columns: dict[str, Any] = {}
    for name in ("delay_ns", "speed_bytes_per_s", "ns_per_byte_ratio"):
        value = calls[name].to_numpy()
        seen = np.isfinite(value)
        columns[name] = np.where(seen, value, 0.0) * weight
        columns[f"of_{name}"] = seen * weight
    made = pd.DataFrame({**columns, "transfers_count": calls["transfers_count"].to_numpy()}).groupby(keys).sum()
    mean = {name: made[name] / made[f"of_{name}"].where(made[f"of_{name}"] > 0)
            for name in ("delay_ns", "speed_bytes_per_s", "ns_per_byte_ratio")}  # fmt: skip
    listed = frame("pair_delays", {
        "job": "job", "src_rank": made.index.get_level_values(0), "dst_rank": made.index.get_level_values(1),
        "transfers_count": made["transfers_count"], "source": "calls", **mean,
    })  # fmt: skip
    return concat("pair_delays", [fixed, listed])
