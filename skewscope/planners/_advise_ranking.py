"""Remedies side by side: seconds saved per step against doing nothing, how sure, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats.bootstrap import block_draws, block_rounds, interval
from ._advise_options import Option

Array = np.ndarray[Any, Any]

LEAST_GAIN_RATIO = 0.02
NOTHING = "do nothing"


@dataclass(frozen=True)
class Ranked:
    """A remedy with the seconds per step that it saves, their 90 % interval, and how often rounds drawn again agree.

    `share` is the part of today's step; `sure_ratio` the share of the draws in which 2 % or more is saved.
    """

    option: Option
    saved_s: float
    low_s: float
    high_s: float
    share: float
    sure_ratio: float

    @property
    def pays(self) -> bool:
        """Return whether it can be had and saves 2 % or more, and certainly something."""
        return not self.option.refused and self.share >= LEAST_GAIN_RATIO and self.low_s > 0

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        one = self.option
        return {
            "remedy": one.remedy, "planner": one.planner, "action": one.action, "saved_s": self.saved_s,
            "saved_low_s": self.low_s, "saved_high_s": self.high_s, "saved_share": self.share,
            "sure_ratio": self.sure_ratio, "pays": self.pays, "refused": one.refused or None, "needs": one.needs,
            "params": dict(one.params),
        }  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """All remedies, those that can be had first, by seconds saved; `best` is None where nothing should be done."""

    today_s: Array
    rows: tuple[Ranked, ...]
    best: Ranked | None

    @property
    def step_s(self) -> float:
        """Return the mean step today in seconds."""
        return float(self.today_s.mean())

    def of(self, *remedies: str) -> Ranked | None:
        """Return the row of the first of these remedies that was worked out."""
        named: Mapping[str, Ranked] = {row.option.remedy: row for row in self.rows}
        return next((named[one] for one in remedies if one in named), None)


def ranked(options: Sequence[Option], today_s: Array, mean_burst_rounds: float) -> Ranking:
    """Return the ranking of `options`, given in the order of preference among equals.

    Rounds are drawn again in blocks of at least three mean bursts, the same ones for today and for every remedy. Of
    remedies within 2 % of the best the first given is taken.

    >>> made = ranked([Option("a", "none", "", np.full(8, 1.0), "", "", "")], np.full(8, 2.0), 1.0)
    >>> made.best.saved_s, made.best.low_s, made.best.share
    (1.0, 1.0, 0.5)
    """
    count = len(today_s)
    draws = block_draws(count, block_rounds(count, mean_burst_rounds))
    before = today_s[draws].mean(axis=1)
    rows = [_row(one, today_s, before, draws) for one in options]
    paying = [row for row in rows if row.pays]
    best = max(paying, key=lambda row: row.saved_s, default=None)
    if best is not None:
        near = best.saved_s - LEAST_GAIN_RATIO * float(today_s.mean())
        best = next(row for row in paying if row.saved_s >= near)
    rest = sorted((row for row in rows if row is not best), key=lambda row: (bool(row.option.refused), -row.saved_s))
    return Ranking(today_s, (best, *rest) if best is not None else tuple(rest), best)


def _row(option: Option, today_s: Array, before: Array, draws: Array) -> Ranked:
    saved = float(today_s.mean() - option.step_s.mean())
    again = before - option.step_s[draws].mean(axis=1)
    low, high = interval(again) if option.range_s is None else option.range_s
    sure = float(np.mean(again >= LEAST_GAIN_RATIO * before))
    return Ranked(option, saved, min(low, saved), max(high, saved), saved / float(today_s.mean()), sure)
