"""How fast are copies to, from and on the device, and when do they run?

Speed is the bytes of a copy over its own duration; `speed_while_busy` is all bytes over the time in which any copy of
the direction ran. The course is bytes per second of the wall clock in equal parts of the recording. Copies from
pageable memory of the host run at a small part of the link's speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import intervals, segments

from ._needed import needed
from ._work import Array

PARTS = 120  # of the course
NAMES = {"HtoD": "host to device", "DtoH": "device to host", "DtoD": "on the device", "PtoP": "device to device",
         "memset": "fill", "HtoH": "on the host"}  # fmt: skip


@dataclass(frozen=True)
class MemoryBandwidth:
    """The view; copies of less than `small_bytes` are counted, but their speed is not told: it says nothing."""

    small_bytes: int = 65536
    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return bytes and speeds by rank and direction, and their course; raises NoData without copies."""
        needed(tables, "ops")
        copies = _copies(tables)
        if not len(copies):
            raise NoData("no copies with their sizes in the recording; record with the PyTorch profiler")
        order = segments.ordered(copies["rank"].to_numpy(), copies["code"].to_numpy())
        copies = copies.iloc[order].reset_index(drop=True)
        rows = self._rows(copies)
        pictures = (
            Picture("course", "lines", "Bytes per second, all ranks", "time_s", "speed_bytes_per_s", "direction"),
            Picture("copies", "bars", "Speed of copies by rank", "rank", "median_bytes_per_s", "direction"),
        )
        return Shown({"copies": rows, "course": _course(copies)}, _said(rows), (), pictures)

    def _rows(self, copies: pd.DataFrame) -> pd.DataFrame:
        rank, code, start, end, moved = (copies[name].to_numpy() for name in ("rank", "code", "start", "end", "moved"))
        over = segments.runs(rank, code)
        busy = intervals.union(over.of, start, end)
        busy_s = np.bincount(busy.lane, (busy.end - busy.start) / 1e9, len(over.first))
        length = (end - start) / 1e9
        speed = np.where((length > 0) & (moved >= self.small_bytes), moved / np.where(length > 0, length, 1), np.nan)
        total = segments.total(moved, over)
        largest = segments.maximum(np.where(np.isfinite(speed), speed, -1.0), over)
        return pd.DataFrame(
            {
                "rank": rank[over.first],
                "direction": copies["direction"].to_numpy()[over.first],
                "copies_count": over.size,
                "moved_bytes": total,
                "largest_bytes": segments.maximum(moved, over),
                "busy_s": busy_s,
                "speed_while_busy_bytes_per_s": total / np.where(busy_s > 0, busy_s, np.nan),
                "median_bytes_per_s": segments.median(speed, over),
                "fastest_bytes_per_s": np.where(largest >= 0, largest, np.nan),
            }
        )


def _copies(tables: Frames) -> pd.DataFrame:
    """Return rank, direction, times in ns and bytes of each copy (and fill, where its size is known)."""
    detail = tables.get("device_work")
    rows = detail if detail is not None and len(detail) else tables["ops"]
    kind = rows["kind" if rows is detail else "op"]
    mine = (kind.isin(["memcpy", "memset"]) & (rows["message_bytes"] >= 0)).to_numpy()
    part, kind = rows[mine], kind[mine]
    words = [str(name).split(" ")[0] for name in part["name"].cat.categories]
    told = np.array([NAMES.get(word, word or "unknown") for word in words] or ["unknown"], dtype=object)
    direction = np.where((kind == "memset").to_numpy(), NAMES["memset"], told[part["name"].cat.codes.to_numpy()])
    code = np.unique(direction.astype(str), return_inverse=True)[1] if len(part) else np.zeros(0, dtype=np.int64)
    return pd.DataFrame({"rank": part["rank"].to_numpy(), "direction": direction, "code": code,
                         "start": part["start_ns"].to_numpy(), "end": part["end_ns"].to_numpy(),
                         "moved": part["message_bytes"].to_numpy()})  # fmt: skip


def _course(copies: pd.DataFrame) -> pd.DataFrame:
    """Return bytes per second of each direction over time, all ranks together, each on its own first copy's time."""
    start: Array = (copies["start"] - copies.groupby("rank")["start"].transform("min")).to_numpy()
    bin_ns = max(1, -(-(int(start.max()) + 1) // PARTS))
    place = start // bin_ns
    over = np.unique(copies["code"].to_numpy())
    made = []
    for code in over.tolist():
        mine = copies["code"].to_numpy() == code
        moved = np.bincount(place[mine], copies["moved"].to_numpy()[mine], PARTS)
        made.append(
            pd.DataFrame(
                {
                    "time_s": np.arange(PARTS) * bin_ns / 1e9,
                    "direction": copies["direction"][mine].iloc[0],
                    "moved_bytes": moved.astype(np.int64),
                    "speed_bytes_per_s": moved / (bin_ns / 1e9),
                }
            )
        )
    return pd.concat(made, ignore_index=True)


def _said(rows: pd.DataFrame) -> tuple[str, ...]:
    said = []
    for direction, part in rows.groupby("direction", sort=False):
        size, speed = float(part["moved_bytes"].sum()), float(part["median_bytes_per_s"].median())
        fast = f", {wording.prefixed(speed)}B/s at the median" if np.isfinite(speed) else ""
        busy = wording.seconds(float(part["busy_s"].median()))
        said.append(
            (
                size,
                f"Copies {direction}: {wording.prefixed(size)}B in {int(part['copies_count'].sum()):,} "
                f"copies, {busy} on a median rank{fast}.",
            )
        )
    return tuple(text for _, text in sorted(said, reverse=True)[:4])
