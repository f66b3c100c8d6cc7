"""What a sequence costs: linear in its tokens, and quadratic for attention.

One layer forward at hidden size h: 24 h^2 s for the matrices (multiply and add counted), and attention 4 h s^2 with
a full mask, 2 h s^2 with a causal one. Attention equals the rest at 6 h or 12 h tokens. Documents packed into one
sequence attend only to themselves: sum of l_j^2, not (sum of l_j)^2, so equal tokens are not equal work.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

PRESETS = ("causal", "full", "verl", "skrull", "tokens")
LEAST_R2 = 0.8  # below it the model is said not to fit


@dataclass(frozen=True)
class Cost:
    """`fixed` per step, `linear` per token, `quadratic` per token squared; one `unit` for all: "FLOPs" or "s"."""

    linear: float
    quadratic: float
    fixed: float = 0.0
    unit: str = "FLOPs"
    r2: float | None = None

    def of(self, lengths: Array) -> Array:
        """Return the cost of each sequence, shape of `lengths` in tokens; the fixed part is the step's, not theirs.

        >>> Cost(2.0, 1.0).of(np.array([1, 3])).tolist()
        [3.0, 15.0]
        """
        length = np.asarray(lengths, dtype=float)
        return np.asarray(self.linear * length + self.quadratic * length * length)

    @property
    def even_tokens(self) -> float:
        """Return the length at which attention costs as much as the rest; infinite without attention."""
        return self.linear / self.quadratic if self.quadratic > 0 else float("inf")


def preset(name: str, hidden: int, key_value_hidden: int | None = None) -> Cost:
    """Return the cost of one layer forward in FLOPs for a model of this hidden size.

    "causal" and "full" as above; "verl" is that trainer's own weight (24576 s + s^2, made for h = 4096); "skrull"
    counts grouped key and value heads of `key_value_hidden`; "tokens" sees no attention. Raises UsageError.

    >>> preset("full", 4096).even_tokens, preset("causal", 4096).even_tokens
    (24576.0, 49152.0)
    """
    h, kv = float(hidden), float(hidden if key_value_hidden is None else key_value_hidden)
    made = {
        "causal": Cost(24 * h * h, 2 * h), "full": Cost(24 * h * h, 4 * h), "verl": Cost(6 * h, 1.0, unit="weight"),
        "skrull": Cost(20 * h * h + 4 * h * kv, 4 * h), "tokens": Cost(1.0, 0.0, unit="tokens"),
    }  # fmt: skip
    if name not in made:
        raise UsageError(f"no cost is called {name!r}; there are {', '.join(PRESETS)}")
    if hidden < 1 or kv < 1:
        raise UsageError(f"a hidden size of {hidden} (keys and values {kv:g}) cannot be: give the model's own")
    return made[name]


def fit(tokens: Array, squares: Array, times_s: Array) -> Cost:
    """Return the cost in seconds that explains measured steps: t = fixed + linear sum(l) + quadratic sum(l^2).

    All [steps]: sums over the step's sequences of one rank, and its own work. Least squares with no part below 0;
    `r2` says how much of the spread is explained. Raises UsageError with fewer than 4 steps, or none that differ.

    >>> tokens, squares = np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 5, 16])
    >>> made = fit(tokens, squares, 0.5 + 2 * tokens + 3 * squares)
    >>> round(made.fixed, 6), round(made.linear, 6), round(made.quadratic, 6), made.r2
    (0.5, 2.0, 3.0, 1.0)
    """
    good = np.isfinite(tokens) & np.isfinite(squares) & np.isfinite(times_s)
    columns = np.stack([np.ones(int(good.sum())), tokens[good], squares[good]], axis=1)
    if len(columns) < 4 or len(np.unique(tokens[good])) < 2:
        raise UsageError("a cost can only be fitted to four steps or more with different tokens; use a preset instead")
    parts = non_negative(columns, times_s[good])
    spread = float(((times_s[good] - times_s[good].mean()) ** 2).sum())
    left = float(((times_s[good] - columns @ parts) ** 2).sum())
    r2 = 1.0 - left / spread if spread > 0 else 0.0
    return Cost(float(parts[1]), float(parts[2]), float(parts[0]), "s", round(r2, 6))


def non_negative(columns: Array, values: Array) -> Array:
    """Return the least-squares coefficients that are not below 0, [parts], for few columns [rows, parts].

    Every set of columns is tried and the best one with no negative coefficient kept: exact, and at most 7 solves here.

    >>> non_negative(np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([2.0, 1.0])).round(6).tolist()
    [1.5, 0.0]
    """
    parts = columns.shape[1]
    scale = np.abs(columns).max(axis=0)
    scaled = columns / np.where(scale > 0, scale, 1.0)
    best, least = np.zeros(parts), float((values**2).sum())
    for size in range(1, parts + 1):
        for chosen in combinations(range(parts), size):
            made = np.linalg.lstsq(scaled[:, chosen], values, rcond=None)[0]
            left = float(((values - scaled[:, chosen] @ made) ** 2).sum())
            if (made >= 0).all() and left < least * (1 - 1e-12):
                best, least = np.zeros(parts), left
                best[list(chosen)] = made
    return np.asarray(best / np.where(scale > 0, scale, 1.0))
