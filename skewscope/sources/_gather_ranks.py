"""Ranks: where each runs, which of them are missing, and which addresses are theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Columns
from ..frames import empty, frame
from ..recording import Input
from ._gather_read import PER_RANK, Draft

FIELDS = ("gpu", "dp", "tp", "pp", "cp", "ep", "start_ns", "end_ns")
MISSING_LINES = 20


def world_size(drafts: Sequence[Draft], groups: pd.DataFrame | None = None) -> int:
    """Return the declared number of ranks, else that of the default group, else -1."""
    told = max((draft.reading.world_size for draft in drafts), default=-1)
    if told > 0 or groups is None or not len(groups):
        return told
    default = groups[((groups["group"] == "0") | (groups["description"] == "default_pg")).to_numpy()]
    return int(default["group_size"].max()) if len(default) else -1


def missing(drafts: Sequence[Draft], bad: Collection[tuple[str, int]], world: int) -> tuple[list[Input], list[str]]:
    """Return a line for every rank of the world that lacks a recording which other ranks have, and warnings.

    `bad` are (format, rank) of files that are there but unreadable: they have their own line.
    """
    present: dict[str, set[int]] = {}
    for draft in drafts:
        ranks = {rank for table, rank in draft.holds if table in PER_RANK and rank >= 0}
        if ranks and draft.rank < 0:
            present[draft.reading.format] = set(range(world))  # one file for many ranks: nothing to copy
        present.setdefault(draft.reading.format, set()).update(ranks)
    lines: list[Input] = []
    warnings: list[str] = []
    for format_name, ranks in sorted(present.items()):
        absent = [rank for rank in range(world) if rank not in ranks] if ranks else []
        if not absent:
            continue
        if len(absent) > len(ranks):
            warnings.append(f"{format_name} recordings of {len(ranks)} of {world} ranks only")
            continue
        left = [rank for rank in absent if (format_name, rank) not in bad]
        lines += [_absent(format_name, rank, world, len(ranks)) for rank in left[:MISSING_LINES]]
        if len(left) > MISSING_LINES:
            more = f"{len(left) - MISSING_LINES} more ranks have no {format_name} recording (world size {world})"
            lines.append(Input("(missing) more ranks", format_name, -1, 0, "unreadable", more))
    return lines, warnings


def _absent(format_name: str, rank: int, world: int, count: int) -> Input:
    told = (
        f"no {format_name} recording of rank {rank} (world size {world}) among the inputs: copy it too, "
        f"or read the result as of {count} ranks"
    )
    return Input(f"(missing) rank {rank}", format_name, rank, 0, "unreadable", told)


def nodes(drafts: Sequence[Draft]) -> dict[int, str]:
    """Return the host of each rank: what a recording says of itself counts before what a job file lists."""
    found: dict[int, str] = {}
    for draft in drafts:
        hosts: Mapping[int, str] = draft.reading.job.get("hosts") or {}
        found = {**{int(rank): host for rank, host in hosts.items() if host}, **found}
    found.update({draft.rank: draft.reading.node for draft in drafts if draft.rank >= 0 and draft.reading.node})
    return found


def table(drafts: Sequence[Draft], given: pd.DataFrame) -> pd.DataFrame:
    """Return `ranks`: one row per rank that is listed or seen, with all that any file tells of it."""
    host = nodes(drafts)
    facts: dict[int, dict[str, Any]] = {}
    for row in given.to_dict("records"):
        known = facts.setdefault(int(row["rank"]), {"job": row["job"]})
        known.update(
            {name: row[name] for name in ("node", "gpu_uuid", "gpu_model") if row[name] and not known.get(name)}
        )
        known.update({name: row[name] for name in FIELDS if row[name] >= 0 and known.get(name, -1) < 0})
    seen = {rank for draft in drafts for _, rank in draft.holds} | set(facts) | set(host)
    ranks = sorted(rank for rank in seen if rank >= 0)
    if not ranks:
        return empty("ranks")
    rows = [facts.get(rank, {}) for rank in ranks]
    model = {draft.rank: str(draft.reading.job["gpu_model"]) for draft in drafts if draft.reading.job.get("gpu_model")}
    columns: dict[str, Any] = {name: np.array([int(row.get(name, -1)) for row in rows]) for name in FIELDS}
    return frame("ranks", {
        "job": [row.get("job", "job") for row in rows], "rank": np.array(ranks),
        "node": [host.get(rank) or row.get("node", "") for rank, row in zip(ranks, rows, strict=True)],
        "gpu_uuid": [row.get("gpu_uuid", "") for row in rows],
        "gpu_model": [model.get(rank) or row.get("gpu_model", "") for rank, row in zip(ranks, rows, strict=True)],
        **columns,
    })  # fmt: skip


def with_rank_names(drafts: Sequence[Draft]) -> None:
    """Turn the addresses in `links` into ranks, in place: each file lists its own, and a shared one names nobody."""
    owners: dict[str, set[int]] = {}
    for draft in drafts:
        for address in draft.reading.job.get("addresses", ()):
            owners.setdefault(address, set()).add(draft.rank)
    names = {
        address: f"rank{next(iter(ranks))}" for address, ranks in owners.items() if len(ranks) == 1 and min(ranks) >= 0
    }
    for draft in drafts:
        own = set(draft.reading.job.get("addresses", ()))
        if own:
            mine = {**names, **dict.fromkeys(own, f"rank{draft.rank}")} if draft.rank >= 0 else names
            draft.reading.batches = [_named(table, columns, mine, names) for table, columns in draft.reading.batches]


def with_nodes(drafts: Sequence[Draft]) -> None:
    """Fill the host of a rank's own samples and events where its files leave it out, in place."""
    host = nodes(drafts)
    for draft in drafts:
        node = host.get(draft.rank, "")
        if node:
            draft.reading.batches = [
                (table, {"node": node, **columns} if table in ("samples", "events") else columns)
                for table, columns in draft.reading.batches
            ]


def _named(
    table: str, columns: Columns, own: Mapping[str, str], others: Mapping[str, str]
) -> tuple[str, Columns]:  # fmt: skip
    if table != "links":
        return table, columns
    src, dst = ([str(end) for end in columns[name]] for name in ("src", "dst"))
    return table, {**columns, "src": [own.get(end, end) for end in src], "dst": [others.get(end, end) for end in dst]}
