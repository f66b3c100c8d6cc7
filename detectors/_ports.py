"""What rooms about adapters share: the ports there are, their counters, and who is meant where many say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Frames
from skewscope.signals.view import Signal, parsed, remembered, signal
from skewscope.subjects import Subject

Array = np.ndarray[Any, Any]
UP, RATE = "skewscope_rdma_port_up", "skewscope_rdma_rate_bytes_per_second"
SENT, RECEIVED = "skewscope_rdma_transmit_bytes_total", "skewscope_rdma_receive_bytes_total"
SENT_PACKETS, RECEIVED_PACKETS = (f"skewscope_rdma_{way}_packets_total" for way in ("transmit", "receive"))
ERRORS, LINK_EVENTS = "skewscope_rdma_errors_total", "skewscope_rdma_link_events_total"
RETRANSMITTED, GIVEN_UP = "skewscope_rdma_retransmissions_total", "skewscope_rdma_retries_exceeded_total"
CONGESTED, WAITED = "skewscope_rdma_congestion_events_total", "skewscope_rdma_transmit_wait_ticks_total"
INFO = "skewscope_rdma_info"
PAUSES, PAUSED = "skewscope_nic_pause_frames_total", "skewscope_nic_pause_seconds_total"
NIC_ERRORS, STALLED = "skewscope_nic_errors_total", "skewscope_nic_pcie_stalled_seconds_total"
WIDE_RATIO = 0.25  # conditions A11: evidence on a quarter of the peers moves the cause to what they share
WIDE_COUNT = 3  # fewer hosts say nothing about a switch
NODE_RATIO = 0.5  # half of a host's ports at once are the host, not its cables
ONSET_WINDOWS = 1  # what begins together has one cause, however large the fleet is
FABRIC = "fabric"


def ports(tables: Frames, *others: str) -> Signal:
    """Return all ports there are, known in the windows in which their state (else traffic) is told.

    A counter that stands still may be left out of the tables, so who failed must be counted against this. `others`
    are the metrics that name the ports where neither state nor traffic does.
    """
    for metric in (UP, SENT, SENT_PACKETS, *others):
        found = known(tables, metric, "last")
        if len(found):
            return found
    return known(tables, UP, "last")


def known(tables: Frames, metric: str, take: str, **labels: str | tuple[str, ...]) -> Signal:
    """Return a signal, read once for all rooms that ask."""
    chosen: dict[str, Any] = dict(labels)
    read = partial(signal, tables, metric, take=take, **chosen)
    return remembered(tables["windows"], f"{metric} {take} {sorted(chosen.items())}", read)


def grown(told: Signal, tables: Frames, metric: str, **labels: str | tuple[str, ...]) -> Array:
    """Return by how much a counter of these ports grew, [windows, ports]; 0 where it is not told though the port is."""
    found = told.aligned(known(tables, metric, "increase", **labels))
    return np.where(np.isnan(found) & np.isfinite(told.values), 0.0, found)


def kinds(tables: Frames) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (host, device) -> (link layer, board) of the ports that tell what they are."""
    return remembered(tables["windows"], "kinds of ports", lambda: _kinds(tables["windows"]))


def _kinds(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    rows = table.loc[(table["metric"] == INFO).to_numpy(), ["node", "device", "labels"]].drop_duplicates()
    found = {}
    for node, device, text in rows.astype(str).itertuples(index=False, name=None):
        told = parsed(text)
        found[node, device] = (told.get("link_layer", ""), told.get("board", ""))
    return found


def low_quantile(values: Array, share: float) -> Array:
    """Return [series]: the value below which `share` of the known values of each lie, NaN where none is known.

    >>> low_quantile(np.array([[4.0], [1.0], [2.0], [np.nan], [3.0]]), 0.25).tolist()
    [1.0]
    """
    place = (share * np.maximum(np.isfinite(values).sum(axis=0) - 1, 0)).astype(np.int64)
    return np.asarray(np.sort(values, axis=0)[place, np.arange(values.shape[1])])  # NaN last


def ratio(part: Array, whole: Array, least: float = 0.0) -> Array:
    """Return part / whole, NaN where the whole is not above `least`.

    >>> ratio(np.array([1.0, 1.0]), np.array([4.0, 0.0])).tolist()
    [0.25, nan]
    """
    found = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=found, where=np.asarray(whole > least))
    return found


def others_mean(values: Array, groups: Array) -> Array:
    """Return the mean of the others of a group, [windows, series]; NaN where there are none.

    >>> others_mean(np.array([[1.0, 0.0, 0.0, 5.0]]), np.array(["a", "a", "a", "b"])).tolist()
    [[0.0, 0.5, 0.5, nan]]
    """
    _, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    known = np.isfinite(values)
    size = (len(values), int(codes.max()) + 1 if len(codes) else 0)
    sums, counts = np.zeros(size), np.zeros(size)
    np.add.at(sums.T, codes, np.where(known, values, 0.0).T)
    np.add.at(counts.T, codes, known.T)
    return ratio(sums[:, codes] - np.where(known, values, 0.0), counts[:, codes] - known)


def ahead(mask: Array, windows: int) -> Array:
    """Return [windows, series]: True where `mask` is True within the next `windows`, this one included.

    >>> ahead(np.array([[0], [0], [0], [1]], dtype=bool), 3)[:, 0].tolist()
    [False, True, True, True]
    """
    found = mask.copy()
    for step in range(1, min(windows, len(mask))):
        found[:-step] |= mask[step:]
    return found


@dataclass(frozen=True)
class Scope:
    """What one finding is about: its subject, the `columns` that say so, and when (`mask` [windows])."""

    subject: Subject
    columns: Array
    mask: Array

    @property
    def text(self) -> str:
        """Return it in words."""
        count = len(self.columns)
        if self.subject.kind == "rack":
            return f"{count} ports of {'all rails' if self.subject.id == FABRIC else self.subject.id}"
        return f"{count} ports of {self.subject.id}" if self.subject.kind == "node" else self.subject.id

    def worst(self, values: Array) -> int:
        """Return the column with the greatest mean of `values` [windows, series] in these windows."""
        some = np.where(np.isfinite(values[self.mask][:, self.columns]), values[self.mask][:, self.columns], -np.inf)
        return int(self.columns[int(some.max(axis=0).argmax())])


def scopes(told: Signal, bad: Array, least_count: int = WIDE_COUNT) -> Iterator[Scope]:
    """Yield who is concerned by `bad` [windows, ports], the widest first: the fabric, rails, hosts, single ports.

    A rail is what has one device name on all hosts, and so mostly one switch.
    """
    left = bad.copy()
    for scope in _wide(told, bad, least_count):
        left[:, scope.columns] = False
        yield scope
    for node in dict.fromkeys(told.node[left.any(axis=0)].tolist()):
        mine = np.flatnonzero(told.node == node)
        at_once = left[:, mine].sum(axis=1) >= max(2.0, NODE_RATIO * len(mine))
        if at_once.any():
            columns = mine[left[np.ix_(at_once, mine)].any(axis=0)]
            yield Scope(subjects.node(str(node)), columns, _some(left[:, columns]))
            left[:, columns] = False
        for column in mine[left[:, mine].any(axis=0)].tolist():
            yield Scope(told.subject(column), np.array([column]), left[:, column])


def _wide(told: Signal, bad: Array, least_count: int) -> Iterator[Scope]:
    """Yield the fabric where half of the rails are concerned, else the rails that are."""
    names, codes = np.unique(told.device.astype(str), return_inverse=True)
    fired = np.flatnonzero(bad.any(axis=0))
    rails = {}
    for rail in np.flatnonzero(np.bincount(codes[fired], minlength=len(names)) >= least_count).tolist():
        mine = _together(bad, fired[codes[fired] == rail], least_count, int((codes == rail).sum()))
        if len(mine):
            rails[rail] = mine
    several = np.concatenate(list(rails.values())) if rails else fired[:0]
    if len(rails) >= max(1.0 if len(names) == 1 else 2.0, NODE_RATIO * len(names)):
        yield Scope(subjects.rack(FABRIC), several, _some(bad[:, several]))
        return
    for rail, mine in rails.items():
        yield Scope(subjects.rack(f"rail/{names[rail]}"), mine, _some(bad[:, mine]))


def _together(bad: Array, mine: Array, least_count: int, population: int) -> Array:
    """Return those of the columns `mine` of one rail that have one cause: a quarter at once, or all since one time."""
    at_once = bad[:, mine].sum(axis=1) >= max(least_count, WIDE_RATIO * population)
    if at_once.any():
        return np.asarray(mine[bad[np.ix_(at_once, mine)].any(axis=0)])
    onset = bad[:, mine].argmax(axis=0)
    near = np.convolve(np.bincount(onset, minlength=len(bad)), np.ones(2 * ONSET_WINDOWS + 1), "same")
    near[: ONSET_WINDOWS + 1] = 0.0  # what was there at the start has no onset
    when = int(near.argmax())
    return np.asarray(mine[(np.abs(onset - when) <= ONSET_WINDOWS) & (near[when] >= least_count)])


def _some(bad: Array) -> Array:
    """Return [windows]: where any of these is bad."""
    return np.asarray(bad.any(axis=1))
