"""How the time of a round grows with the load: fitted from measurements at several loads, never guessed from one.

Additive (Krishnan, Ramezani-Kebrya and others, "Sequential gradient coding", ICLR 2023): more load costs everybody the
same seconds, `D + alpha (L - L0)`; typical of functions in a cloud, where a late worker is late for other reasons.
Multiplicative: `fixed + (D - fixed) L / L0`; typical of GPUs, where slowness multiplies the computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SHOWN = (0.5, 0.95, 0.99)
DRAWS, LEAST_DOUBT = 40, 1e-3
WANTED = "measure again at two or more loads (say 1x, 2x and 4x the share of one worker), a run each"


@dataclass(frozen=True)
class Response:
    """What a round takes at another load. `kind` is "additive" (`slope_s`) or "multiplicative" (`fixed_s`).

    `slope_s`: seconds per unit of load, where load 1 is the whole batch on one worker; `fixed_s`: seconds of a round
    that no load changes. `slopes_s` holds the slopes of the quantiles that decided, where they were measured.

    >>> Response("additive", slope_s=2.0).move(np.array([1.0, 3.0]), 0.1, 0.6).tolist()
    [2.0, 4.0]
    >>> Response("multiplicative", fixed_s=0.5).move(np.array([1.0, 3.0]), 0.1, 0.2).tolist()
    [1.5, 5.5]
    """

    kind: str
    slope_s: float = 0.0
    fixed_s: float = 0.0
    slopes_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ("additive", "multiplicative"):
            raise UsageError(f"no response to load is called {self.kind!r}; there are additive and multiplicative")
        if not (np.isfinite(self.slope_s) and self.slope_s >= 0 and np.isfinite(self.fixed_s) and self.fixed_s >= 0):
            raise UsageError(f"slope {self.slope_s} s and fixed part {self.fixed_s} s must be finite and not negative")

    def line(self, was: float, load: Array | float) -> tuple[Array, Array]:
        """Return a, b of shape `load`: a time D measured at load `was` becomes a + b D."""
        load = np.asarray(load, dtype=float)
        if self.kind == "additive":
            return self.slope_s * (load - was), np.ones_like(load)
        if was <= 0:
            raise UsageError("times measured at load 0 cannot be multiplied; give the load they were measured at")
        return self.fixed_s * (1 - load / was), load / was

    def move(self, seconds: Array, was: float, load: Array | float) -> Array:
        """Return times [...] measured at load `was` as they would be at `load` (shapes must broadcast)."""
        shift, factor = self.line(was, load)
        return np.asarray(shift + factor * seconds)


def fit(loads: Sequence[float], measured: Sequence[Array]) -> Response:
    """Return the response that fits `measured`, arrays [rounds, workers] of seconds, one per load.

    The slope is that of ordinary least squares over all times. Quantiles decide the kind: lines of equal slope are
    additive, lines that meet where the load is 0 are multiplicative; the model with the smaller squared error, in
    standard errors of the quantiles, wins.
    Raises UsageError where fewer than two different loads were measured: one load tells nothing about another.

    >>> slow = np.linspace(1, 4, 40).reshape(4, 10)
    >>> fit([0.1, 0.2, 0.4], [0.5 + 10 * load * slow for load in (0.1, 0.2, 0.4)]).kind
    'multiplicative'
    >>> round(fit([0.1, 0.2, 0.4], [slow + 3 * load for load in (0.1, 0.2, 0.4)]).slope_s, 6)
    3.0
    """
    share = np.asarray(loads, dtype=float)
    if len(share) != len(measured) or len(np.unique(share)) < 2:
        raise UsageError(f"only one load was measured, which tells nothing about another; {WANTED}")
    if not (np.isfinite(share) & (share >= 0) & (share <= 1)).all():
        raise UsageError(f"loads are shares of the whole batch, 0 to 1; got {', '.join(f'{one:g}' for one in share)}")
    times = np.concatenate([np.ravel(part) for part in measured])
    at = np.repeat(share, [np.size(part) for part in measured])
    slope = max(0.0, float(np.polyfit(at, times, 1)[0]))
    table = np.array([np.quantile(part, QUANTILES) for part in measured])  # [loads, quantiles]
    weight = 1 / np.array([_doubt(np.asarray(part)) for part in measured])
    shown = np.array([np.quantile(part, SHOWN) for part in measured])
    slopes = {f"q{100 * q:g}": float(one) for q, one in zip(SHOWN, np.polyfit(share, shown, 1)[0], strict=True)}
    fixed, error = _meeting(share, table, weight)
    if error < 0.999 * _parallel(share, table, weight):  # where all quantiles are equal both fit, and additive is said
        return Response("multiplicative", slope, min(fixed, float(times.min())), slopes)
    return Response("additive", slope, 0.0, slopes)


def _doubt(part: Array) -> Array:
    """Return the standard error of each quantile of `part` [rounds, workers], from rounds drawn again.

    A quantile that falls where slow workers begin says little, and must not decide.
    """
    draw = np.random.default_rng(0)
    again = [np.quantile(part[draw.integers(0, len(part), len(part))], QUANTILES) for _ in range(DRAWS)]
    return np.asarray(np.std(again, axis=0) + LEAST_DOUBT * np.quantile(part, QUANTILES))


def _parallel(share: Array, table: Array, weight: Array) -> float:
    """Return the weighted squared error of lines c_q + alpha L with one alpha."""
    quantiles = table.shape[1]
    lines = np.tile(np.eye(quantiles), (len(share), 1))
    return _error(np.concatenate([np.repeat(share, quantiles)[:, None], lines], axis=1), table, weight)[1]


def _meeting(share: Array, table: Array, weight: Array) -> tuple[float, float]:
    """Return f and the weighted squared error of lines f + c_q L with one f, which is not negative."""
    lines = np.kron(share[:, None], np.eye(table.shape[1]))
    found, error = _error(np.concatenate([np.ones((table.size, 1)), lines], axis=1), table, weight)
    if found >= 0:
        return found, error
    return 0.0, _error(lines, table, weight)[1]


def _error(matrix: Array, table: Array, weight: Array) -> tuple[float, float]:
    """Return the first coefficient and the squared error of the weighted fit of `table` by the columns of `matrix`."""
    scaled, wanted = matrix * weight.ravel()[:, None], (table * weight).ravel()
    found = np.linalg.lstsq(scaled, wanted, rcond=None)[0]
    return float(found[0]), float(((scaled @ found - wanted) ** 2).sum())
