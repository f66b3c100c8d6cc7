"""Links: every pair of ends on one matrix, the rails of the network, and the map of hosts and GPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.reports import wording

from .. import _heat
from .._culprits import FRESH, host
from .._node_lines import NIC, medians, told
from .._page import HOW, Block, Cell, Link, nothing
from .._rank_maps import kinds, of_job, rank_map
from .._rank_scores import scores, verdict
from .._selection import Selection
from .._view import View

Array = np.ndarray[Any, Any]
PAIRS, RAILS, TOPOLOGY = "Pairs: who is slow to whom", "Rails: adapters of all hosts", "Map of hosts and GPUs"
MOST_ENDS, MOST_ROWS = 2000, 12
EVEN = 0.05  # less than this below the median is the usual spread
NO_PAIRS = "Probe pairs (`links` tables), or record point-to-point calls; live agents tell rails, not pairs."
NO_RAILS = "Run `skewscope agent` on the hosts: it reads the RDMA adapters."
NO_MAP = "Load steps or live metrics with the hosts of ranks."


class Links:
    """The page of links."""

    path: ClassVar[str] = "/links"
    title: ClassVar[str] = "Links"
    order: ClassVar[int] = 8
    needs: ClassVar[tuple[str, ...]] = ("links", "pair_delays", "windows", "ranks")

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the matrix of pairs, the rails, and the map."""
        if view.empty:
            return (nothing("pairs", PAIRS, "nothing is loaded", HOW),)
        return _pairs(view, selection), _rails(view, selection), _map(view, selection)


def _pairs(view: View, selection: Selection) -> Block:
    found, what = _of_links(view)
    if not len(found):
        found, what = _of_delays(view, selection)
    if not len(found):
        return nothing("pairs", PAIRS, "no speed or delay of pairs was measured", NO_PAIRS)
    ends = sorted({*found["src"], *found["dst"]}, key=_natural)
    note = ""
    if len(ends) > MOST_ENDS:
        found = found.assign(src=found["src"].map(_host_of), dst=found["dst"].map(_host_of))
        ends = sorted({*found["src"], *found["dst"]}, key=_natural)[:MOST_ENDS]
        note = "There are too many ends: the worst pair of two hosts stands for them."
    usual = float(found["slowness"].median())
    found = found.assign(beyond=found["slowness"] / usual - 1).sort_values("beyond", ascending=False)
    place = {end: at for at, end in enumerate(ends)}
    kept = found[found["src"].isin(place) & found["dst"].isin(place)]
    values = np.full((len(ends), len(ends)), np.nan, dtype=np.float32)
    at = kept["src"].map(place).to_numpy(), kept["dst"].map(place).to_numpy()
    values[at[0][::-1], at[1][::-1]] = kept["beyond"].to_numpy()[::-1]  # the worst is written last
    matrix = _heat.Matrix(values, ends, ends, "to", "from", "share", True, True)
    worst = found.iloc[0]
    said = (
        f"{worst['src']} to {worst['dst']} is slowest: {worst['text']}, {wording.share(float(worst['beyond']))} more "
        "time than the median pair."
        if worst["beyond"] > 0.1
        else f"All {len(found)} pairs are alike: the slowest, {worst['src']} to {worst['dst']}, takes "
        f"{wording.share(float(max(worst['beyond'], 0.0)))} more time than the median pair."
    )
    rows = tuple(
        (row["src"], row["dst"], row["text"], wording.share(row["beyond"]))
        for row in found.head(MOST_ROWS).to_dict("records")
    )
    title = f"{PAIRS} ({what})"
    figure = _heat.figure(matrix)
    return Block("pairs", title, said, figure, ("from", "to", what, "beyond the median"), rows, note, data=found)


def _of_links(view: View) -> tuple[pd.DataFrame, str]:
    """Return src, dst, slowness and text of measured links, by speed where it is known, else by latency."""
    rows = view.tables.get("links", pd.DataFrame())
    if not len(rows):
        return rows, ""
    for column, what in (("speed_bytes_per_s", "speed"), ("latency_ns", "latency")):
        good = rows[(np.nan_to_num(rows[column].to_numpy(dtype=float)) > 0)]
        if len(good):
            value = good.groupby([good["src"].astype(str), good["dst"].astype(str)])[column].median()
            return _slow(value.reset_index(), column, what)
    return rows.iloc[:0], ""


def _of_delays(view: View, selection: Selection) -> tuple[pd.DataFrame, str]:
    rows = view.tables.get("pair_delays", pd.DataFrame())
    rows = of_job(rows, selection.job) if len(rows) else rows
    for column, what in (("speed_bytes_per_s", "speed"), ("delay_ns", "delay")):
        good = rows[(np.nan_to_num(rows[column].to_numpy(dtype=float)) > 0)] if len(rows) else rows
        if len(good):
            named = pd.DataFrame({
                "src": [f"rank {rank}" for rank in good["src_rank"]],
                "dst": [f"rank {rank}" for rank in good["dst_rank"]], column: good[column].to_numpy(dtype=float),
            })  # fmt: skip
            return _slow(named, column, what)
    return pd.DataFrame(), ""


def _slow(rows: pd.DataFrame, column: str, what: str) -> tuple[pd.DataFrame, str]:
    value = rows[column].to_numpy(dtype=float)
    if what == "speed":
        return rows.assign(slowness=1 / value, text=[f"{one / 1e9:.3g} GB/s" for one in value]), what
    return rows.assign(slowness=value, text=[wording.seconds(one / 1e9) for one in value]), what


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts rank 10 behind rank 9.

    >>> sorted(["rank 10", "rank 9"], key=_natural)
    ['rank 9', 'rank 10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _host_of(end: str) -> str:
    return end.partition("/")[0]


def _rails(view: View, selection: Selection) -> Block:
    found = told(view, NIC[0])
    if found is None:
        return nothing("rails", RAILS, "no traffic of RDMA adapters is known", NO_RAILS)
    middle = medians(found)
    nodes, row = np.unique(found.node.astype(str), return_inverse=True)
    rails, column = np.unique(found.device.astype(str), return_inverse=True)
    speed = np.full((len(nodes), len(rails)), np.nan, dtype=np.float32)
    speed[row, column] = middle
    if float(np.nansum(speed)) <= 0:
        return nothing("rails", RAILS, "no adapter has sent anything", "Look again while a job trains.")
    with np.errstate(all="ignore"):
        of_host = speed / np.nanmedian(speed, axis=1, keepdims=True)
    below = np.where(np.isfinite(of_host), 1 - of_host, np.nan).astype(np.float32)
    busy = np.nanmax(speed, axis=1) > 0.02 * np.nanmax(speed)
    below[~busy] = np.nan
    if not np.isfinite(below).any():
        return nothing("rails", RAILS, "no adapter has sent anything", "Look again while a job trains.")
    figure = _heat.figure(_heat.Matrix(below, nodes.tolist(), rails.tolist(), "adapter (rail)", "host", "share", True))
    order = np.argsort(-np.nan_to_num(below.ravel(), nan=-np.inf), kind="stable")[:MOST_ROWS]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (host(str(nodes[at // len(rails)]), selection), str(rails[at % len(rails)]),
         f"{speed.ravel()[at]:.3g} GB/s", wording.share(float(below.ravel()[at])))
        for at in order.tolist() if np.isfinite(below.ravel()[at])
    )  # fmt: skip
    said = _rail_words(below, nodes, rails)
    note = "Drawn is how much less than the median adapter of the same host each one sends; hosts at rest are left out."
    return Block("rails", RAILS, said, figure, ("host", "adapter", "sent", "below its host's median"), rows, note)


def _rail_words(below: Array, nodes: Array, rails: Array) -> str:
    """Return whether one rail, one adapter or none sends less than its host's median adapter."""
    first = int(np.nanargmax(below))
    most = float(below.ravel()[first])
    if most < EVEN:
        return f"All adapters send alike: none sends more than {wording.share(EVEN)} less than the median of its host."
    some = np.isfinite(below).any(axis=0)
    sums = np.full(len(rails), -np.inf)
    sums[some] = np.nanmedian(below[:, some], axis=0)
    worst = int(np.argmax(sums))
    if sums[worst] > most / 2:
        less = wording.share(float(sums[worst]))
        return f"Rail {rails[worst]} sends {less} less than the median adapter, on most of {len(nodes)} hosts alike."
    node, rail = nodes[first // len(rails)], rails[first % len(rails)]
    return (
        f"Adapter {rail} of {node} sends {wording.share(most)} less than the median adapter of its host; no rail does."
    )


def _map(view: View, selection: Selection) -> Block:
    """Return hosts x GPUs, coloured by what the Ranks page shows first."""
    there = kinds(view)
    made = rank_map(view, there[0], selection.job) if there else None
    if made is None or not (made.node.astype(str) != "").any():
        return nothing("topology", TOPOLOGY, "no rank with a host has known steps", NO_MAP)
    judged = scores(view, made, selection)
    nodes, row = np.unique(made.node.astype(str), return_inverse=True)
    slot = _slots(view, made.job, made.rank, row)
    values = np.full((len(nodes), int(slot.max()) + 1), np.nan, dtype=np.float32)
    values[row, slot] = judged.score
    columns = [f"gpu{at}" for at in range(values.shape[1])]
    matrix = _heat.Matrix(values, nodes.tolist(), columns, "GPU", "host", made.unit, made.kind.diverging, True)
    by_host = np.array([np.nanmax(line) if np.isfinite(line).any() else -np.inf for line in values])
    order = np.argsort(-by_host, kind="stable")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (host(str(nodes[at]), selection), _heat.said(float(by_host[at]), made.unit),
         Link("ranks", selection.link("/ranks", **FRESH, node=str(nodes[at]), rank=-1)))
        for at in order[:MOST_ROWS].tolist()
    )  # fmt: skip
    said, marks = verdict(view, made, judged, selection)
    if marks:
        said = f"{said} {_spread(by_host, nodes)}"
    note = f"Job {made.job}; the colours are those of the Ranks page."
    return Block("topology", TOPOLOGY, said, _heat.figure(matrix), ("host", "its worst rank", "more"), rows, note)


def _spread(by_host: Array, nodes: Array) -> str:
    worst = float(by_host.max())
    wide = int((by_host > worst / 2).sum()) if worst > 0 else 0
    if wide == 1:
        return f"Host {nodes[int(by_host.argmax())]} stands alone among {len(nodes)} hosts."
    return f"{wide} of {len(nodes)} hosts reach half of the worst: compare what they share."


def _slots(view: View, job: str, rank: Array, row: Array) -> Array:
    """Return the slot of each rank's GPU: as told, else its place among the ranks of the host."""
    ranks = view.tables.get("ranks", pd.DataFrame())
    if len(ranks):
        gpu = of_job(ranks, job).drop_duplicates("rank").set_index("rank")["gpu"].reindex(rank)
        found = gpu.fillna(-1).to_numpy().astype(int)
        if (found >= 0).all() and len(set(zip(row.tolist(), found.tolist(), strict=True))) == len(rank):
            return found
    order = np.lexsort((rank, row))
    first = np.searchsorted(row[order], row[order])
    place = np.empty(len(rank), dtype=int)
    place[order] = np.arange(len(rank)) - first
    return place
