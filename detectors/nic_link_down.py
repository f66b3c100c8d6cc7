"""A network port is down, missing, or trained to a lower rate than its peers.

Why it hurts
    Collectives use every rail. A port that is down ends the job with a timeout, or sends its bytes over the others,
    and a port at half its rate makes every ring that crosses it half as fast.

How it is seen
    The port is not ACTIVE or not LinkUp for whole windows, although it was up before or its namesakes on other hosts
    are; or fewer adapters are present than expected; or its trained rate is below three quarters of what it had or of
    what the same rail has elsewhere. Many hosts at once are one finding about the rail (its switch) or the fabric.

Look-alikes
    A port that nobody has cabled is down on every host, always: that is no fault. A port that comes back within a
    minute is `nic-link-flap` where it repeats. Another board has another rate: `nic-mixed-kinds`.

What to do
    Look at the cable, optic and switch port; swap one end at a time. Keep new work away from the host meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from . import _live, _live_worlds, _ports
from ._port_worlds import fleet, port, rail
from ._ports import LINK_EVENTS, RATE, UP, Array

DEVICES, KERNEL = "skewscope_rdma_devices", "skewscope_kernel_messages_total"


@dataclass(frozen=True)
class NicLinkDown:
    """Thresholds: how many windows the port is down, and how much slower than usual it may have trained."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    down_windows_count: int = 2  # conditions A12: warn after two windows (GPD acts after 4 min)
    rate_ratio: float = 0.75  # D: one step down in lanes or speed halves the rate
    slow_windows_count: int = 4  # D: retraining passes through lower rates
    namesakes_up_ratio: float = 0.5  # D: a port that is down on most hosts is not in use

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port, host, rail or fabric that is down, missing or slow."""
        told = _ports.known(tables, UP, "high", layer="logical")
        fallen: set[str] = set()
        if (_ports.known(tables, UP, "low").values < 1).any():
            down = lasting(self._down(told, tables), self.down_windows_count, self.down_windows_count)
            fallen = set(told.node[down.any(axis=0)].tolist())
            for scope in _ports.scopes(told, down):
                yield self._is_down(tables, told, scope)
        yield from self._missing(tables, fallen)
        yield from self._slow(tables)
        yield from self._told(tables, set(told.node.tolist()))

    def _down(self, told: Signal, tables: Frames) -> Array:
        physical = told.aligned(_ports.known(tables, UP, "high", layer="physical"))
        up = np.where(np.isnan(told.values), np.nan, np.fmin(told.values, physical))
        was_up = np.maximum.accumulate(np.nan_to_num(up), axis=0) > 0
        used = was_up | (_ports.others_mean(up, told.device) >= self.namesakes_up_ratio)
        found: Array = (up < 1) & used
        return found

    def _is_down(self, tables: Frames, told: Signal, scope: _ports.Scope) -> Finding:
        down_s = float(scope.mask.sum() * told.window_s)
        return _live.finding(
            "nic-link-down", tables, told, int(scope.columns[0]), scope.mask, role="culprit", least="S1",
            confidence=0.95, subject=scope.subject, ranks=(),
            evidence=(Evidence("down", down_s, 0.0, self.down_windows_count * told.window_s, "s"),),
            summary=f"{scope.text} has been down for {down_s:.0f} s",
            advice="check cable, optic and switch port; drain the host unless the library can fail over",
        )  # fmt: skip

    def _missing(self, tables: Frames, fallen: set[str]) -> Iterable[Finding]:
        """Yield hosts with too few adapters, but for those whose lost port is told already."""
        told = signal(tables, DEVICES, take="high", source="present")
        if not len(told):
            return
        expected = told.aligned(signal(tables, DEVICES, take="high", source="expected"))
        usual = np.fmax(expected, np.maximum.accumulate(np.nan_to_num(told.values), axis=0))
        gone = lasting(told.values < usual, self.down_windows_count, self.down_windows_count)
        gone[:, np.isin(told.node, sorted(fallen))] = False
        for column in _live.columns(gone):
            present, wanted = (_live.mean_in(one[:, column], gone[:, column]) for one in (told.values, usual))
            yield _live.finding(
                "nic-link-down", tables, told, column, gone[:, column], role="culprit", least="S1", confidence=0.9,
                evidence=(Evidence("adapters", present, wanted, wanted, ""),), ranks=(),
                summary=f"{told.node[column]} has {present:.0f} RDMA devices where {wanted:.0f} are expected",
                advice="look for the missing adapter on the PCI bus and in the kernel log",
            )  # fmt: skip

    def _slow(self, tables: Frames) -> Iterable[Finding]:
        told = _ports.known(tables, RATE, "high")
        if not len(told):
            return
        rate = told.values
        up = ~(told.aligned(_ports.known(tables, UP, "low")) < 1)  # a port that is down tells the lowest rate
        before = np.maximum.accumulate(np.where(up, np.nan_to_num(rate), 0.0), axis=0)
        board = _ports.kinds(tables)  # other boards have other rates: see `nic-mixed-kinds`
        alike = [f"{at[1]} {board.get(at, '')}" for at in zip(told.node.tolist(), told.device.tolist(), strict=True)]
        peers = peer_median(np.where(up, rate, np.nan), np.array(alike, dtype=object))
        few = _ports.others_mean((rate < self.rate_ratio * peers).astype(float), told.device) < _ports.WIDE_RATIO
        usual = np.where(few, np.fmax(before, peers), before)
        slow = lasting(up & (rate < self.rate_ratio * usual), self.slow_windows_count, self.slow_windows_count)
        for scope in _ports.scopes(told, slow):
            column = scope.worst(-rate)
            mine, wanted = (_live.mean_in(one[:, column], scope.mask) for one in (rate, usual))
            yield _live.finding(
                "nic-link-down", tables, told, column, scope.mask, role="culprit", least="S3", confidence=0.9,
                subject=scope.subject, ranks=(),
                evidence=(Evidence("link_rate", mine, wanted, self.rate_ratio * wanted, "bytes/s"),),
                summary=f"{scope.text} trained to {mine * 8e-9:.0f} Gb/s where {wanted * 8e-9:.0f} Gb/s are usual",
                advice="reseat or replace the cable; compare the port's settings with its namesakes",
            )  # fmt: skip

    def _told(self, tables: Frames, known: set[str]) -> Iterable[Finding]:
        """Yield ports whose last word in `events` is that they are down, on hosts whose ports nobody measured."""
        events = tables["events"]
        mine = events[events["event"].isin(("link-down", "link-up")).to_numpy()].sort_values("t_ns", kind="stable")
        for row in mine.drop_duplicates(["node", "device"], keep="last").to_dict("records"):
            node, device, t_ns = str(row["node"]), str(row["device"]), int(row["t_ns"])
            if row["event"] == "link-down" and node not in known:
                yield Finding(
                    "nic-link-down", subjects.nic(node, device) if device else subjects.node(node), "culprit", "S1",
                    0.8, Window(t_ns, t_ns), 0.0, 0.0, (Evidence("link_down_events", 1.0, 0.0, 1.0, ""),),
                    f"{node} {device} went down and 0 messages say that it came back",
                    "check cable, optic and switch port",
                )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a port that was up is down, or it trained to less than its rail."""
        down_s = self.down_windows_count * 30
        usual = f"scalar(quantile(0.5, {RATE}))"
        return Rule(
            "SkewscopeNicLinkDown",
            f"max_over_time({UP}[{down_s}s]) < 1 and max_over_time({UP}[1h]) == 1 "
            f"or {RATE} < {self.rate_ratio:g} * {usual}",
            0, "critical", "{{ $labels.device }} of {{ $labels.node }} is down or slow",
            "the port {{ $labels.device }}/{{ $labels.port }} is not up, or trained below its peers",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: all up, one window down, down, uncabled everywhere, a switch, a lower rate, a lost adapter."""
        yield World("quiet", _fleet().tables())
        yield World("near-miss", port(_fleet(), UP, 0.0, "layer=physical", until=11).tables())
        yield World("down", port(_fleet(), UP, 0.0, "layer=physical").tables(), frozenset({"n1/mlx5_0"}))
        yield World("not-cabled", rail(_fleet(), UP, 0.0, "layer=logical", since=0).tables())
        yield World("switch", rail(_fleet(), UP, 0.0, "layer=logical").tables(), frozenset({"rail/mlx5_1"}))
        yield World("half-rate", port(_fleet(), RATE, 25e9, since=0).tables(), frozenset({"n1/mlx5_0"}))
        yield World("rate-near-miss", port(_fleet(), RATE, 40e9).tables())
        lost = _fleet().put(DEVICES, 1.0, labels="source=present", nodes=["n3"], since=8)
        yield World("missing", lost.tables(), frozenset({"n3"}))
        yield World("flaps", port(_fleet(), LINK_EVENTS, 1.0, "event=downed").tables())
        said = _live_worlds.Fleet().event("link-down", device="mlx5_0")
        yield World("told", said.tables(), frozenset({"n0/mlx5_0"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it up, is there light, does it flap, did it train fully, does the driver live."""
        return (
            Check("port-up", "The port is not ACTIVE.", UP, "low", "< 1", f'{UP}{{layer="logical"}} < 1',
                  "go on with `carrier`", "go on with `rate`", {"layer": "logical"}),
            Check("carrier", "The port sees no carrier.", UP, "low", "< 1", f'{UP}{{layer="physical"}} < 1',
                  "no light: cable, optic or switch port; go on with `flaps`",
                  "the wire is up but the port is not active: subnet manager or switch settings",
                  {"layer": "physical"}),
            Check("flaps", "The link went down more than once.", LINK_EVENTS, "increase", ">= 2",
                  f'increase({LINK_EVENTS}{{event="downed"}}[3h]) >= 2',
                  "an unstable link: see nic-link-flap", "it went down once and stays down: replace the cable",
                  {"event": "downed"}),
            Check("rate", "It trained to less than 400 Gb/s.", RATE, "low", "< 50e9", f"{RATE} < 50e9",
                  "fewer lanes or a lower speed: reseat, then replace", "go on with `driver`"),
            Check("driver", "The kernel log tells of the adapter.", KERNEL, "increase", ">= 1",
                  f'increase({KERNEL}{{category=~"nic_.*"}}[1h]) >= 1',
                  "see nic-driver-fault", "the port is healthy by all that is measured"),
        )  # fmt: skip


def _fleet() -> _live_worlds.Fleet:
    return fleet().put(DEVICES, 2.0, labels="source=present").put(DEVICES, 2.0, labels="source=expected")
