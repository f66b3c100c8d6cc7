"""The wire of a network port corrupts bits: many symbol errors, retraining, or packets that arrive damaged.

Why it hurts
    Damaged packets are sent again, links that train again stand for milliseconds, and an optic that ages goes down for
    good within days: this is the warning before `nic-link-down`.

How it is seen
    Hard signs, which healthy links do not show: packets received with errors, links that recover by training, local
    integrity errors, in several windows. Soft sign: symbol errors beyond 120 within an hour (the bit error ratio 1e-12
    of InfiniBand), steadily, and ten times what the other ports of the fleet have.

Look-alikes
    Links of 400 Gb/s (PAM4) always correct bits and have some symbol errors, on all ports alike. Errors that the peer
    marked (`receive_remote_physical`) come from a hop further up. A burst at one time is a reset. Many ports of one
    rail are its switch: one finding.

What to do
    Clean, then replace the optic or cable. Look at the peer port's counters: the end with errors on receipt is the far
    end of the bad transmitter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import fleet, port, rail
from ._ports import ERRORS, LINK_EVENTS, NIC_ERRORS, Array


@dataclass(frozen=True)
class NicPhyDegraded:
    """Thresholds: symbol errors an hour, what peers have, and how often the hard signs come."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    symbols_count: float = 120.0  # NVS: beyond IBTA's bit error ratio of 1e-12
    symbols_within_s: float = 3600.0
    peers_ratio: float = 10.0  # D: PAM4 has symbol errors everywhere, spread over less than a decade
    windows_count: int = 6  # GPD: in 6 of 10
    of_windows_count: int = 10
    recovered_count: float = 5.0  # a minute: NVS
    damaged_per_s: float = 10.0  # NVS: port_rcv_errors
    hard_windows_count: int = 2  # D: one window alone is a reset
    of_hard_windows_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port, host, rail or fabric whose wire is bad."""
        told = _ports.ports(tables, ERRORS, NIC_ERRORS)
        if not len(told):
            return
        hard, damaged = self._hard(told, tables)
        symbols, usual, soft = self._symbols(told, tables)
        for scope in _ports.scopes(told, hard | soft):
            column = scope.worst(symbols + damaged)
            an_hour = float(symbols[scope.mask, column].max())
            others = float(np.nanmax(usual[scope.mask, column], initial=0.0))
            spoilt = _live.mean_in(damaged[:, column], scope.mask)
            severe = bool(hard[:, scope.columns].any())
            yield _live.finding(
                "nic-phy-degraded", tables, told, column, scope.mask, role="culprit", least="S2" if severe else "S3",
                confidence=0.95 if severe else 0.85, subject=scope.subject, ranks=(),
                evidence=(
                    Evidence("symbol_errors_within_the_hour", an_hour, others, self.symbols_count, ""),
                    Evidence("hard_errors_per_hour", spoilt, 0.0, None, ""),
                ),
                summary=f"{scope.text} has {an_hour:.0f} symbol errors within the hour, {spoilt:.0f} damaged packets, "
                "retrainings or integrity errors an hour",
                advice="clean, then replace the optic or cable, beginning at the far transmitter",
            )  # fmt: skip

    def _hard(self, told: Signal, tables: Frames) -> tuple[Array, Array]:
        """Return (where hard signs last, how many an hour), [windows, ports]."""
        damaged = _ports.grown(told, tables, ERRORS, error="receive")
        damaged = np.fmax(damaged, _ports.grown(told, tables, NIC_ERRORS, error="crc"))
        broken = _ports.grown(told, tables, ERRORS, error="local_integrity")
        recovered = _ports.grown(told, tables, LINK_EVENTS, event="recovered")
        bad = (damaged / told.window_s > self.damaged_per_s) | (broken > 0)
        bad |= recovered * 60.0 / told.window_s > self.recovered_count
        lasts = lasting(bad, self.hard_windows_count, self.of_hard_windows_count)
        return lasts, (damaged + broken + recovered) * 3600.0 / told.window_s

    def _symbols(self, told: Signal, tables: Frames) -> tuple[Array, Array, Array]:
        """Return (symbol errors within the hour, those of the other ports, where they are too many and steady)."""
        grown = np.fmax(
            _ports.grown(told, tables, ERRORS, error="symbol"),
            _ports.grown(told, tables, NIC_ERRORS, error="pcs_symbol"),
        )
        within = max(1, round(self.symbols_within_s / told.window_s))
        summed = np.cumsum(np.nan_to_num(grown), axis=0)
        summed[within:] -= summed[:-within].copy()
        usual = peer_median(summed, np.zeros(len(told), dtype=np.int64))
        windows = np.minimum(np.arange(1, len(summed) + 1), within)[:, None]
        least = np.fmax(self.symbols_count / within, self.peers_ratio * usual / windows)  # in a window
        steady = lasting(grown >= least / 2, self.windows_count, self.of_windows_count)
        many = (summed >= np.fmax(self.symbols_count, self.peers_ratio * usual)) & np.isfinite(usual)
        return summed, usual, steady & _ports.ahead(many & steady, within)

    def alert(self) -> Rule:
        """Return the alert: symbol errors beyond the bound and beyond the fleet, or a hard sign."""
        symbols = f'increase({ERRORS}{{error="symbol"}}[{self.symbols_within_s:g}s])'
        return Rule(
            "SkewscopeNicPhyDegraded",
            f"{symbols} >= {self.symbols_count:g} and {symbols} >= {self.peers_ratio:g} * "
            f"scalar(quantile(0.5, {symbols})) "
            f'or rate({ERRORS}{{error="receive"}}[2m]) > {self.damaged_per_s:g} '
            f'or increase({LINK_EVENTS}{{event="recovered"}}[1m]) > {self.recovered_count:g}',
            120, "warning", "the wire of {{ $labels.device }} of {{ $labels.node }} is bad",
            "the port {{ $labels.device }}/{{ $labels.port }} has {{ $value | humanize }} errors",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: noise on all, near misses, a bad optic, damage, retraining, a remote hop, a switch."""
        noisy = fleet()
        noisy.put(ERRORS, 3.0, labels="error=symbol", devices=noisy.nics)
        yield World("quiet", noisy.tables())
        one = frozenset({"n1/mlx5_0"})
        yield World("near-miss", port(fleet(), ERRORS, 11.0, "error=symbol").tables())
        yield World("symbols", port(fleet(), ERRORS, 13.0, "error=symbol").tables(), one)
        beside = port(noisy, ERRORS, 40.0, "error=symbol")
        yield World("peers-near-miss", beside.tables())
        yield World("beside-noise", port(noisy, ERRORS, 65.0, "error=symbol").tables(), one)
        yield World("damaged-near-miss", port(fleet(), ERRORS, 290.0, "error=receive").tables())
        yield World("damaged", port(fleet(), ERRORS, 330.0, "error=receive").tables(), one)
        yield World("retrains", port(fleet(), LINK_EVENTS, 3.0, "event=recovered").tables(), one)
        yield World("retrains-rarely", port(fleet(), LINK_EVENTS, 2.0, "event=recovered").tables())
        yield World("remote-hop", port(fleet(), ERRORS, 900.0, "error=receive_remote_physical").tables())
        yield World("burst", _burst(fleet()).tables())
        switch = rail(fleet(), ERRORS, 4000.0, "error=receive")
        yield World("switch", switch.tables(), frozenset({"rail/mlx5_1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: symbols, damage, retraining, what the peer says, whether it already flaps."""
        return (
            Check("symbols", "Symbol errors come beyond the bound.", ERRORS, "rate",
                  f">= {self.symbols_count / self.symbols_within_s:g}",
                  f'rate({ERRORS}{{error="symbol"}}[10m]) * {self.symbols_within_s:g} >= {self.symbols_count:g}',
                  "go on with `damage`", "go on with `recovered`", {"error": "symbol"}),
            Check("damage", "Packets arrive damaged.", ERRORS, "rate", f"> {self.damaged_per_s:g}",
                  f'rate({ERRORS}{{error="receive"}}[2m])',
                  "the wire loses packets: replace optic or cable now", "go on with `remote`", {"error": "receive"}),
            Check("recovered", "The link trains again.", LINK_EVENTS, "increase", ">= 1",
                  f'increase({LINK_EVENTS}{{event="recovered"}}[10m])',
                  "a marginal link: clean the optic; go on with `remote`", "go on with `remote`",
                  {"event": "recovered"}),
            Check("remote", "The peer already marked the packets as bad.", ERRORS, "increase", ">= 1",
                  f'increase({ERRORS}{{error="receive_remote_physical"}}[10m])',
                  "the bad hop is further up: look at the switch's other ports", "go on with `flaps`",
                  {"error": "receive_remote_physical"}),
            Check("flaps", "The link goes down.", LINK_EVENTS, "increase", ">= 1",
                  f'increase({LINK_EVENTS}{{event="downed"}}[3h])',
                  "see nic-link-flap: it will fail soon", "plan the swap at the next pause", {"event": "downed"}),
        )  # fmt: skip


def _burst(made: Fleet) -> Fleet:
    """Return the errors of one reset."""
    for labels in ("error=symbol", "error=receive", "error=local_integrity"):
        port(made, ERRORS, 5000.0, labels, until=11)
    return made
