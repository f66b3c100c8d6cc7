"""What many devices show at once is one finding, and what is true but costs nothing is no culprit.

Fleet-wide evidence moves a cause from the device to what the devices share (conditions, A11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.view import Signal, remembered
from skewscope.subjects import Subject

from ._live import columns, finding, mean_in, roles

Array = np.ndarray[Any, Any]
HALF, QUARTER = 0.5, 0.25  # of a host's or of all devices at once
LEAST_HOSTS = 4  # that make a quarter of all devices more than chance
BEFORE = 4  # windows that say what was usual before
MOST_RANKS = 64  # of which a host's share of the price is looked up


@dataclass(frozen=True)
class Group:
    """Series that show the same: `columns` of a signal, `mask` [windows] when, and whom it is about.

    `subject` is None where it is the one series' own.
    """

    columns: tuple[int, ...]
    mask: Array
    subject: Subject | None = None
    wide: bool = False

    def mean(self, values: Array) -> float:
        """Return the mean of `values` [windows, series] over these series and windows, NaN where unknown."""
        return mean_in(values[:, list(self.columns)].T, self.mask[None].repeat(len(self.columns), axis=0))

    def name(self, told: Signal) -> str:
        """Return whom it is about, as text."""
        own = self.subject or told.subject(self.columns[0])
        return f"{len(self.columns)} of {own.id}" if len(self.columns) > 1 else own.id


def groups(told: Signal, mask: Array, tables: Frames) -> Iterator[Group]:
    """Yield who is in `mask` [windows, series]: single devices, hosts of which half is, or the job where all hosts are.

    All is one where half of the devices of two hosts or more, or a quarter of those of four or more, show it at once:
    of the whole fleet, or of one job's hosts.
    """
    if not mask.any():
        return
    names, codes = np.unique(told.node.astype(str), return_inverse=True)
    hits = np.zeros((len(names), len(mask)), dtype=np.int64)
    np.add.at(hits, codes, mask.T.astype(np.int64))
    there, every = _devices(told, tables)
    sizes = np.maximum(np.bincount(codes), [there.get(str(name), 0) for name in names])
    if _wide(hits, every):
        yield Group(tuple(columns(mask)), np.asarray(mask.any(axis=1)), _all(told, mask, tables), wide=True)
        return
    jobs, hit = roles(told, tables), mask.any(axis=0)
    for job in sorted({str(job) for job in jobs[hit]} - {""}):
        mine = np.unique(codes[jobs == job])
        if _wide(hits[mine], sum(_hosts_of(job, there, tables))):
            here = tuple(np.flatnonzero(hit & (jobs == job)).tolist())
            yield Group(here, np.asarray(mask[:, here].any(axis=1)), subjects.job(job), wide=True)
            hits[mine] = 0
    whole = hits.max(axis=1) >= np.maximum(2, HALF * sizes)
    for host in np.flatnonzero(hits.any(axis=1)).tolist():
        here = tuple(np.flatnonzero((codes == host) & hit).tolist())
        if whole[host]:
            yield Group(here, np.asarray(mask[:, here].any(axis=1)), subjects.node(str(names[host])))
        else:
            yield from (Group((column,), mask[:, column]) for column in here)


def _wide(hits: Array, every: int) -> bool:
    """Return whether so many of `every` device show it at once in some window; `hits` [hosts, windows]."""
    share, hosts = hits.sum(axis=0) / max(every, 1), (hits > 0).sum(axis=0)
    return bool((((share >= HALF) & (hosts >= 2)) | ((share >= QUARTER) & (hosts >= LEAST_HOSTS))).any())


def _hosts_of(job: str, there: dict[str, int], tables: Frames) -> Iterator[int]:
    """Yield how many devices each host of a job has."""
    for node in np.unique(costs(tables).jobs[job].node.astype(str)):
        yield there.get(str(node), 1)


def _devices(told: Signal, tables: Frames) -> tuple[dict[str, int], int]:
    """Return how many devices of the kind of these series each host has, and all: quiet counters are not told."""
    counts = remembered(tables["windows"], "devices", lambda: _counted(tables["windows"]))
    there = counts.get(_kind(str(told.device[0])), {}) if len(told) else {}
    return there, max(sum(there.values()), len(told))


def _counted(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return kind of device -> host -> count, as the first, middle and last window tell them; a host counts as one."""
    times = remembered(table, "times", lambda: np.unique(table["t_ns"].to_numpy()))
    some = table.loc[np.isin(table["t_ns"].to_numpy(), times[[0, len(times) // 2, -1]]), ["node", "device"]]
    found: dict[str, dict[str, int]] = {"": dict.fromkeys(some["node"].astype(str).unique().tolist(), 1)}
    some = some.drop_duplicates()
    for node, device in zip(some["node"].astype(str), some["device"].astype(str), strict=True):
        if device:
            hosts = found.setdefault(_kind(device), {})
            hosts[node] = hosts.get(node, 0) + 1
    return found


def _kind(device: str) -> str:
    """Return what a device is: a GPU, a PCI address, another by the letters of its name, "" for the host.

    >>> _kind("gpu3"), _kind("mlx5_0"), _kind("0000:1b:00.0"), _kind("")
    ('gpu', 'mlx', ':', '')
    """
    return ":" if ":" in device else re.split(r"[\d_]", device, maxsplit=1)[0]


def peers_of_counts(told: Signal, tables: Frames) -> Array:
    """Return [windows, series]: the median of all others of the kind, 0 for those whose counter was never told."""
    quiet = _devices(told, tables)[1] - len(told)
    values = np.hstack([told.values, np.zeros((len(told.values), quiet))])
    peers = peer_median(values, np.zeros(values.shape[1]))[:, : len(told)]
    return np.where(np.isfinite(peers), peers, 0.0)


def _all(told: Signal, mask: Array, tables: Frames) -> Subject:
    hit = mask.any(axis=0)
    jobs = {str(job) for job in roles(told, tables)[hit]} | {str(job) for job in told.job[hit]}
    jobs.discard("")
    return subjects.job(jobs.pop()) if len(jobs) == 1 else subjects.rack("fleet")


def judged(
    condition: str, tables: Frames, told: Signal, group: Group, *, cost_ratio: float, evidence: Iterable[Evidence],
    summary: str, advice: str, least: str = "S4", confidence: float = 0.9, link: bool = False, proven: bool = False,
) -> Finding:  # fmt: skip
    """Return the finding about a group: the culprit where it costs `cost_ratio` of the step, else context.

    A `link` that slows no rank of its own slows all alike: then the job's shift is its price, if transfers became
    longer too. What is `proven` is a culprit also where nobody can tell its price: no job tells of steps, or a link
    was so from the start.
    """
    cost, ranks = _ranks(told, group, tables)

    def priced(whose: list[int]) -> Finding:
        return finding(
            condition, tables, told, group.columns[0], group.mask, role="culprit", evidence=evidence, summary=summary,
            advice=advice, least=least, confidence=confidence, subject=group.subject, ranks=whose,
        )  # fmt: skip

    def unpriced() -> Finding:
        return replace(priced([]), lost_s=0.0, lost_share=0.0, severity=least, summary=summary)

    of_rank = not link or str(told.device[group.columns[0]]).startswith("gpu")
    found = priced(ranks) if of_rank or group.wide else unpriced()
    if link and cost is not None and found.lost_share < cost_ratio and _transfers_slower(cost, group.mask):
        found = priced([])
    unknown = cost is None or (link and cost.before(group.mask).sum() < BEFORE)
    if found.lost_share >= cost_ratio or (proven and unknown):
        return found
    return replace(found, role="context")


def _ranks(told: Signal, group: Group, tables: Frames) -> tuple[JobCost | None, list[int]]:
    """Return the job on a group's devices and its ranks there; none of a wide group, whose price is the job's."""
    known, node = costs(tables), str(told.node[group.columns[0]])
    if group.wide:
        return known.of_device(node, "")[0], []
    found: tuple[JobCost | None, list[int]] = (None, [])
    for column in group.columns[:MOST_RANKS]:
        device = str(told.device[column])
        cost, ranks = known.of_device(node, device if device.startswith("gpu") else "")
        if cost is not None:
            found = (cost, sorted({*found[1], *ranks}))
    return found


def _transfers_slower(cost: JobCost, mask: Array) -> bool:
    """Return whether most of the step's growth is in the time in collectives of even the latest rank."""
    before, known = cost.before(mask), np.isfinite(cost.waiting_s).any(axis=1)
    if (before & known).sum() < BEFORE or not (mask & known).any():
        return False
    least_s = np.nanmin(np.where(np.isfinite(cost.waiting_s), cost.waiting_s, np.inf), axis=1)
    # Medians on both sides: a checkpoint lengthens the step, and no transfer.
    rise_s = np.median(least_s[mask & known]) - np.median(least_s[before & known])
    return bool(rise_s >= HALF * (np.median(cost.step_s[mask & known]) - np.median(cost.step_s[before])))


def usual(told: Signal, tables: Frames) -> Array:
    """Return [windows, series]: the median of those that do the same, or of the first windows where nobody does."""
    peers = peer_median(told.values, roles(told, tables))
    return np.where(np.isfinite(peers), peers, own_median(told.values, before=BEFORE)[None])
