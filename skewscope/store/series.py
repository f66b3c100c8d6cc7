"""Rows of `windows` in the order of their series, and where each series begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]
NAMES = ("metric", "labels", "node", "device", "job")
MOST = 1 << 62  # as many series fit in one number


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table `windows` sorted by metric, labels, node, device, job, rank and time.

    Rows that agree in all of these keep their order.
    """
    if len(table) < 2:
        return table
    t_ns, series = table["t_ns"].to_numpy(), numbers(table)
    step = np.diff(series)
    if ((step > 0) | ((step == 0) & (np.diff(t_ns) >= 0))).all():
        return table
    return table.iloc[np.lexsort((t_ns, series))].reset_index(drop=True)


def begins(table: pd.DataFrame) -> Array:
    """Return [N] whether a row is the first of its series, of rows in order."""
    fresh = np.zeros(len(table), dtype=bool)
    fresh[:1] = True
    for name in NAMES:
        fresh[1:] |= np.diff(table[name].cat.codes.to_numpy()) != 0
    fresh[1:] |= np.diff(table["rank"].to_numpy()) != 0
    return fresh


def numbers(table: pd.DataFrame) -> Array:
    """Return [N] the number of each row's series; they rise as the names do."""
    rank = table["rank"].to_numpy().astype(np.int64)
    parts = [_places(table[name]) for name in NAMES]
    parts.append((rank - rank.min(), int(rank.max() - rank.min()) + 1))
    room = 1
    for _, count in parts:
        room *= count
    if room >= MOST:
        return _dense([places for places, _ in parts])
    found = np.zeros(len(table), dtype=np.int64)
    for places, count in parts:
        found *= count
        found += places
    return found


def _places(column: pd.Series) -> tuple[Array, int]:
    """Return the place [N] of each row's name in the order of names, and how many names there are."""
    names = column.cat.categories.to_numpy().astype(str)
    place = np.empty(len(names), dtype=np.int64)
    place[np.argsort(names, kind="stable")] = np.arange(len(names))
    return place[column.cat.codes.to_numpy()], len(names)


def _dense(parts: list[Array]) -> Array:
    order = np.lexsort(parts[::-1])
    change = np.concatenate(([False], np.any([np.diff(part[order]) != 0 for part in parts], axis=0)))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.cumsum(change)
    return found
