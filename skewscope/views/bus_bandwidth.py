"""How fast is each kind of collective, beside other groups and the limit of the link?

The *algorithm bandwidth* is the size of a call over its transfer: from the arrival of the last member to that member's
completion, so that waiting for it does not count. The *bus bandwidth* multiplies it with the factor of nccl-tests
(PERFORMANCE.md), all_reduce 2(n-1)/n, all_gather, reduce_scatter and all_to_all (n-1)/n, others 1, so that it compares
with what a link can do whatever the size of the group. The size is that of the larger side: the input of a
reduce_scatter, the output of an all_gather. Where members are missing from the recording the last arrival is not known,
and the numbers are lower bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import segments

from ._needed import largest, needed, smallest

Array = np.ndarray[Any, Any]
SHARED = ("all_gather", "reduce_scatter", "all_to_all")
FEW = 3  # calls of a rank below which it is not compared


@dataclass(frozen=True)
class BusBandwidth:
    """The view; `limit_bytes_per_s` is what a link can do, 0 takes the greatest nominal speed in `links`."""

    limit_bytes_per_s: float = 0.0
    needs: ClassVar[tuple[str, ...]] = ("arrivals",)

    def show(self, tables: Frames) -> Shown:
        """Return bandwidth by operation, size, and group, and by rank; raises NoData without sizes and completions."""
        needed(tables, "arrivals")
        calls, members = _calls(tables["arrivals"])
        if not len(calls):
            raise NoData(
                "no collective with its size and completion; record with the PyTorch profiler or NCCL Inspector"
            )
        calls = calls.assign(link=_links(tables, members, len(calls)))
        sizes = self._sizes(calls, tables["links"])
        ranks = _ranks(calls, members)
        notes = []
        if (calls["members_count"] < calls["group_size"]).any():
            share = float((calls["members_count"] < calls["group_size"]).mean())
            notes.append(f"{share:.0%} of the calls lack members in the recording: their bandwidth is a lower bound.")
        if (calls["link"] == "unknown").all():
            notes.append("The hosts of the ranks are not known: whether a group spans nodes is not known either.")
        pictures = (
            Picture("sizes", "points", "Bus bandwidth by size", "size_bytes", "bus_bytes_per_s", "op"),
            Picture(
                "ranks", "bars", "Bus bandwidth of each rank against the others", "rank", "against_ranks_ratio", "op"
            ),
        )
        return Shown(
            {"sizes": sizes, "ranks": ranks, "groups": _groups(calls)}, _said(sizes, ranks), tuple(notes), pictures
        )

    def _sizes(self, calls: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
        limit = self.limit_bytes_per_s or float(links["peak_bytes_per_s"].max() if len(links) else np.nan)
        over = calls.groupby(["op", "size_bytes", "group_size", "link"], sort=True, observed=True)
        made = over[["message_bytes", "transfer_s", "algorithm_bytes_per_s", "bus_bytes_per_s"]].median()
        made.insert(0, "calls_count", over.size())
        made["groups_count"] = over["group"].nunique()
        made["slowest_bus_bytes_per_s"] = over["bus_bytes_per_s"].min()
        by_group = calls.groupby(["op", "size_bytes", "group_size", "link", "group"], sort=True, observed=True)
        medians = by_group["bus_bytes_per_s"].median().reset_index()
        worst = medians.sort_values("bus_bytes_per_s", kind="stable").drop_duplicates(
            ["op", "size_bytes", "group_size", "link"]
        )
        made["slowest_group"] = worst.set_index(["op", "size_bytes", "group_size", "link"])["group"].astype(str)
        made["limit_percent"] = 100 * made["bus_bytes_per_s"] / limit if np.isfinite(limit) else np.nan
        return made.reset_index()


def factor(op: str, ranks: float) -> float:
    """Return what the algorithm bandwidth is multiplied with, by the rules of nccl-tests.

    >>> factor("all_reduce", 4), factor("all_gather", 4), factor("broadcast", 4)
    (1.5, 0.75, 1.0)
    """
    if op == "all_reduce":
        return 2 * (ranks - 1) / ranks
    return (ranks - 1) / ranks if op in SHARED else 1.0


def _calls(arrivals: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one row per call with its bandwidths, and its members with the number of their row."""
    good = (arrivals["message_bytes"] > 0) & (arrivals["transfer_ns"] > 0) & ~arrivals["op"].isin(["send", "barrier"])
    rows = arrivals[good.to_numpy()]
    rows = rows.iloc[np.lexsort((rows["rank"].to_numpy(), rows["wait_ns"].to_numpy(), rows["call"].to_numpy()))]
    over = segments.runs(rows["call"].to_numpy())
    first = rows.iloc[over.first]  # the last one to arrive
    size = np.where(first["group_size"] > 0, first["group_size"], np.maximum(first["members_count"], 1)).astype(float)
    size = np.where(first["op"] == "recv", 2.0, size)
    op = first["op"].astype(str).to_numpy()
    kinds, of_kind = np.unique(op, return_inverse=True)
    factors = np.zeros(len(first))
    for place, kind in enumerate(kinds.tolist()):
        mine = of_kind == place
        factors[mine] = [factor(kind, max(one, 1)) for one in size[mine].tolist()]
    moved = first["message_bytes"].to_numpy().astype(float)
    transfer = first["transfer_ns"].to_numpy() / 1e9
    made = pd.DataFrame({
        "op": op, "group": first["group"].astype(str).to_numpy(), "step": first["step"].to_numpy(),
        "group_size": size.astype(np.int64), "members_count": first["members_count"].to_numpy(),
        "message_bytes": first["message_bytes"].to_numpy(), "transfer_s": transfer,
        "size_bytes": (2 ** np.floor(np.log2(np.maximum(moved, 1)))).astype(np.int64),
        "algorithm_bytes_per_s": moved / transfer, "bus_bytes_per_s": moved / transfer * factors,
    })  # fmt: skip
    of = pd.DataFrame(
        {"row": over.of, "rank": rows["rank"].to_numpy(), "transfer_s": rows["transfer_ns"].to_numpy() / 1e9}
    )
    return made, of


def _links(tables: Frames, members: pd.DataFrame, calls: int) -> Array:
    """Return for each call whether its members are on one node: intra-node, inter-node or unknown."""
    ranks = tables["ranks"]
    node = dict(zip(ranks["rank"].tolist(), ranks["node"].astype(str).tolist(), strict=True)) if len(ranks) else {}
    names = {name: place for place, name in enumerate(sorted({name for name in node.values() if name}))}
    number = members["rank"].map({rank: names.get(name, -1) for rank, name in node.items()}).fillna(-1).to_numpy()
    over = segments.runs(members["row"].to_numpy())
    least, most = segments.minimum(number, over), segments.maximum(number, over)
    return (
        np.select([least < 0, least == most], ["unknown", "intra-node"], "inter-node")
        if len(over.first)
        else np.full(calls, "unknown")
    )


def _ranks(calls: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Return per operation and rank its median bandwidth, and against the median of all members of the same calls."""
    row = members["row"].to_numpy()
    middle = segments.median(members["transfer_s"].to_numpy(), segments.runs(row))
    speed = middle[row] / members["transfer_s"].to_numpy()
    rows = pd.DataFrame(
        {
            "op": calls["op"].to_numpy()[row],
            "rank": members["rank"].to_numpy(),
            "against_ranks_ratio": speed,
            "bus_bytes_per_s": calls["bus_bytes_per_s"].to_numpy()[row]
            * calls["transfer_s"].to_numpy()[row]
            / members["transfer_s"].to_numpy(),
        }
    )
    over = rows.groupby(["op", "rank"], sort=True)
    made = over[["bus_bytes_per_s", "against_ranks_ratio"]].median()
    made.insert(0, "calls_count", over.size())
    return made.reset_index()


def _groups(calls: pd.DataFrame) -> pd.DataFrame:
    """Return per operation, size and group its bandwidth, and against the median of the other groups."""
    keys = ["op", "size_bytes", "group_size", "link"]
    over = calls.groupby([*keys, "group"], sort=True)
    made = over[["transfer_s", "bus_bytes_per_s"]].median()
    made.insert(0, "calls_count", over.size())
    made = made.reset_index()
    run = segments.runs(segments.numbered(*(pd.factorize(made[name])[0] for name in keys)))
    others = (
        segments.median_of_others(made["bus_bytes_per_s"].to_numpy(), run) if len(made) else made["bus_bytes_per_s"]
    )
    return made.assign(against_groups_ratio=made["bus_bytes_per_s"] / others)


def _said(sizes: pd.DataFrame, ranks: pd.DataFrame) -> tuple[str, ...]:
    said = []
    for op, part in sizes.groupby("op", sort=True):
        best = largest(part, "bus_bytes_per_s")
        said.append(
            f"{op} reaches a bus bandwidth of {wording.prefixed(best['bus_bytes_per_s'])}B/s at "
            f"{wording.prefixed(float(best['message_bytes']))}B over {best['group_size']} ranks."
        )
    known = ranks[(ranks["calls_count"] >= FEW).to_numpy()]
    if len(known) > 1:
        worst = smallest(known, "against_ranks_ratio")
        if worst["against_ranks_ratio"] < 0.8:
            said.append(
                f"Rank {worst['rank']} moves its {worst['op']} at {worst['against_ranks_ratio']:.2f} of the speed of "
                "the other members."
            )
    return tuple(said[:6])
