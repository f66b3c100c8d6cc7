"""XIDs from all that tells of them: counters by code, times of the last one, and events of recordings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.signals.view import Signal, parsed, remembered, signal
from skewscope.xid_policy import POLICY, Policy

Array = np.ndarray[Any, Any]
COUNTS = "skewscope_gpu_xid_errors_total"
TIMES = ("skewscope_gpu_xid_last_timestamp_seconds", "skewscope_kernel_xid_last_timestamp_seconds")
KERNEL = re.compile(r"Xid \([^)]*\): (\d{1,4})")
DIGITS = 9
Record = tuple[str, str, int, int, float, str, str]  # node, device, code, t_ns, count, who tells it, message


@dataclass(frozen=True)
class Burst:
    """XIDs of one code on one GPU that came close together; `message` is the text of the kernel, where there is one."""

    node: str
    device: str
    code: int
    start_ns: int
    end_ns: int
    count: int
    message: str = ""


def bursts(tables: Frames, codes: Sequence[int], policy: Policy = POLICY) -> list[Burst]:
    """Return the bursts of these codes in the order of time.

    Windows and scrapes blur times, so that two bursts less than two windows apart are one.
    """
    records = sorted(_records(tables, frozenset(codes)), key=lambda one: one[:4])
    gap_ns = int(2e9 * window_s(tables))
    found: list[Burst] = []
    begin = 0
    for place in range(1, len(records) + 1):
        if place < len(records) and _same(records[place - 1], records[place], gap_ns, policy):
            continue
        if records[begin:place]:
            found.append(_burst(records[begin:place]))
        begin = place
    return sorted(found, key=lambda one: (one.start_ns, one.node, one.device, one.code))


def gpus(tables: Frames) -> dict[str, int]:
    """Return how many GPUs each host tells of."""
    return remembered(tables["windows"], "gpus", lambda: _gpus(tables["windows"]))


def _gpus(table: pd.DataFrame) -> dict[str, int]:
    nodes, names = table["node"].cat.categories, [str(name) for name in table["device"].cat.categories]
    told = np.zeros((len(nodes) + 1, len(names) + 1), dtype=bool)  # unknown ones are last
    told[table["node"].cat.codes.to_numpy(), table["device"].cat.codes.to_numpy()] = True
    gpu = [place for place, name in enumerate(names) if name.startswith("gpu")]
    counts = told[:-1, gpu].sum(axis=1)
    return {str(node): int(count) for node, count in zip(nodes, counts, strict=True) if count}


def appeared(tables: Frames, metric: str, **labels: Any) -> Signal:  # noqa: ANN401 - as of signal()
    """Return the growth of a counter; of one that its node began to tell in the middle, all that it then showed."""
    grown = signal(tables, metric, take="increase", **labels)
    if not len(grown):
        return grown
    shown = signal(tables, metric, take="last", absent=-1.0, **labels).values
    earlier = np.vstack([np.zeros((1, len(grown)), dtype=bool), np.isfinite(shown[:-1])])
    before = np.vstack([np.zeros((1, len(grown)), dtype=bool), np.cumsum(shown[:-1] >= 0, axis=0) > 0])
    fresh = (shown > 0) & ~before & earlier
    return replace(grown, values=np.where(fresh, np.fmax(grown.values, shown), grown.values))


def _records(tables: Frames, codes: frozenset[int]) -> Iterator[Record]:
    for code in sorted(codes & _told_codes(tables)):
        for source in ("nvml", "kmsg"):
            yield from _counted(tables, code, source)
        for metric in TIMES:
            yield from _timed(tables, code, metric)
    yield from _events(tables, codes)


def _told_codes(tables: Frames) -> frozenset[int]:
    """Return the codes that any label names; a look at names, not at rows."""
    return _codes_of(tuple(str(text) for text in tables["windows"]["labels"].cat.categories if "xid=" in str(text)))


@lru_cache(maxsize=16)
def _codes_of(texts: tuple[str, ...]) -> frozenset[int]:
    found = (parsed(text).get("xid", "") for text in texts)
    return frozenset(int(code) for code in found if code.isdecimal() and len(code) <= DIGITS)


def _counted(tables: Frames, code: int, source: str) -> Iterator[Record]:
    told = appeared(tables, COUNTS, xid=str(code), source=source)
    for row, column in zip(*np.nonzero(told.values > 0), strict=True):
        at_ns, count = int(told.t_ns[row]), float(told.values[row, column])
        yield str(told.node[column]), str(told.device[column]), code, at_ns, count, source, ""


def _timed(tables: Frames, code: int, metric: str) -> Iterator[Record]:
    told = signal(tables, metric, take="high", xid=str(code))
    if not len(told):
        return
    since_s = float(told.t_ns[0]) / 1e9 - told.window_s
    fresh = (told.values > since_s) & (told.values != np.vstack([np.full((1, len(told)), np.nan), told.values[:-1]]))
    for row, column in zip(*np.nonzero(fresh), strict=True):
        at_ns = int(told.values[row, column] * 1e9)
        yield str(told.node[column]), str(told.device[column]), code, at_ns, 1.0, f"{metric}", ""


def _events(tables: Frames, codes: frozenset[int]) -> Iterator[Record]:
    events = tables["events"]
    rows: pd.DataFrame = events[events["event"].isin(["xid", "kernel"]).to_numpy()]
    row: Any
    for row in rows.itertuples():
        text = str(row.message)
        named = KERNEL.search(text) if row.event == "kernel" else None
        code = int(row.code) if row.event == "xid" else int(named[1]) if named else -1
        if code in codes:
            yield str(row.node), str(row.device), code, int(row.t_ns), 1.0, str(row.event), text


def has_label(tables: Frames, text: str) -> bool:
    """Return whether the labels of any series hold a text; a look at names, not at rows."""
    return any(text in str(labels) for labels in tables["windows"]["labels"].cat.categories)


def window_s(tables: Frames) -> float:
    """Return the length of the windows, 30 s where there are none."""
    table = tables["windows"]
    return float(table["window_ns"].iloc[0]) / 1e9 if len(table) else 30.0


def _same(before: Record, after: Record, gap_ns: int, policy: Policy) -> bool:
    """Return whether two records in the order of time are of one burst."""
    burst_ns = max(gap_ns, int(policy.of(after[2]).burst_s * 1e9))
    return before[:3] == after[:3] and after[3] - before[3] <= burst_ns


def _burst(records: Sequence[Record]) -> Burst:
    """Return the burst of these records; those who tell of the same XIDs are not added up."""
    node, device, code, start_ns, *_ = records[0]
    by_source: dict[str, float] = {}
    for record in records:
        by_source[record[5]] = by_source.get(record[5], 0.0) + record[4]
    message = next((record[6] for record in records if record[6]), "")
    return Burst(node, device, code, start_ns, records[-1][3], max(1, round(max(by_source.values()))), message)
