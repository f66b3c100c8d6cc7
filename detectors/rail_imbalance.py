"""A host uses its network adapters unevenly: one rail carries little or nothing, another its bytes too.

Why it hurts
    The rail with the most bytes sets the time of the collective. A dead rail of eight costs little on paper, but two
    GPUs that share one adapter take twice as long, and all others wait.

How it is seen
    The bytes of a port over those of the host's other ports have fallen (or risen) by a quarter against the port's own
    past and against the same rail of other hosts. A port with less than half of what its rail carries elsewhere counts
    from the start; one that lost three quarters of its bytes is told sooner. If a rail falls
    on many hosts at once, it is one finding about the rail.

Look-alikes
    Topology-aware traffic is uneven over rails by design, alike on all hosts: hence the comparison. A host of which
    jobs hold only some GPUs is compared with its own past alone. A port for storage has little traffic and bursts. A
    port that is down says so itself (`nic-link-down`), and idle hosts say nothing.

What to do
    Compare the library's topology file and its list of adapters with a healthy host; look at the hash of a bond.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import QUICK_COUNT, QUICK_OF_COUNT, STRONG_RATIO, lasting
from skewscope.signals.view import Signal

from . import _live, _ports, _xids
from ._group_calls import from_the_start
from ._live_worlds import Fleet
from ._port_worlds import BYTES, fleet, port, rail
from ._ports import SENT, Array


@dataclass(frozen=True)
class RailImbalance:
    """Thresholds: how far a port may be from its own past and its rail, and how long."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    shift_ratio: float = 1.25  # D: against the own past and the rail's others
    unused_ratio: float = 0.5  # D: of what the rail carries elsewhere: no noise does that
    rail_ratio: float = 0.25  # D: of the host's other ports: below, it is no rail but storage or management
    least_bytes_per_s: float = 1e8  # D: of the other ports; idle hosts say nothing
    before_windows_count: int = 6  # D: what was usual
    windows_count: int = 4  # D: longer than the burst of a checkpoint
    of_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host whose rails are uneven, or per rail that fell on many hosts."""
        told = _ports.ports(tables, SENT)
        if not len(told):
            return
        share, past, peers, own = self._shares(told, tables)
        fell = lasting(share < self.unused_ratio * past, self.windows_count, self.of_windows_count)
        wide = [scope for scope in _ports.scopes(told, fell) if scope.subject.kind == "rack"]
        for scope in wide:
            yield self._uneven(tables, told, scope, int(scope.columns[0]), (share, past))
        usual = np.where(np.isnan(peers), past, peers)
        low, high = self._off(share, past, peers, usual, own)
        for scope in wide:
            low[:, scope.columns] = high[:, scope.columns] = False
        for node in dict.fromkeys(told.node[(low | high).any(axis=0)].tolist()):
            mine = np.flatnonzero(told.node == node)
            loser = mine[low[:, mine].any(axis=0)]
            column = int(loser[_mean(share[:, loser] / usual[:, loser]).argmin()]) if len(loser) else int(
                mine[_mean(np.where(high[:, mine], share[:, mine] / usual[:, mine], 0.0)).argmax()]
            )  # fmt: skip
            mask = low[:, column] | high[:, column]
            one = _ports.Scope(told.subject(column), np.array([column]), mask)
            yield self._uneven(tables, told, one, column, (share, usual))

    def _shares(self, told: Signal, tables: Frames) -> tuple[Array, Array, Array, Array]:
        """Return a port's bytes over those of the host's others: now, before, on its rail; and over the rail's."""
        sent = _ports.grown(told, tables, SENT)
        share = _ports.ratio(sent, _ports.others_mean(sent, told.node), self.least_bytes_per_s * told.window_s)
        past = np.broadcast_to(own_median(share, self.before_windows_count), share.shape)
        peers = peer_median(share, told.device)
        own = _ports.ratio(sent, peer_median(sent, told.device))
        peers = np.where(np.isnan(peers), _ports.others_mean(share, told.device), peers)
        peers[:, _partly_used(told, tables)] = np.nan  # the rails of GPUs without a job are still by design
        return share, past, peers, own

    def _off(self, share: Array, past: Array, peers: Array, usual: Array, own: Array) -> tuple[Array, Array]:
        """Return (where a port carries too little, where too much), lasting."""
        rails = (usual >= self.rail_ratio) & (past >= self.rail_ratio)
        low = rails & (share * self.shift_ratio <= past) & (share * self.shift_ratio <= usual)
        low |= (share < self.unused_ratio * peers) & (peers >= self.rail_ratio)
        high = rails & (share >= self.shift_ratio * past) & (share >= self.shift_ratio * usual)
        least = self.unused_ratio / STRONG_RATIO
        gone = low & (share <= least * usual) & (own <= least)  # a burst at another port does not take its own bytes
        low, high = (lasting(one, self.windows_count, self.of_windows_count) for one in (low, high))
        return low | lasting(gone, QUICK_COUNT, QUICK_OF_COUNT), high

    def _uneven(self, tables: Frames, told: Signal, scope: _ports.Scope, column: int,
                shares: tuple[Array, Array]) -> Finding:  # fmt: skip
        share, usual = (_live.mean_in(one[:, column], scope.mask) for one in shares)
        found = _live.finding(
            "rail-imbalance", tables, told, column, scope.mask, role="culprit", least="S3", subject=scope.subject,
            confidence=0.85, ranks=(),
            evidence=(Evidence("bytes_over_other_ports", share, usual, usual / self.shift_ratio, "ratio"),),
            summary=f"{scope.text} carries {share:.2f} times the bytes of the host's other ports where {usual:.2f} "
            "times are usual",
            advice="compare the topology file, the list of adapters and the bond with a healthy host",
        )  # fmt: skip
        return from_the_start(found, tables, str(told.node[column]), scope.mask)

    def alert(self) -> Rule:
        """Return the alert: a port carries too little or too much against its host and against its rail."""
        mean = f"avg by (node) (rate({SENT}[2m])) > {self.least_bytes_per_s:g}"
        share = f"(rate({SENT}[2m]) / on (node) group_left () ({mean}))"
        rail_share = f"on (device) group_left () quantile by (device) (0.5, {share})"
        return Rule(
            "SkewscopeRailImbalance",
            f"{share} / {self.unused_ratio:g} < {rail_share} or {share} / {self.shift_ratio:g} > {rail_share}",
            150, "warning", "the rails of {{ $labels.node }} are uneven",
            "{{ $labels.device }} carries {{ $value | humanize }} times the mean of its host, unlike elsewhere",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: uneven alike, a tenth off, a port that fell, unused from the start, a rail, storage, idle."""
        yield World("quiet", _uneven_alike().tables())
        one = frozenset({"n1/mlx5_0"})
        yield World("near-miss", port(_uneven_alike(), SENT, 0.85 * 1.2 * BYTES).tables())
        yield World("fell", port(_uneven_alike(), SENT, 0.7 * 1.2 * BYTES).slow_transfer(0.1).tables(), one)
        heir = port(port(_uneven_alike(), SENT, 0.0, since=0), SENT, 2.0 * BYTES, device="mlx5_2", since=0)
        yield World("unused", heir.tables(), one)
        yield World("risen", port(_uneven_alike(), SENT, 1.7 * BYTES).tables(), one)
        yield World("burst", port(_uneven_alike(), SENT, 3 * BYTES, until=13).tables())
        yield World("rail", rail(_uneven_alike(), SENT, 0.01 * BYTES).tables(), frozenset({"rail/mlx5_1"}))
        phases = rail(rail(_uneven_alike(), SENT, 0.7 * BYTES), SENT, 1.5 * BYTES, device="mlx5_2")
        yield World("other-phase", phases.tables())
        storage = _uneven_alike()
        storage.put(SENT, 0.02 * BYTES, devices=["mlx5_3"])
        yield World("storage", port(storage, SENT, 0.2 * BYTES, device="mlx5_3").tables())
        idle = _uneven_alike()
        idle.put(SENT, 1e6, devices=idle.nics, since=10)
        yield World("idle", port(idle, SENT, 0.0).tables())
        half = _uneven_alike().put(SENT, 0.0, nodes=["n1"], devices=["mlx5_2", "mlx5_3"]).tables()
        there = ~((half["windows"]["rank"] >= 0) & half["windows"]["device"].isin(["gpu2", "gpu3"])
                  & (half["windows"]["node"] == "n1")).to_numpy()  # fmt: skip
        yield World("partly-used", half | {"windows": half["windows"][there].reset_index(drop=True)})

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who carries what, is it down, did it train, is a queue in the way."""
        return (
            Check("bytes", "A port carries next to nothing.", SENT, "rate", f"< {self.least_bytes_per_s:g}",
                  f"rate({SENT}[5m]) / on (node) group_left () avg by (node) (rate({SENT}[5m]))",
                  "go on with `up`", "go on with `received`"),
            Check("up", "The port is down.", _ports.UP, "low", "< 1", f"{_ports.UP} < 1",
                  "see nic-link-down", "go on with `rate`"),
            Check("rate", "It trained to a lower rate.", _ports.RATE, "low", "< 50e9", f"{_ports.RATE} < 50e9",
                  "see nic-link-down", "the library does not use it: compare its topology file with a healthy host"),
            Check("received", "Bytes arrive evenly.", _ports.RECEIVED, "rate", f">= {self.least_bytes_per_s:g}",
                  f"rate({_ports.RECEIVED}[5m]) / on (node) group_left () avg by (node) (rate({_ports.RECEIVED}[5m]))",
                  "only sending is uneven: look at the hash of the bond", "both ways are uneven: look at the topology"),
        )  # fmt: skip


def _partly_used(told: Signal, tables: Frames) -> Array:
    """Return [series]: True at hosts of which jobs hold some GPUs and leave others free."""
    held: dict[str, set[str]] = {}
    for cost in costs(tables).jobs.values():
        for node, device in zip(cost.node.tolist(), cost.device.tolist(), strict=True):
            held.setdefault(str(node), set()).add(str(device))
    every = _xids.gpus(tables)
    return np.array([0 < len(held.get(str(node), ())) < every.get(str(node), 0) for node in told.node], dtype=bool)


def _mean(values: Array) -> Array:
    """Return the mean over known windows [series]."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _uneven_alike() -> Fleet:
    """Return hosts with four rails that carry 1.2, 0.9, 1.0 and 0.9 times the mean by design."""
    made = fleet(nics=4)
    for device, factor in zip(made.nics, (1.2, 0.9, 1.0, 0.9), strict=True):
        made.put(SENT, factor * BYTES, devices=[device])
    return made
