"""A connection between adapters ran out of retries and was torn down.

Why it hurts
    NCCL ends the job, or hangs until its watchdog does: all ranks stop, and the work since the last checkpoint is lost.

How it is seen
    The counter of exhausted retries of a port grows: once is enough. It only says that the other end did not answer,
    so ports vote: the port (or host) that gave up twice as often as any other cannot reach anybody and is the culprit;
    where many hosts gave up alike and one did not, that silent host is. Without a majority it is the rail or fabric.
    Where no counters are there, NCCL's own log tells which hosts gave up (completions with status 12).

Look-alikes
    Retries that succeed are `rdma-retransmit`. A port that is down explains its own exhausted retries
    (`nic-link-down`). Receiver-not-ready (`rnr`) means that the remote process, not the wire, does not keep up.

What to do
    Drain the voted end and restart from the checkpoint. Test the pair with a third host before changing hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.impact import costs
from skewscope.signals.view import Signal
from skewscope.subjects import Subject

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import fleet, port
from ._ports import GIVEN_UP, RETRANSMITTED, Array


@dataclass(frozen=True)
class RdmaRetryExhausted:
    """Thresholds: how often, how far apart one trouble may be, and what wins a vote."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    given_up_count: float = 1.0  # NVS: any is fatal
    apart_s: float = 300.0  # D: later is another trouble
    majority_ratio: float = 2.0  # D: against the next host
    voters_count: int = 3  # D: fewer hosts cannot point at a silent one

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per trouble, about the end that the ports vote for."""
        told = _ports.ports(tables, GIVEN_UP)
        if not len(told):
            yield from self._logged(tables)
            return
        grown = np.nan_to_num(_ports.grown(told, tables, GIVEN_UP))
        grown = np.where(grown >= self.given_up_count, grown, 0.0)
        for mask in self._troubles(np.asarray(grown.any(axis=1)), told.window_s):
            for hosts, votes in _by_job(tables, told, grown[mask].sum(axis=0)):
                yield self._gave_up(tables, told, mask, hosts, votes)

    def _logged(self, tables: Frames) -> Iterator[Finding]:
        """Yield what NCCL's logs tell where nobody counted: the host that gave up most, else the fabric."""
        events = tables["events"]
        rows = events[(events["event"] == "rdma-retry-exhausted").to_numpy()]
        if not len(rows):
            return
        hosts, votes = np.unique(rows["node"].astype(str).to_numpy(dtype=object).astype(str), return_counts=True)
        wins = self._wins(votes)
        subject = subjects.node(str(hosts[votes.argmax()])) if wins else subjects.rack(_ports.FABRIC)
        yield Finding(
            "rdma-retry-exhausted", subject, "culprit", "S1", 0.7 if wins and len(hosts) > 1 else 0.5,
            Window(int(rows["t_ns"].min()), int(rows["t_ns"].max())), 0.0, 0.0,
            (Evidence("ranks_that_gave_up", float(len(rows)), 0.0, self.given_up_count, "ranks"),
             Evidence("hosts_that_gave_up", float(len(hosts)), 0.0, None, "")),
            f"NCCL gave up connections on {len(rows)} ranks of {len(hosts)} hosts, which points at {subject.id}: "
            f"{str(rows['message'].iloc[0])[:120]}",
            f"drain {subject.id} and restart from the checkpoint; test the pair with a third host",
        )  # fmt: skip

    def _gave_up(self, tables: Frames, told: Signal, mask: Array, hosts: set[str], votes: Array) -> Finding:
        subject, sure = self._voted(told, hosts, votes)
        voters = set(told.node[votes > 0].tolist())
        return _live.finding(
            "rdma-retry-exhausted", tables, told, int(votes.argmax()), mask, role="culprit", least="S1",
            confidence=sure, subject=subject, ranks=(),
            evidence=(
                Evidence("connections_given_up", float(votes.sum()), 0.0, self.given_up_count, ""),
                Evidence("hosts_that_gave_up", float(len(voters)), 0.0, None, ""),
            ),
            summary=f"{votes.sum():.0f} connections ran out of retries on {(votes > 0).sum()} ports of "
            f"{len(voters)} hosts, which points at {subject.id}",
            advice=f"drain {subject.id} and restart from the checkpoint; test the pair with a third host",
        )  # fmt: skip

    def _troubles(self, when: Array, window_s: float) -> Iterator[Array]:
        """Yield masks [windows], one for each run of events that are not far apart."""
        places = np.flatnonzero(when)
        for part in np.split(places, np.flatnonzero(np.diff(places) * window_s > self.apart_s) + 1):
            if len(part):
                mask = np.zeros(len(when), dtype=bool)
                mask[part] = True
                yield mask

    def _voted(self, told: Signal, hosts: set[str], votes: Array) -> tuple[Subject, float]:
        """Return whom the ports of a job on `hosts` mean by `votes` [ports], and how sure that is."""
        voters, codes = np.unique(told.node[votes > 0].astype(str), return_inverse=True)
        mine = np.flatnonzero(votes > 0)
        of_host = np.bincount(codes, weights=votes[mine])
        if self._wins(of_host):
            ports = mine[codes == of_host.argmax()]
            one = self._wins(votes[ports])
            subject = told.subject(int(votes.argmax())) if one else subjects.node(str(voters[of_host.argmax()]))
            return subject, 0.9 if len(voters) > 1 else 0.7
        silent = sorted(hosts - set(voters.tolist()))
        if len(silent) == 1 and len(voters) >= self.voters_count:
            return subjects.node(silent[0]), 0.8
        rails = set(told.device[mine].tolist())
        return subjects.rack(f"rail/{rails.pop()}" if len(rails) == 1 else _ports.FABRIC), 0.6

    def _wins(self, votes: Array) -> bool:
        """Return whether one has the majority over the next."""
        ordered = np.sort(votes)[::-1]
        return len(ordered) == 1 or bool(ordered[0] >= self.majority_ratio * ordered[1])

    def alert(self) -> Rule:
        """Return the alert: a port gave up."""
        return Rule(
            "SkewscopeRdmaRetryExhausted", f"increase({GIVEN_UP}[{self.apart_s:g}s]) >= {self.given_up_count:g}",
            0, "critical", "{{ $labels.device }} of {{ $labels.node }} gave up a connection",
            "{{ $value | humanize }} connections of {{ $labels.device }} ran out of retries ({{ $labels.cause }})",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, retries that succeed, one port, a port that reaches nobody, a silent host, a rail."""
        yield World("quiet", fleet().tables())
        yield World("near-miss", port(fleet(), RETRANSMITTED, 900.0, "cause=ack_timeout").tables())
        yield World("zero", _given_up({"n1": 0.0}).tables())
        yield World("one-port", _given_up({"n1": 1.0}).tables(), frozenset({"n1/mlx5_0"}))
        voted = _given_up({"n1": 8.0, "n0": 2.0, "n2": 2.0, "n3": 2.0})
        yield World("voted", voted.tables(), frozenset({"n1/mlx5_0"}))
        silent = _given_up({"n0": 2.0, "n1": 2.0, "n2": 3.0, "n4": 2.0})
        yield World("silent-host", silent.tables(), frozenset({"n3"}))
        yield World("undecided", _given_up({"n0": 2.0, "n1": 2.0}).tables(), frozenset({"rail/mlx5_0"}))
        said = Fleet()
        for node in ("n1", "n1", "n1", "n2"):
            said = said.event("rdma-retry-exhausted", node=node, message="Got completion from peer with status=12")
        yield World("logged", said.tables(), frozenset({"n1"}))
        host = port(_given_up({"n1": 2.0}), GIVEN_UP, 2.0, "cause=transport", device="mlx5_1", until=11)
        yield World("host", host.tables(), frozenset({"n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who gave up, why, is a link down, do others still lose packets."""
        return (
            Check("who", "Ports gave up connections.", GIVEN_UP, "increase", f">= {self.given_up_count:g}",
                  f"sort_desc(increase({GIVEN_UP}[1h]))",
                  "the port with most is the likely end: go on with `receiver`", "no connection was given up"),
            Check("receiver", "The remote process was not ready.", GIVEN_UP, "increase", ">= 1",
                  f'increase({GIVEN_UP}{{cause="rnr"}}[1h])',
                  "look at the remote rank: it hangs or has died (see coll-missing-rank)", "go on with `down`",
                  {"cause": "rnr"}),
            Check("down", "A port of the job is down.", _ports.UP, "low", "< 1", f"{_ports.UP} < 1",
                  "that is the cause: see nic-link-down", "go on with `timeouts`"),
            Check("timeouts", "Acknowledgements still time out.", RETRANSMITTED, "rate", "> 1",
                  f'topk(5, rate({RETRANSMITTED}{{cause="ack_timeout"}}[2m]))',
                  "the path is bad now: see rdma-retransmit", "it has passed: restart, and watch the voted end",
                  {"cause": "ack_timeout"}),
        )  # fmt: skip


def _given_up(counts: dict[str, float]) -> Fleet:
    made = fleet()
    for node, count in counts.items():
        port(made, GIVEN_UP, count, "cause=transport", node=node, until=11)
    return made


def _by_job(tables: Frames, told: Signal, votes: Array) -> Iterator[tuple[set[str], Array]]:
    """Yield (hosts, votes [ports]) of each job of which ports gave up; hosts without a job vote together."""
    known = costs(tables)
    jobs = {node: known.of_device(node, "")[0] for node in set(told.node[votes > 0].tolist())}
    for name in sorted({cost.job if cost else "" for cost in jobs.values()}):
        mine = {node for node, cost in jobs.items() if (cost.job if cost else "") == name}
        cost = next(jobs[node] for node in mine)
        hosts = cost.node.tolist() if cost else told.node.tolist()
        yield {str(host) for host in hosts}, np.where(np.isin(told.node, sorted(mine)), votes, 0.0)
