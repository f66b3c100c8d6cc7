"""Where a job stands when it stopped: per communicator, how far each rank got and who waits for whom.

Read from dumps that hold the state of every call (flight recorder). A rank *waits* in a group where it has a call that
is not complete; it waits *for* the members that never enqueued that call.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames

STALL_EVENTS = ("no-progress", "stack", "hang", "watchdog")


@dataclass(frozen=True)
class Wait:
    """One rank's oldest call of a group that is not complete; `row` is its row in `collectives`."""

    rank: int
    seq: int
    ready_ns: int
    row: int


@dataclass(frozen=True)
class Front:
    """One group with waiting ranks.

    `name` is the group as people know it. `enqueued` maps each member whose dump is there to its last call; `waits` the
    waiting ranks; `completed` holds the members that completed the call that the others wait at; `absent` are members,
    or ranks that may be members, whose dump is missing. `late` are the members that never enqueued the call waited at.
    `mixed`: the members issued different operations there.
    """

    group: str
    name: str
    op: str
    enqueued: dict[int, int]
    waits: dict[int, Wait]
    completed: frozenset[int]
    absent: tuple[int, ...]
    late: tuple[int, ...]
    mixed: bool

    @property
    def seq(self) -> int:
        """The oldest call at which somebody waits."""
        return min(wait.seq for wait in self.waits.values())

    @property
    def first(self) -> Wait:
        """The rank that waits longest."""
        return min(self.waits.values(), key=lambda wait: (wait.ready_ns, wait.rank))


@dataclass(frozen=True)
class Standstill:
    """All fronts, the ranks whose dumps are there, and when somebody last saw no progress (-1: nobody did)."""

    fronts: tuple[Front, ...]
    present: frozenset[int]
    seen_ns: int
    calls: pd.DataFrame

    @property
    def timed_out(self) -> bool:
        """Whether a watchdog gave a call up."""
        return bool((self.calls["state"] == "timed-out").any())

    def waits_for(self, rank: int) -> list[tuple[Front, int]]:
        """Return (front, late member) for each member that `rank` waits for."""
        return [(front, late) for front in self.fronts if rank in front.waits for late in front.late]

    def age_s(self, wait: Wait) -> float:
        """Return how long a wait had lasted when it was last seen, NaN where nobody looked."""
        known = self.seen_ns >= wait.ready_ns >= 0
        return (self.seen_ns - wait.ready_ns) / 1e9 if known else float("nan")

    def stack(self, row: int) -> str:
        """Return the innermost user frames of a call, "" where the dump has none."""
        return str(self.calls["stack"].iloc[row])


def standstill(tables: Frames) -> Standstill:
    """Return where the job stands; no fronts where every recorded call is complete."""
    calls = tables["collectives"]
    told = ((calls["state"] != "") & calls["op_class"].isin(["", "p2p"])).to_numpy()
    calls = (calls if told.all() else calls[told]).reset_index(drop=True)
    present = frozenset(_distinct(calls["rank"]))
    open_rows = np.flatnonzero((calls["state"] != "completed").to_numpy())
    events = tables["events"]
    seen = events.loc[events["event"].isin(STALL_EVENTS).to_numpy(), "t_ns"]
    world = present | _distinct(tables["ranks"]["rank"]) | set(range(max(present, default=-1) + 1))
    oldest = calls.groupby("rank")["ready_ns"].min()
    since = {int(rank): int(at) for rank, at in zip(oldest.index, oldest, strict=True)}
    stuck = calls["group"].isin(calls["group"].iloc[open_rows].unique())
    names = _names(tables["groups"])
    fronts = [
        _front(rows, names, _members(tables["groups"], rows, str(group)), world - present, since)
        for group, rows in calls[stuck.to_numpy()].groupby("group", observed=True)
    ]
    fronts.sort(key=lambda front: front.group)
    return Standstill(tuple(fronts), present, int(seen.max()) if len(seen) else -1, calls)


def last_row(calls: pd.DataFrame, rank: int) -> int:
    """Return the row of the last call that `rank` enqueued, -1 where it has none."""
    rows = np.flatnonzero((calls["rank"] == rank).to_numpy())
    return int(rows[np.argmax(calls["ready_ns"].to_numpy()[rows])]) if len(rows) else -1


def _members(groups: pd.DataFrame, rows: pd.DataFrame, group: str) -> tuple[set[int], bool]:
    """Return the known members of a group with these `rows`, and whether that is all of them."""
    told = groups[(groups["group"] == group).to_numpy()]
    known = _distinct(told["rank"]) | _distinct(rows["rank"])
    if group.startswith("p2p:"):
        return known | _distinct(rows["peer"][(rows["peer"] >= 0).to_numpy()]), True
    size = int(told["group_size"].max()) if len(told) else -1
    return known, len(known) >= size > 0


def _front(
    rows: pd.DataFrame, names: dict[str, str], known: tuple[set[int], bool], missing: Set[int], since: dict[int, int]
) -> Front:
    """Return the front of the group with these `rows`; `since` tells how far back each rank's buffer reaches."""
    group = str(rows["group"].iloc[0])
    members, complete = known
    rank, seq = rows["rank"].to_numpy(), rows["seq"].to_numpy()
    whole = (rows["state"] == "completed").to_numpy()
    enqueued = _furthest(rank, seq)
    waits: dict[int, Wait] = {}
    for place in np.flatnonzero(~whole)[np.argsort(seq[~whole], kind="stable")]:
        who = int(rank[place])
        row = int(rows.index[place])
        waits.setdefault(who, Wait(who, int(seq[place]), int(rows["ready_ns"].iloc[place]), row))
    first = min(waits.values(), key=lambda wait: (wait.seq, wait.rank))
    same = seq == first.seq
    # A member without a call in this group is late only if its buffer is old enough to have held one.
    silent = members - missing - set(enqueued)
    enqueued |= {who: -1 for who in silent if since.get(who, first.ready_ns + 1) <= first.ready_ns}
    return Front(
        group=group,
        name=names.get(group, f"group {group}"),
        op=str(rows["op"][first.row]),
        enqueued=enqueued,
        waits=waits,
        completed=frozenset(int(who) for who in rank[same & whole]),
        absent=tuple(sorted(missing & members if complete else missing)),
        late=_late(enqueued, waits, first),
        mixed=any(rows[name][same].nunique() > 1 for name in ("op", "dtype")),
    )


def _names(groups: pd.DataFrame) -> dict[str, str]:
    """Return what people call each described group, as "mesh_tp (group 4)"."""
    told = groups[(groups["description"] != "").to_numpy()].drop_duplicates("group")
    pairs = zip(told["group"], told["description"], strict=True)
    return {str(group): f"{description} (group {group})" for group, description in pairs}


def _distinct(column: pd.Series) -> set[int]:
    return {int(value) for value in np.unique(column.to_numpy())}


def _furthest(rank: np.ndarray[Any, Any], seq: np.ndarray[Any, Any]) -> dict[int, int]:
    order = np.lexsort((seq, rank))
    last = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True))
    return {int(who): int(number) for who, number in zip(rank[order][last], seq[order][last], strict=True)}


def _late(enqueued: dict[int, int], waits: dict[int, Wait], first: Wait) -> tuple[int, ...]:
    """Return who never enqueued the oldest open call, or, where all did, the youngest that somebody waits at."""
    idle = {who: reached for who, reached in enqueued.items() if who not in waits}
    late = [who for who, reached in idle.items() if reached < first.seq]
    furthest = max(enqueued[who] for who in waits)
    return tuple(sorted(late or [who for who, reached in idle.items() if reached < furthest]))
