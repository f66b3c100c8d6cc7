"""Rows of the canonical tables out of reports of NCCL RAS: who launched how many calls, and whether anything moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..contracts import Columns
from ..ras_report import DEAD, UNRESPONSIVE, Communicator, Happening, Member, Report, away
from ._nccl_names import operation
from ._telemetry_file import moment_ns

FORMAT = "nccl-ras"
CLEAR_LAG = 2  # calls; one is what a running job shows
GONE = {DEAD: "process-dead", UNRESPONSIVE: "process-unresponsive"}
HAPPENED = {"PEER_DEAD": "process-dead", "PEER_UNRESPONSIVE": "process-unresponsive"}
Process = tuple[str, int, int]  # host, pid, device


@dataclass
class Saved:
    """What one file holds, and when it was written."""

    path: str
    reports: list[Report]
    happened: list[Happening]
    written_ns: int


@dataclass
class Made:
    """The rows of one file."""

    batches: list[tuple[str, Columns]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    world: int = -1
    reports: int = 0


@dataclass
class Look:
    """One communicator in one report: launched calls of each rank, when (ns, -1 unknown), and the file it is from."""

    found: Communicator
    total: dict[int, int]
    op: str
    t_ns: int
    place: int


def batches(files: Sequence[Saved]) -> list[Made]:
    """Return the rows of each file; the newest report of a communicator gives its calls."""
    made = [Made(reports=len(one.reports) + len(one.happened)) for one in files]
    told = [(_when(report), one.written_ns, place, report) for place, one in enumerate(files) for report in one.reports]
    told.sort(key=lambda row: (row[0] if row[0] >= 0 else row[1], row[1]))
    ranks = _global_ranks([row[3] for row in told])
    looks: dict[str, list[Look]] = {}
    for t_ns, _, place, report in told:
        made[place].world = max(made[place].world, ranks.world)
        made[place].batches.append(("events", _said(report, t_ns, ranks)))
        for found in report.communicators:
            total, op = _totals(found)
            looks.setdefault(found.name, []).append(Look(found, total, op, t_ns, place))
    for seen in looks.values():
        _add_calls(made[seen[-1].place], seen, ranks)
    for place, one in enumerate(files):
        if one.happened:
            made[place].batches.append(("events", _happened(one.happened, ranks)))
    return made


@dataclass
class Ranks:
    """Who is who: the job's size, and the global rank of each process's GPU.

    `whole` is the size of a communicator whose ranks are the job's, -1 where there is none.
    """

    world: int = -1
    whole: int = -1
    of: dict[Process, int] = field(default_factory=dict)

    def rank(self, found: Communicator, member: Member) -> int:
        """Return the global rank of a member, -1 where the reports do not tell it."""
        if found.size == self.whole:
            return member.rank
        return self.of.get((member.host, member.pid, member.device), -1)


def _global_ranks(told: Sequence[Report]) -> Ranks:
    """Return the ranks by the largest communicator, if it holds all of the job."""
    every = [found for report in told for found in report.communicators]
    known = {_process(member) for found in every for member in found.members.values() if member.pid >= 0}
    largest = max((found.size for found in every), default=-1)
    world = max([largest, len(known), *(report.gpus for report in told)])
    if largest < world:
        return Ranks(world)
    of = {_process(member): member.rank for found in every if found.size == largest
          for member in found.members.values() if member.pid >= 0 and member.rank >= 0}  # fmt: skip
    return Ranks(world, largest, of)


def _process(member: Member) -> Process:
    return member.host, member.pid, member.device


def _when(report: Report) -> int:
    return moment_ns(report.time) if report.time else -1


def _totals(found: Communicator) -> tuple[dict[int, int], str]:
    """Return how many calls each rank launched, of all operations that are told, and the operation that differs most.

    The text form tells only the operations whose counts differ: the others are equal, and so are left out of all.
    """
    total = {member.rank: sum(member.counts.values()) for member in found.members.values() if member.counts}
    spreads = found.spreads()
    most = {op: max(m.counts.get(op, 0) for m in found.members.values()) for op in spreads}
    op = max(spreads, key=lambda name: (spreads[name], most[name]), default="")
    return total, operation(op) if op else "collective"


def _add_calls(made: Made, seen: Sequence[Look], ranks: Ranks) -> None:
    """Add the newest counts of one communicator; those ahead wait where the counts stand still."""
    last = seen[-1]
    known = {ranks.rank(last.found, last.found.members[rank]): calls for rank, calls in last.total.items() if calls > 0}
    known.pop(-1, None)
    group = f"ras:{last.found.name}"
    members = {ranks.rank(last.found, member) for member in last.found.members.values()} - {-1}
    if members:
        made.batches.append(("groups", {
            "job": "job", "group": group, "rank": np.array(sorted(members)), "group_size": last.found.size,
            "source": FORMAT,
        }))  # fmt: skip
        made.batches.append(("ranks", _where(last.found, ranks)))
    if not known:
        return
    since = _still_since(seen)
    low, high = min(known.values()), max(known.values())
    stands = len(seen) - since > 1
    waits = high > low and (stands or (len(seen) == 1 and high - low >= CLEAR_LAG))
    if high > low and not waits:
        made.warnings.append(f"ranks of communicator {last.found.name} are {high - low} calls apart, as in any running "
                             "job: take another report some seconds later")  # fmt: skip
    rows = sorted(known.items())
    calls = np.array([number for _, number in rows])
    begun = seen[since].t_ns if stands else -1
    made.batches.append(("collectives", {
        "job": "job", "rank": np.array([rank for rank, _ in rows]), "group": group, "group_size": last.found.size,
        "seq": calls, "op": last.op, "ready_ns": np.where(calls > low, begun, -1), "blocking": False,
        "state": ["scheduled" if waits and number > low else "completed" for number in calls.tolist()],
        "source": FORMAT,
    }))  # fmt: skip
    if waits and stands:
        age_s = (last.t_ns - begun) // 10**9 if begun >= 0 else -1
        told = f"no rank of communicator {last.found.name} launched a call in {len(seen) - since} reports"
        made.batches.append(("events", {"t_ns": np.array([last.t_ns]), "device": "", "event": "no-progress",
                                        "code": age_s, "message": told}))  # fmt: skip


def _still_since(seen: Sequence[Look]) -> int:
    """Return the first of the newest reports that all tell the same counts."""
    since = len(seen) - 1
    while since > 0 and seen[since - 1].total == seen[-1].total:
        since -= 1
    return since


def _where(found: Communicator, ranks: Ranks) -> Columns:
    placed = {ranks.rank(found, member): member for member in found.members.values() if member.host}
    placed.pop(-1, None)
    return {"job": "job", "rank": np.array(list(placed), dtype=np.int64), "node": [one.host for one in placed.values()],
            "gpu": np.array([one.device for one in placed.values()], dtype=np.int64)}  # fmt: skip


def _said(report: Report, t_ns: int, ranks: Ranks) -> Columns:
    """Return the events of one report: its summary, processes that are away, ranks with an error."""
    states = dict(report.unnamed)
    for found in report.communicators:
        states[found.state] = states.get(found.state, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if count) or "none told"
    rows = [("", "", "nccl-ras", f"communicators: {told}")]
    rows += _away(report, ranks)
    for found in report.communicators:
        for member in found.members.values():
            if member.error:
                rows.append((member.host, _device(ranks.rank(found, member)), "nccl-error",
                             f"{member.error} in communicator {found.name}"))  # fmt: skip
    return _events(rows, t_ns)


def _away(report: Report, ranks: Ranks) -> list[tuple[str, str, str, str]]:
    found_away: dict[Process, tuple[str, str, str, str]] = {}
    for found, member in away(report):
        event, rank = GONE.get(member.status), ranks.rank(found, member)
        if event and _process(member) not in found_away:
            found_away[_process(member)] = (member.host, _device(rank), event, _text(member))
    for member in report.gone:
        where = _device(ranks.of.get(_process(member), -1))
        event = GONE.get(member.status, GONE[UNRESPONSIVE])
        found_away.setdefault(_process(member), (member.host, where, event, _text(member)))
    return list(found_away.values())


def _text(member: Member) -> str:
    if member.pid < 0:
        return "its process does not answer NCCL RAS"
    return f"process {member.pid} of GPU {member.device} does not answer NCCL RAS"


def _device(rank: int) -> str:
    return f"rank{rank}" if rank >= 0 else ""


def _happened(happened: Sequence[Happening], ranks: Ranks) -> Columns:
    by_pid = {(host, pid): rank for (host, pid, _), rank in ranks.of.items()}
    rows = [(one.host, _device(by_pid.get((one.host, one.pid), -1)),
             HAPPENED.get(one.what, "nccl-" + one.what.lower().replace("_", "-")),
             one.text or f"process {one.pid}") for one in happened]  # fmt: skip
    return {**_events(rows, -1), "t_ns": np.array([moment_ns(one.time) for one in happened], dtype=np.int64)}


def _events(rows: Sequence[tuple[str, str, str, str]], t_ns: int) -> Columns:
    return {
        "t_ns": np.full(len(rows), t_ns, dtype=np.int64), "node": [row[0] for row in rows],
        "device": [row[1] for row in rows], "event": [row[2] for row in rows], "message": [row[3] for row in rows],
    }  # fmt: skip
