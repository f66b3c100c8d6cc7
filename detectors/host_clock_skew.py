"""The clock of one host differs from the others by more than a millisecond.

Why it hurts
    It does not slow the job. It makes every comparison of times between hosts wrong: the ranks of that host look like
    permanent late (or early) arrivers although their durations are normal, and somebody drains a healthy node.

How it is seen
    Members of a collective leave it together, so differences of their end times over many calls are clock differences.
    An offset is told only where it stands out of their noise; it has then been taken out of all times. Not to be
    confused with `coll-late-rank`: a late rank starts later and ends with the others.

What to do
    Mend time synchronisation on the host (chrony, PTP). The analysis is already corrected for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Rule, Window, World
from skewscope.frames import all_tables, frame
from skewscope.subjects import Subject

Offsets = dict[str, tuple[float, bool]]


@dataclass(frozen=True)
class HostClockSkew:
    """Threshold: the smallest offset that is worth mending."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("clocks",)

    offset_s: float = 0.001

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host whose clock was aligned by more than the threshold."""
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
            "SkewscopeClockSkew", f"abs(skewscope_host_clock_offset_seconds) > {self.offset_s:g}",
            300, "info", "the clock of {{ $labels.node }} is off",
            "{{ $labels.node }} differs by {{ $value }} s: comparisons of times between hosts are wrong",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal clocks, half a millisecond, an offset that is only noise, five milliseconds."""
        yield World("quiet", _clocks({"n0": (0.0, False), "n1": (2e4, False)}))
        yield World("near-miss", _clocks({"n0": (0.0, False), "n1": (5e5, True)}))
        yield World("noise", _clocks({"n0": (0.0, False), "n1": (5e6, False)}))
        yield World("skewed", _clocks({"n0": (0.0, False), "n1": (-5e6, True)}), frozenset({"n1"}))
        yield World("no-hosts", _clocks({"rank0": (0.0, False), "rank1": (5e6, True)}), frozenset({"job/rank1"}))


def _subject(name: str) -> Subject:
    """Return the host, or the rank where hosts are not known and clocks are numbered by rank."""
    number = re.fullmatch(r"rank(\d+)", name)
    return subjects.rank("job", int(number.group(1))) if number else subjects.node(name)


def _clocks(offsets: Offsets) -> dict[str, pd.DataFrame]:
    return all_tables({"clocks": frame("clocks", {
        "job": "job", "node": list(offsets), "offset_ns": [offset for offset, _ in offsets.values()], "drift_ppm": 0.0,
        "uncertainty_ns": 1e4, "pairs_count": 100, "aligned": [aligned for _, aligned in offsets.values()],
    })})  # fmt: skip
