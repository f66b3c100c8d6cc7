"""The matrix of links between GPUs or nodes: from a file, or from the `links` table of recordings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..sources import gather
from . import _tables

Array = np.ndarray[Any, Any]

GIGA = 1e9
NS = 1e9


@dataclass(frozen=True)
class Links:
    """`speed` [n, n] bytes/s, `latency_s` [n, n], `names` [n] of the ends, and what is doubtful about them."""

    speed: Array
    latency_s: Array
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read(path: Path, latency: Path | None = None) -> Links:
    """Return the links of a matrix file in GB/s, or of recordings with probes; raises UsageError, Unreadable."""
    if path.suffix in (".csv", ".npy", ".txt") and path.is_file() and not _is_table(path):
        return of_matrix(_tables.matrix(path), None if latency is None else _tables.matrix(latency), str(path))
    if latency is not None:
        raise UsageError("--latency goes with a matrix; recordings hold their own latencies")
    recording = gather([path])
    table = recording.tables.get("links")
    if table is None or not len(table):
        raise UsageError(f"{path}: no links were measured there; give a matrix in GB/s (CSV without head, or NPY)")
    return of_table(table, recording.warnings)


def _is_table(path: Path) -> bool:
    """Return whether a CSV begins with words: a table of links rather than a matrix."""
    if path.suffix == ".npy":
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return bool(re.match(r"\s*[A-Za-z_]{3,}", file.readline()))


def of_matrix(speed_gb_per_s: Array, latency_us: Array | None, name: str) -> Links:
    """Return the links of a matrix in GB/s and one in microseconds; raises UsageError naming the bad pair."""
    count = len(speed_gb_per_s)
    apart = ~np.eye(count, dtype=bool)
    bad = apart & ~((speed_gb_per_s > 0) & np.isfinite(speed_gb_per_s))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UsageError(f"{name}: row {row}, column {column}: wants a speed above 0 in GB/s, not "
                         f"{speed_gb_per_s[row, column]}; put in the slowest speed that is known where none was "
                         "measured")  # fmt: skip
    waits = np.zeros((count, count)) if latency_us is None else latency_us / 1e6
    if waits.shape != speed_gb_per_s.shape or not ((waits >= 0) & np.isfinite(waits))[apart].all():
        raise UsageError(f"--latency: wants {count} x {count} microseconds of 0 or more, as {name}")
    return Links(speed_gb_per_s * GIGA, waits, tuple(str(one) for one in range(count)))


def of_table(table: pd.DataFrame, warnings: tuple[str, ...] = ()) -> Links:
    """Return the links of a `links` table: medians per pair; a pair measured one way only counts both ways.

    >>> rows = pd.DataFrame({"src": ["rank0"], "dst": ["rank1"], "speed_bytes_per_s": [5e9], "latency_ns": [2000]})
    >>> of_table(rows).speed.tolist()
    [[inf, 5000000000.0], [5000000000.0, inf]]
    """
    rows = table[(table["speed_bytes_per_s"] > 0).to_numpy()]
    if not len(rows):
        raise UsageError("the measured links tell no speed; probe them, or give a matrix in GB/s")
    names = sorted({*rows["src"].astype(str), *rows["dst"].astype(str)}, key=_natural)
    place = {name: at for at, name in enumerate(names)}
    found = np.full((2, len(names), len(names)), np.nan)
    usual = rows.astype({"src": str, "dst": str}).groupby(["src", "dst"], as_index=False)
    for one in usual[["speed_bytes_per_s", "latency_ns"]].median().to_dict("records"):
        pair = place[one["src"]], place[one["dst"]]
        found[0][pair], found[1][pair] = one["speed_bytes_per_s"], max(float(one["latency_ns"]), 0.0) / NS / 2
    found = np.where(np.isnan(found), found.transpose(0, 2, 1), found)
    missing = np.isnan(found[0]) & ~np.eye(len(names), dtype=bool)
    said = list(warnings)
    if missing.any():
        said.append(f"{int(missing.sum())} of {len(names) * (len(names) - 1)} pairs were not measured: the slowest "
                    "measured link is taken for them")  # fmt: skip
    speed = np.where(np.isnan(found[0]), np.nanmin(found[0]), found[0])
    np.fill_diagonal(speed, np.inf)
    return Links(speed, np.nan_to_num(found[1]), tuple(names), tuple(said))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts rank2 before rank10.

    >>> sorted(["rank10", "rank2"], key=_natural)
    ['rank2', 'rank10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
