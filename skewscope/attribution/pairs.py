"""Speed and delay between pairs of ranks: from probes, socket statistics and point-to-point calls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..frames import concat, empty, frame
from .calls import Calls

RANK = r"rank\d{1,9}"


def pair_delays(links: pd.DataFrame, collectives: pd.DataFrame, calls: Calls) -> pd.DataFrame:
    """Return the `pair_delays` table: one row per ordered pair of ranks and source of the measurement."""
    return concat("pair_delays", [_from_links(links), _from_calls(collectives, calls)])


def _from_links(links: pd.DataFrame) -> pd.DataFrame:
    """Return pairs from link rows whose ends are ranks ("rank3"), medians over time per pair and medium."""
    ends = links[["src", "dst"]].astype(str)
    both = (ends["src"].str.fullmatch(RANK) & ends["dst"].str.fullmatch(RANK)).to_numpy()
    if not both.any():
        return empty("pair_delays")
    table = pd.DataFrame({
        "src": ends.loc[both, "src"].str[4:].astype(int), "dst": ends.loc[both, "dst"].str[4:].astype(int),
        "medium": links.loc[both, "medium"].astype(str), "speed": links.loc[both, "speed_bytes_per_s"],
        "latency": links.loc[both, "latency_ns"].where(links.loc[both, "latency_ns"] >= 0),
    })  # fmt: skip
    found = table.groupby(["src", "dst", "medium"]).agg(
        speed=("speed", "median"), latency=("latency", "median"), count=("speed", "size")
    )
    found = found.reset_index()
    return frame("pair_delays", {
        "job": "job", "src_rank": found["src"], "dst_rank": found["dst"], "transfers_count": found["count"],
        "delay_ns": found["latency"], "speed_bytes_per_s": found["speed"], "source": found["medium"],
    })  # fmt: skip


def _from_calls(collectives: pd.DataFrame, calls: Calls) -> pd.DataFrame:
    """Return pairs from receives: the time from both being ready to the data being there."""
    point = np.asarray(collectives["op"] == "recv")[calls.row] & (calls.end >= 0)
    point &= (calls.runs.size == 2)[calls.runs.of] if len(calls.row) else point
    rows = np.flatnonzero(point)
    if not len(rows):
        return empty("pair_delays")
    delay = np.maximum(calls.end[rows] - calls.last_ready[calls.runs.of[rows]], 0).astype(float)
    moved = collectives["message_bytes"].to_numpy()[calls.row[rows]].astype(float)
    table = pd.DataFrame({
        "src": collectives["peer"].to_numpy()[calls.row[rows]], "dst": calls.rank[rows], "delay": delay,
        "per_byte": np.where(moved > 0, delay / np.maximum(moved, 1), np.nan),
        "speed": np.where((moved > 0) & (delay > 0), moved / np.maximum(delay, 1) * 1e9, np.nan),
    })  # fmt: skip
    found = table.groupby(["src", "dst"]).agg(
        delay=("delay", "median"), per_byte=("per_byte", "median"), speed=("speed", "median"), count=("delay", "size")
    )
    found = found.reset_index()
    return frame("pair_delays", {
        "job": "job", "src_rank": found["src"], "dst_rank": found["dst"], "transfers_count": found["count"],
        "delay_ns": found["delay"], "speed_bytes_per_s": found["speed"], "ns_per_byte_ratio": found["per_byte"],
        "source": "calls",
    })  # fmt: skip
