"""The clock of one host differs from the others by more than a millisecond.

Why it hurts
    It does not slow the job. It makes every comparison of times between hosts wrong: the ranks of that host look like
    permanent late (or early) arrivers although their durations are normal, and somebody drains a healthy node.

How it is seen
    Members of a collective leave it together, so differences of their end times over many calls are clock differences.
    An offset is told only where it stands out of their noise; it has then been taken out of all times. Live, the
    kernel tells the offset that it still has to correct, which is compared with that of the other hosts; daemons that
    steer the frequency alone leave it near 0, so silence there proves nothing.

Look-alikes
    `coll-late-rank`: a late rank starts later and ends with the others. A clock that is set once jumps in one window
    and is right after it. Clocks that are all off alike do not disturb comparisons.

What to do
    Mend time synchronisation on the host (chrony, PTP). The analysis is already corrected for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.frames import all_tables, frame
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal
from skewscope.subjects import Subject

from ._live import columns, mean_in
from ._live_worlds import Fleet

OFFSET, ERROR = "skewscope_host_clock_offset_seconds", "skewscope_host_clock_estimated_error_seconds"
Offsets = dict[str, tuple[float, bool]]


@dataclass(frozen=True)
class HostClockSkew:
    """Thresholds: the smallest offset that is worth mending, and for how long it is there."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("clocks", "windows")

    offset_s: float = 0.001  # {conditions A1; WIA tolerates 0.05 to 0.5 ms}
    held_count: int = 3  # windows of 30 s: a clock that was set once is right again {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host whose clock was aligned, or says itself that it is off, beyond the threshold."""
        found = list(self._aligned(tables))
        yield from found
        known = {one.subject.id for one in found}
        yield from (one for one in self._live(tables) if one.subject.id not in known)

    def _live(self, tables: Frames) -> Iterable[Finding]:
        """Yield a finding per host whose kernel has an offset to correct that others have not."""
        told = signal(tables, OFFSET)
        peers = peer_median(told.values, np.zeros(len(told)))
        beyond = np.abs(told.values - np.where(np.isfinite(peers), peers, 0.0))
        strong = beyond > STRONG_RATIO * self.offset_s
        mask = lasting(beyond > self.offset_s, self.held_count, self.of_count, strong)
        for column in columns(mask):
            yield self._finding(told, column, mask[:, column], beyond[:, column])

    def _finding(self, told: Signal, column: int, mask: np.ndarray, beyond_s: np.ndarray) -> Finding:
        node, offset_s = str(told.node[column]), mean_in(beyond_s, mask)
        return Finding(
            "host-clock-skew", subjects.node(node), "context", "S4", 0.8, told.window(mask), 0.0, 0.0,
            (Evidence("clock_offset", offset_s, 0.0, self.offset_s, "s"),),
            f"the clock of {node} says that it is {offset_s * 1e3:.2f} ms off; times of this host cannot be compared "
            f"with others",
            "mend time synchronisation on that host (chrony or PTP)",
        )  # fmt: skip

    def _aligned(self, tables: Frames) -> Iterable[Finding]:
        clocks = tables["clocks"]
        row: Any
        for row in clocks[clocks["aligned"].to_numpy()].itertuples():
            offset_s = abs(row.offset_ns) / 1e9
            if offset_s <= self.offset_s:
                continue
            yield Finding(
                "host-clock-skew", _subject(str(row.node)), "context", "S4", 0.9, Window(), 0.0, 0.0,
                (
                    Evidence("clock_offset", offset_s, 0.0, self.offset_s, "s"),
                    Evidence("uncertainty", row.uncertainty_ns / 1e9, None, None, "s"),
                    Evidence("drift", row.drift_ppm, 0.0, None, "ppm"),
                ),
                f"the clock of {row.node} differs from the others by {offset_s * 1e3:.2f} ms "
                f"(from {row.pairs_count} collectives); times are corrected for it",
                "mend time synchronisation on that host (chrony or PTP)",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the time daemon's own estimate is beyond the threshold."""
        return Rule(
            "SkewscopeClockSkew", f"abs({OFFSET}) > {self.offset_s:g}",
            300, "info", "the clock of {{ $labels.node }} is off",
            "{{ $labels.node }} differs by {{ $value }} s: comparisons of times between hosts are wrong",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the offset, whether a daemon keeps the clock, its error, and jumps."""
        kept, steps = "skewscope_host_clock_synchronized", "skewscope_host_clock_steps_total"
        return (
            Check("offset", "Has the kernel an offset to correct?", OFFSET, "high", f"> {self.offset_s:g}",
                  f"abs({OFFSET})", "the clock is off: see `daemon`",
                  "near 0, which daemons that steer the frequency alone show as well: see `error`"),
            Check("daemon", "Does a time daemon keep the clock?", kept, "low", ">= 1", kept,
                  "it does; see `error` for how well", "none does: start chrony or PTP", after=("offset",)),
            Check("error", "How far off does the daemon think it is?", ERROR, "high", f"> {self.offset_s:g}", ERROR,
                  "it has no good server: look at its sources", "the clock is good; late ranks are late"),
            Check("jumps", "Was the clock set?", steps, "increase", ">= 1", f"increase({steps}[1h])",
                  "times before and after a jump cannot be compared", "it runs evenly", after=("offset",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal clocks, half a millisecond, noise, five milliseconds; the same as hosts tell it live."""
        yield World("quiet", _clocks({"n0": (0.0, False), "n1": (2e4, False)}))
        yield World("near-miss", _clocks({"n0": (0.0, False), "n1": (5e5, True)}))
        yield World("noise", _clocks({"n0": (0.0, False), "n1": (5e6, False)}))
        yield World("skewed", _clocks({"n0": (0.0, False), "n1": (-5e6, True)}), frozenset({"n1"}))
        yield World("no-hosts", _clocks({"rank0": (0.0, False), "rank1": (5e6, True)}), frozenset({"job/rank1"}))
        yield World("live-near-miss", _told([1e-5, 9e-4, 0.0, 0.0]))
        yield World("live-set-once", _told([1e-5, 0.005, 0.0, 0.0], until=11))
        yield World("live-all-alike", _told([0.005] * 4))
        yield World("live-skewed", _told([1e-5, -0.005, 0.0, 0.0]), frozenset({"n1"}))


def _subject(name: str) -> Subject:
    """Return the host, or the rank where hosts are not known and clocks are numbered by rank."""
    number = re.fullmatch(r"rank(\d{1,9})", name)
    return subjects.rank("job", int(number.group(1))) if number else subjects.node(name)


def _clocks(offsets: Offsets) -> dict[str, pd.DataFrame]:
    return all_tables({"clocks": frame("clocks", {
        "job": "job", "node": list(offsets), "offset_ns": [offset for offset, _ in offsets.values()], "drift_ppm": 0.0,
        "uncertainty_ns": 1e4, "pairs_count": 100, "aligned": [aligned for _, aligned in offsets.values()],
    })})  # fmt: skip


def _told(offsets_s: list[float], until: int | None = None) -> dict[str, pd.DataFrame]:
    """Return tables of hosts that tell these offsets from the eleventh window on, before that none."""
    fleet = Fleet(nodes=len(offsets_s)).put(OFFSET, 0.0)
    for node, offset_s in enumerate(offsets_s):
        fleet.put(OFFSET, offset_s, nodes=[f"n{node}"], since=10, until=until)
    return fleet.tables()
