"""Who sends how much to whom: are all-to-all exchanges and point-to-point messages even?

An uneven all_to_all (of experts, of embeddings) is as slow as its most loaded rank. `imbalance_ratio` of a call is the
greatest bytes of a member over their mean, 1 is even. Pairs come from point-to-point messages, which name both ends;
the sizes of all_to_all splits are not in these tables, so an exchange shows what each rank put in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import segments

from ._needed import largest, needed

EXCHANGES = ("all_to_all", "dispatch", "combine")


@dataclass(frozen=True)
class AllToAll:
    """The view; it has no settings."""

    needs: ClassVar[tuple[str, ...]] = ("collectives",)

    def show(self, tables: Frames) -> Shown:
        """Return bytes by rank, by call and by pair; raises NoData without exchanges or messages of known size."""
        needed(tables, "collectives")
        rows = tables["collectives"]
        rows = rows[(rows["message_bytes"] >= 0).to_numpy()]
        exchanged = rows[rows["op"].isin(EXCHANGES).to_numpy()]
        pairs = _pairs(rows)
        if not len(exchanged) and not len(pairs):
            raise NoData("no all_to_all and no point-to-point message with its size; record with the PyTorch profiler")
        calls = _calls(exchanged)
        ranks = _ranks(exchanged, pairs)
        found = {"ranks": ranks, "calls": calls, "pairs": pairs}
        pictures = (
            Picture("pairs", "heatmap", "Bytes from sender to receiver", "receiver_rank", "sender_rank", "moved_bytes"),
            Picture("ranks", "bars", "Bytes that each rank puts in", "rank", "moved_bytes", "op"),
        )
        return Shown(found, _said(calls, pairs), (), pictures)


def _ranks(exchanged: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    over = exchanged.groupby(["op", "rank"], observed=True, sort=True)
    made = over["message_bytes"].agg(["size", "sum"]).reset_index().astype({"op": str})
    sent = pairs.groupby("sender_rank", sort=True)[["messages_count", "moved_bytes"]].sum().reset_index()
    both = pd.DataFrame({
        "op": [*made["op"], *["send"] * len(sent)], "rank": [*made["rank"], *sent["sender_rank"]],
        "calls_count": [*made["size"], *sent["messages_count"]], "moved_bytes": [*made["sum"], *sent["moved_bytes"]],
    })  # fmt: skip
    mean = both.groupby("op")["moved_bytes"].transform("mean")
    return both.assign(against_mean_ratio=both["moved_bytes"] / mean.where(mean > 0))


def _calls(exchanged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per call: its bytes and how uneven they are."""
    names = [exchanged[name].cat.codes.to_numpy() for name in ("source", "group", "op_class")]
    keys = (*names, exchanged["seq"].to_numpy())
    order = segments.ordered(*keys) if len(exchanged) else np.zeros(0, dtype=np.int64)
    over = segments.runs(*(key[order] for key in keys))
    moved = exchanged["message_bytes"].to_numpy()[order]
    first = exchanged.iloc[order].iloc[over.first]
    mean = segments.total(moved, over) / np.maximum(over.size, 1)
    return pd.DataFrame({
        "group": first["group"].astype(str).to_numpy(), "op": first["op"].astype(str).to_numpy(),
        "step": first["step"].to_numpy(), "seq": first["seq"].to_numpy(), "members_count": over.size,
        "moved_bytes": segments.total(moved, over), "greatest_bytes": segments.maximum(moved, over),
        "imbalance_ratio": segments.maximum(moved, over) / np.where(mean > 0, mean, np.nan),
    })  # fmt: skip


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return bytes and messages of each sender and receiver, each message once (its sender's row where it has one)."""
    point = rows[rows["op"].isin(["send", "recv"]).to_numpy() & (rows["peer"] >= 0).to_numpy()]
    sends = (point["op"] == "send").to_numpy()
    rank, peer = point["rank"].to_numpy(), point["peer"].to_numpy()
    table = pd.DataFrame({"sender_rank": np.where(sends, rank, peer), "receiver_rank": np.where(sends, peer, rank),
                          "sends": sends, "moved_bytes": point["message_bytes"].to_numpy()})  # fmt: skip
    over = table.groupby(["sender_rank", "receiver_rank", "sends"], sort=True)["moved_bytes"].agg(["size", "sum"])
    both = over.reset_index().sort_values("sends", ascending=False, kind="stable")
    one = both.drop_duplicates(["sender_rank", "receiver_rank"]).sort_values(["sender_rank", "receiver_rank"])
    return (
        one.rename(columns={"size": "messages_count", "sum": "moved_bytes"})
        .drop(columns="sends")
        .reset_index(drop=True)
    )


def _said(calls: pd.DataFrame, pairs: pd.DataFrame) -> tuple[str, ...]:
    said = []
    if len(calls):
        uneven = calls["imbalance_ratio"]
        said.append(
            f"{len(calls)} exchanges; the most loaded member has {float(uneven.median()):.2f} times the mean bytes at "
            f"the median call and {float(uneven.max()):.2f} times at most."
        )
    if len(pairs):
        most = largest(pairs, "moved_bytes")
        said.append(
            f"{int(pairs['messages_count'].sum()):,} messages between {len(pairs)} pairs; the most bytes go from rank "
            f"{most['sender_rank']} to rank {most['receiver_rank']}: "
            f"{wording.prefixed(float(most['moved_bytes']))}B."
        )
    return tuple(said)
