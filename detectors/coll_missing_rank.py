"""One rank never calls a collective in which all others already wait: the job stands still.

Why it hurts
    A collective cannot end without all its members. The job stops completely, on all GPUs, until a watchdog kills it,
    often after half an hour; every rank except one looks stuck in communication, so the network is blamed.

How it is seen
    The dumps of all ranks are joined by communicator and sequence number. Some ranks have a call that is not complete,
    and a member never enqueued it. That member may itself wait elsewhere, for somebody else: the chain is followed to
    a rank that waits for nobody, which is the cause; the others are its victims. A rank without a dump is never accused
    for that alone: where the chain ends at one, it is told that it cannot be decided. A rank whose process the others'
    RAS threads (NCCL) cannot reach is named by that. Not to be confused with
    `coll-hang`, where every member did enqueue the call. Dumps in which all calls are complete say nothing, even if one
    rank was dumped a call earlier.

What to do
    Read the stack of the missing rank: most such hangs are on the CPU side (storage, data loader, an exception, garbage
    collection). Restart that rank's node if its hardware shows errors; otherwise tell the owner of the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from typing import ClassVar

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Rule, Window, World
from skewscope.frames import frame
from skewscope.subjects import Subject

from . import _worlds
from ._fronts import Standstill, Wait, last_row, standstill

GONE = {"process-dead": ("is dead", 0.9), "process-unresponsive": ("does not answer", 0.7)}  # events of NCCL RAS


@dataclass(frozen=True)
class CollMissingRank:
    """Thresholds: how long the others must have waited, where that is known; how many roots can still be causes."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("collectives", "groups", "ranks", "events")

    shortest_wait_s: float = 5.0
    root_share_ratio: float = 0.25

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return the culprit and its first victim, or the context that says why none can be named."""
        still = standstill(tables)
        waiting = {rank for front in still.fronts for rank in front.waits if not self._young(still, front.waits[rank])}
        late = {late for rank in waiting for _, late in still.waits_for(rank)}
        roots = sorted(rank for rank in late if not any(rank in front.waits for front in still.fronts))
        if len(roots) > max(1, self.root_share_ratio * len(still.present)):
            return [self._undecided(still, f"{len(roots)} ranks stopped calling at the same time: {_some(roots)}")]
        if roots:
            return [found for root in roots for found in self._named(tables, still, root)]
        if gone := list(_gone(tables)):
            return gone
        ends = [front for front in still.fronts if not front.late and set(front.waits) & waiting]
        absent = sorted({rank for front in ends for rank in front.absent})
        if absent:
            missing = f"the dump of rank {_some(absent)} is missing: it may be the one that never came"
            return [self._undecided(still, missing)]
        if late and not ends:
            return [self._undecided(still, f"ranks {_some(sorted(late))} wait for one another in different groups")]
        return []

    def _young(self, still: Standstill, wait: Wait) -> bool:
        return still.age_s(wait) < self.shortest_wait_s

    def _named(self, tables: Frames, still: Standstill, root: int) -> Iterable[Finding]:
        front = min((front for front in still.fronts if root in front.late), key=lambda front: front.first.ready_ns)
        wait, age_s = front.first, still.age_s(front.first)
        known = not isnan(age_s)
        waited = f" for {age_s:.1f} s" if known else ""
        own = last_row(still.calls, root)
        doing = _event_stack(tables, root) or (still.stack(own) and f"its last call came from {still.stack(own)}")
        call = f"{front.op} number {front.seq} of {front.name}"
        stopped = len({rank for each in still.fronts for rank in each.waits})
        sure = 0.97 if known or still.timed_out else 0.85  # a running job that was dumped looks alike
        lasted = (Evidence("waited", age_s, None, self.shortest_wait_s, "s"),) if known else ()
        behind = Evidence("last_call", front.enqueued[root], front.seq, None, "number")
        yield Finding(
            "coll-missing-rank", _rank(tables, root), "culprit", "S1", sure, _window(still, wait), 0.0, 0.0,
            (behind, Evidence("waiting_ranks", stopped, 0.0, None, "ranks"), *lasted),
            f"rank {root} never called {call}, where rank {wait.rank} waited first{waited}; {stopped} "
            f"of {len(still.present)} ranks stood still" + (f"; {doing}" if doing else ""),
            f"read the stack of rank {root} and restart it; the ranks that wait are healthy",
            lost_once_s=age_s if known else 0.0,
        )  # fmt: skip
        at = still.stack(wait.row)
        yield Finding(
            "coll-missing-rank", _rank(tables, wait.rank), "victim", "S1", sure, _window(still, wait), 0.0, 0.0,
            (behind, *lasted),
            f"rank {wait.rank} is the first that waits for rank {root}{waited}, in {call}{at and f', at {at}'}",
            "nothing: it is healthy",
        )  # fmt: skip

    def _undecided(self, still: Standstill, why: str) -> Finding:
        front = min(still.fronts, key=lambda front: front.first.ready_ns)
        return Finding(
            "coll-missing-rank", subjects.group("job", front.group), "context", "S1", 0.5, _window(still, front.first),
            0.0, 0.0, (Evidence("waiting_ranks", sum(len(each.waits) for each in still.fronts), 0.0, None, "ranks"),),
            f"the job stands still at {front.op} number {front.seq} of {front.name}; {why}",
            "get the missing dumps, or the stacks of all ranks, and look again",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: `watch` has found it; the wait is part of the finding."""
        return Rule(
            "SkewscopeMissingRank",
            'skewscope_finding_active{condition="coll-missing-rank",role="culprit"} == 1',
            0, "critical", "{{ $labels.subject }} never came to a collective",
            "the job stands still: all others wait for {{ $labels.subject }} on {{ $labels.node }}",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: complete, dumped a call apart, too young, missing, a chain of waits, its dump missing."""
        whole = {rank: (20, 20) for rank in range(4)}
        yield World("quiet", _worlds.dumps(_worlds.lockstep(4, 20)))
        yield World("dumped-apart", _worlds.dumps({"0": {**whole, 2: (19, 19)}}))
        stopped = {0: (20, 19), 1: (19, 19), 2: (20, 19), 3: (20, 19)}
        yield World("near-miss", _worlds.dumps({"0": stopped}, watchdog_s=1.0))
        yield World("missing", _worlds.dumps({"0": stopped}, watchdog_s=8.0), frozenset({"job/rank1", "job/rank0"}))
        chain: _worlds.Front = {
            "tp": {2: (7, 6), 3: (6, 6)}, "a": {0: (9, 8), 2: (8, 8)}, "b": {1: (9, 8), 3: (8, 8)},
        }  # fmt: skip
        yield World("chain", _worlds.dumps(chain), frozenset({"job/rank3", "job/rank2"}))
        rest = {rank: reached for rank, reached in stopped.items() if rank != 1}
        told = {"0": range(4)}
        away = {"t_ns": 10**18, "node": "n1", "device": "rank2", "message": "process 7", "event": ["process-dead"]}
        whole_and_gone = _worlds.dumps(_worlds.lockstep(4, 20)) | {"events": frame("events", away)}
        ring: _worlds.Front = {"a": {0: (9, 8), 1: (8, 8)}, "b": {1: (7, 6), 0: (6, 6)}}
        yield World("circle", _worlds.dumps(ring), frozenset({"job/group:b"}))
        yield World("dump-missing", _worlds.dumps({"0": rest}, members=told), frozenset({"job/group:0"}))
        yield World("gone", whole_and_gone, frozenset({"job/rank2"}))
        yield World("all-came", _worlds.dumps(_worlds.lockstep(4, 20, completed=19)))


def _gone(tables: Frames) -> Iterable[Finding]:
    """Yield ranks whose process cannot be reached by the others', each once: by the newest and gravest word."""
    events = tables["events"]
    rows = events[(events["event"].isin(GONE) & events["device"].astype(str).str.startswith("rank")).to_numpy()]
    rows = rows.sort_values(["event", "t_ns"], kind="stable").drop_duplicates("device")  # dead comes first
    for row in rows.to_dict("records"):
        number, node, (state, sure) = int(str(row["device"])[4:]), str(row["node"]), GONE[str(row["event"])]
        yield Finding(
            "coll-missing-rank", subjects.rank("job", number, node=node), "culprit", "S1", sure,
            Window(int(row["t_ns"]), int(row["t_ns"])), 0.0, 0.0,
            (Evidence("processes_gone", float(len(rows)), 0.0, 1.0, "ranks"),),
            f"the process of rank {number} on {node or 'an unknown host'} {state}: {row['message']}",
            f"look at that process and its host; the job cannot go on without rank {number}",
        )  # fmt: skip


def _window(still: Standstill, wait: Wait) -> Window:
    return Window(wait.ready_ns, max(still.seen_ns, wait.ready_ns))


def _some(ranks: Iterable[int]) -> str:
    listed = list(ranks)
    return ", ".join(map(str, listed[:8])) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _rank(tables: Frames, number: int) -> Subject:
    ranks = tables["ranks"]
    node = ranks.loc[(ranks["rank"] == number).to_numpy(), "node"]
    return subjects.rank("job", number, node=str(node.iloc[0]) if len(node) else "")


def _event_stack(tables: Frames, rank: int) -> str:
    """Return what a stack dump of the rank says, "" where there is none."""
    events = tables["events"]
    mine = events[((events["event"] == "stack") & (events["device"] == f"rank{rank}")).to_numpy()]
    return f"its stack is {str(mine['message'].iloc[-1])[:300]}" if len(mine) else ""
