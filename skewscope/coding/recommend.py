"""From candidates to a choice: the fastest scheme that is allowed, if it pays, and what must hold for it.

Of schemes that are about equally fast the one that delays jobs least is taken. A choice made on
the same rounds that judge it is optimistic, so the saving must also hold on rounds that did not choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bursts import Bursts
from .estimate import Row, interval, saving
from .families import SEQUENTIAL
from .search import Tried

Array = np.ndarray[Any, Any]
LEAST_SAVING = 0.02  # below it nothing is recommended
LONG_BURST_ROUNDS = 10
DOES_NOT_PAY = "coding does not pay"
TITLES = {"gc": "gradient coding", "fractional": "fractional repetition", "heterogeneous": "heterogeneity-aware coding",
          "sr-sgc": "SR-SGC", "m-sgc": "M-SGC", "approximate": "approximate coding"}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What the trainer allows: independent jobs in flight (None: as many as needed), and a share of the batch lost."""

    jobs_in_flight: int | None = None
    lost_ratio: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The best row allowed, and whether it pays against `uncoded`.

    `saving_ratio` with its 90 % interval `low_ratio`, `high_ratio`; `honest_ratio` is the saving on rounds that did not
    choose the parameters. `undelayed` is the best allowed row whose jobs end in their own round.
    """

    best: Row
    uncoded: Row
    undelayed: Row
    saving_ratio: float
    low_ratio: float
    high_ratio: float
    honest_ratio: float
    pays: bool


def choose(rows: Sequence[Row], tried: Tried, limits: Limits, bursts: Bursts) -> Choice:
    """Return the choice among `rows`, which hold the uncoded one."""
    uncoded = next(row for row in rows if row.family == "uncoded")
    open_to = [row for row in rows if allowed(row, limits)]
    undelayed = min((row for row in open_to if not row.scheme.delay_rounds), key=lambda row: row.runtime_s)
    best = _simplest(open_to)
    low, high = interval(uncoded.seconds, best.seconds, bursts.mean_rounds)
    gain = saving(uncoded.seconds, best.seconds)
    honest = 1 - tried.honest_s(_allowed(tried, limits, best)) / float(tried.runtime_s[tried.family == "uncoded"][0])
    pays = best is not uncoded and min(gain, honest) >= LEAST_SAVING and low > 0
    return Choice(best, uncoded, undelayed, gain, low, high, honest, pays)


def _simplest(rows: Sequence[Row]) -> Row:
    """Return the row of least delay among those about as fast as the fastest; of equal delay the fastest."""
    fastest = min(row.runtime_s for row in rows)
    near = [row for row in rows if row.runtime_s * (1 - LEAST_SAVING) <= fastest]
    return min(near, key=lambda row: (row.scheme.delay_rounds, row.runtime_s))


def allowed(row: Row, limits: Limits) -> bool:
    """Return whether a row keeps to the limits."""
    fits = limits.jobs_in_flight is None or row.scheme.delay_rounds < limits.jobs_in_flight
    return fits and row.lost_ratio <= limits.lost_ratio


def delays(tried: Tried) -> Array:
    """Return the delay in rounds of each candidate."""
    multiplexed = np.where(tried.family == "m-sgc", tried.window - 2 + tried.burst, 0)
    return np.asarray(np.where(tried.family == "sr-sgc", tried.burst, multiplexed))


def _allowed(tried: Tried, limits: Limits, best: Row) -> Array:
    """Return the candidates that the procedure which chose `best` could have taken."""
    most = np.inf if limits.jobs_in_flight is None else limits.jobs_in_flight - 1
    most = min(most, best.scheme.delay_rounds)
    lossy = (tried.family == "approximate") & (limits.lost_ratio <= 0)
    return np.asarray((delays(tried) <= most) & ~lossy)


def name(row: Row) -> str:
    """Return a row's scheme and parameters in words."""
    said = ", ".join(f"{key}={value}" for key, value in row.parameters.items())
    said = f"{said}, mu={row.mu:g}" if row.mu is not None else said
    title = TITLES.get(row.family, row.family)
    return f"{title} ({said})" if said else title


def document(row: Row, uncoded: Row) -> dict[str, Any]:
    """Return a row as plain values for the plan."""
    delay = row.scheme.delay_rounds
    return {
        "scheme": row.family, "parameters": row.parameters, "mu": row.mu, "load": row.scheme.load,
        "runtime_s": row.runtime_s, "delay_rounds": delay, "jobs_in_flight": delay + 1,
        "saving_ratio": saving(uncoded.seconds, row.seconds), "exact": row.lost_ratio == 0,
        "lost_ratio": row.lost_ratio, "waited_rounds": row.waited_rounds, "closing": row.closing,
        "promise": row.scheme.promise,
    }  # fmt: skip


def conditions(row: Row, workers: int) -> list[str]:
    """Return what must hold for a scheme to give what was predicted."""
    held = row.scheme.load * workers
    said = []
    if row.family in SEQUENTIAL:
        count = row.scheme.delay_rounds + 1
        said.append(f"{count} (T + 1) independent jobs in flight: several models, or gradients that are "
                    f"{row.scheme.delay_rounds} steps old; one synchronous model cannot use it")  # fmt: skip
    if row.family != "uncoded":
        said.append(f"every worker can hold and read {held:.3g} times its uncoded share of each batch")
        said.append("a late worker's result can be left behind: point-to-point sends or parameter servers, since an "
                    "all-reduce waits for everybody")  # fmt: skip
    if row.lost_ratio:
        said.append(f"training bears to lose {row.lost_ratio:.2g} of each batch on the average")
    return said


def doubts(bursts: Bursts, choice: Choice, workers: Sequence[str]) -> list[str]:
    """Return warnings: lateness that coding is the wrong remedy for, and savings that do not hold elsewhere."""
    said = []
    if bursts.chronic:
        who = ", ".join(workers[one] for one in bursts.chronic[:8]) + (" ..." if len(bursts.chronic) > 8 else "")
        said.append(f"workers late in most rounds: {who}; give them less of the batch (plan batch) or drain them, "
                    "before any coding")  # fmt: skip
    elif bursts.mean_rounds > LONG_BURST_ROUNDS and bursts.count:
        ends = np.isfinite(bursts.mean_rounds)
        lasting = f"lasts {bursts.mean_rounds:.0f} rounds on the average" if ends else "does not end"
        said.append(f"lateness {lasting}: an uneven split of the batch (plan batch) follows it without extra work")
    if choice.saving_ratio - choice.honest_ratio > LEAST_SAVING:
        said.append(f"on rounds that did not choose the parameters the saving is {100 * choice.honest_ratio:.1f} %, "
                    f"not {100 * choice.saving_ratio:.1f} %: measure more rounds")  # fmt: skip
    return said


def verdict(choice: Choice, rows: Sequence[Row], limits: Limits, jobs: int) -> str:
    """Return the choice in one or two sentences, and what a delayed scheme would do where it was not taken."""
    best, before = choice.best, choice.uncoded.runtime_s
    span = f"90 % interval {100 * choice.low_ratio:.1f} to {100 * choice.high_ratio:.1f} %"
    if not choice.pays:
        if best is choice.uncoded:
            others = [row for row in rows if row is not choice.uncoded and allowed(row, limits)]
            if not others:
                return f"{DOES_NOT_PAY.capitalize()}: no scheme is allowed, and uncoded takes {before:.4g} s."
            best = min(others, key=lambda row: row.runtime_s)
            span = "slower" if best.runtime_s > before else f"less than {100 * LEAST_SAVING:.0f} % faster"
        return (f"{DOES_NOT_PAY.capitalize()}: for {jobs} rounds uncoded takes {before:.4g} s, and the best that is "
                f"allowed, {name(best)}, {best.runtime_s:.4g} s ({span}).")  # fmt: skip
    title = name(best)
    said = (f"{title[0].upper()}{title[1:]} would take {best.runtime_s:.4g} s for {jobs} rounds instead of "
            f"{before:.4g} s: {100 * choice.saving_ratio:.1f} % less ({span})")  # fmt: skip
    if best.scheme.delay_rounds:
        said += f"; it needs {best.scheme.delay_rounds + 1} (T + 1) independent jobs in flight"
    return said + "."


def steps(choice: Choice, rows: Sequence[Row], workers: int) -> list[str]:
    """Return what to do, in order, with the conditions; where coding does not pay nothing is to be done."""
    if not choice.pays:
        return ["do nothing here: keep the uncoded rounds"]
    best = choice.best
    said = [f"check the conditions: {'; '.join(conditions(best, workers))}",
            f"give the workers their chunks (--schedule FILE writes them); a worker computes {best.scheme.load:.4g} of "
            f"the batch per round, {best.scheme.load * workers:.3g} times as much as now",
            f"end a round {best.closing}"]  # fmt: skip
    if best.family in ("gc", "sr-sgc", "m-sgc", "heterogeneous"):
        said.append("encode the coded chunks with uneven fractional repetition where gradients are fp32 or bf16 "
                    "(--encode judges a code): cyclic codes amplify rounding")  # fmt: skip
    said.append(f"it holds while there are: {best.scheme.promise}; otherwise rounds wait longer, nothing is lost"
                if not best.lost_ratio else best.scheme.promise)  # fmt: skip
    if best.scheme.delay_rounds:
        other = choice.undelayed
        said.append(f"without {best.scheme.delay_rounds + 1} jobs in flight the best is {name(other)}, "
                    f"{other.runtime_s:.4g} s")  # fmt: skip
    return said + _other(rows, best)


def _other(rows: Sequence[Row], best: Row) -> list[str]:
    """Return what a sequential scheme would give where another was taken, with its condition."""
    others = [row for row in rows if row.family in SEQUENTIAL]
    if best.family in SEQUENTIAL or not others:
        return []
    row = min(others, key=lambda one: one.runtime_s)
    count = row.scheme.delay_rounds + 1
    return [f"for comparison: {name(row)} would take {row.runtime_s:.4g} s and compute {row.scheme.load:.3g} of the "
            f"batch per worker, but needs {count} (T + 1) independent jobs in flight"]  # fmt: skip
