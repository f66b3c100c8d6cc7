"""Laws of scaling and their least squares: throughput over ranks, in any unit of work per second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Parameters = dict[str, float]

DRAWS = 400
LEVEL_RATIO = 0.95


@dataclass(frozen=True)
class Law:
    """One law: `fit(ranks [n], throughput [n])` and `curve(parameters, ranks)`, both of throughput."""

    name: str
    least_points: int
    fit: Callable[[Array, Array], Parameters]
    curve: Callable[[Mapping[str, float], Array], Array]
    limit: Callable[[Mapping[str, float]], str]


def amdahl(ranks: Array, throughput: Array) -> Parameters:
    """Return the serial share of strong scaling and the throughput of one rank: T(n) = T1 (s + (1 - s) / n).

    >>> n = np.array([1.0, 2, 4, 8]); found = amdahl(n, 10 / (0.1 + 0.9 / n))
    >>> {name: round(value, 6) for name, value in found.items()}
    {'serial_share': 0.1, 'one_rank_per_s': 10.0}
    """
    serial, parallel = _least(np.stack([np.ones_like(ranks), 1 / ranks], axis=1), 1 / throughput)
    whole = serial + parallel
    return {"serial_share": serial / whole, "one_rank_per_s": 1 / whole}


def gustafson(ranks: Array, throughput: Array) -> Parameters:
    """Return the serial share of weak scaling and the throughput of one rank: X(n) = X1 (s + (1 - s) n).

    >>> n = np.array([1.0, 2, 4, 8]); found = gustafson(n, 10 * (0.25 + 0.75 * n))
    >>> {name: round(value, 6) for name, value in found.items()}
    {'serial_share': 0.25, 'one_rank_per_s': 10.0}
    """
    fixed, growing = _least(np.stack([np.ones_like(ranks), ranks], axis=1), throughput)
    return {"serial_share": fixed / (fixed + growing), "one_rank_per_s": fixed + growing}


def usl(ranks: Array, throughput: Array) -> Parameters:
    """Return contention and coherency: X(n) = X1 n / (1 + contention (n - 1) + coherency n (n - 1)).

    >>> n = np.array([1.0, 2, 4, 8, 16]); found = usl(n, 10 * n / (1 + 0.05 * (n - 1) + 0.002 * n * (n - 1)))
    >>> {name: round(value, 6) for name, value in found.items()}
    {'contention': 0.05, 'coherency': 0.002, 'one_rank_per_s': 10.0}
    """
    columns = np.stack([np.ones_like(ranks), ranks - 1, ranks * (ranks - 1)], axis=1)
    base, contention, coherency = _least(columns, ranks / throughput)
    base = max(base, 1e-300)
    return {"contention": contention / base, "coherency": coherency / base, "one_rank_per_s": 1 / base}


def _least(columns: Array, values: Array) -> list[float]:
    """Return non-negative factors of columns [n, k] that come closest to values [n], as shares of them."""
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    found, _ = nnls(columns / values[:, None], np.ones(len(values)))
    return [float(one) for one in found]


def _amdahl_curve(found: Mapping[str, float], ranks: Array) -> Array:
    serial = found["serial_share"]
    return np.asarray(found["one_rank_per_s"] / (serial + (1 - serial) / ranks))


def _gustafson_curve(found: Mapping[str, float], ranks: Array) -> Array:
    serial = found["serial_share"]
    return np.asarray(found["one_rank_per_s"] * (serial + (1 - serial) * ranks))


def _usl_curve(found: Mapping[str, float], ranks: Array) -> Array:
    below = 1 + found["contention"] * (ranks - 1) + found["coherency"] * ranks * (ranks - 1)
    return np.asarray(found["one_rank_per_s"] * ranks / below)


def _amdahl_limit(found: Mapping[str, float]) -> str:
    return f"never faster than {1 / found['serial_share']:.3g} times one rank" if found["serial_share"] > 1e-9 else ""


def _usl_limit(found: Mapping[str, float]) -> str:
    contention, coherency = found["contention"], found["coherency"]
    if coherency <= 1e-12:
        return f"never faster than {1 / contention:.3g} times one rank" if contention > 1e-9 else ""
    if contention >= 1:
        return "no faster than one rank"
    return f"fastest at {np.sqrt((1 - contention) / coherency):.0f} ranks, slower with more"


LAWS = {
    "strong": (Law("amdahl", 2, amdahl, _amdahl_curve, _amdahl_limit), Law("usl", 3, usl, _usl_curve, _usl_limit)),
    "weak": (
        Law("gustafson", 2, gustafson, _gustafson_curve, lambda found: ""), Law("usl", 3, usl, _usl_curve, _usl_limit)
    ),
}  # fmt: skip


def error(law: Law, found: Mapping[str, float], ranks: Array, throughput: Array) -> float:
    """Return the largest share by which the law is off at any point."""
    return float(np.max(np.abs(law.curve(found, ranks) / throughput - 1)))


def intervals(law: Law, ranks: Array, drawn: Array, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the interval of each parameter from throughputs [draws, n], each drawn from its run's steps.

    What the law leaves over at the points is drawn too: runs differ by more than their steps tell.
    """
    middle = np.median(drawn, axis=0)
    best = law.fit(ranks, middle)
    left = np.log(middle / law.curve(best, ranks))
    spread = left * np.sqrt(len(ranks) / max(1, len(ranks) - len(best)))
    random = np.random.default_rng(seed)
    curve = law.curve(best, ranks)
    made = [
        law.fit(ranks, curve * one / middle * np.exp(random.choice(spread, len(ranks)) * random.choice([-1, 1])))
        for one in drawn
    ]
    ends = [(1 - LEVEL_RATIO) / 2, (1 + LEVEL_RATIO) / 2]
    return {name: tuple(np.quantile([one[name] for one in made], ends).tolist()) for name in best}
