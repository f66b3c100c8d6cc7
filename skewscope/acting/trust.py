"""How far predictions of gain are to be trusted, by condition: what acts brought so far, over what they promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEIGHT = 4.0  # acts' worth of belief before the first


class Trust:
    """A beta prior around `prior`, updated by each proof with the share of the promise that came true (0..1).

    >>> trust = Trust(0.8)
    >>> trust.add({"phase": "proved", "finding": "gpu-thermal", "observed": {"of_predicted": 0.3}})
    >>> trust.of("gpu-thermal"), trust.of("nic-errors")
    (0.7, 0.8)
    """

    def __init__(self, prior: float = 0.8) -> None:
        self.prior = min(1.0, max(0.0, prior))
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record in; only proofs with a number count."""
        share = (record.get("observed") or {}).get("of_predicted") if record["phase"] == "proved" else None
        if share is None:
            return
        total, count = self._sums.get(record.get("finding", ""), (0.0, 0))
        self._sums[record.get("finding", "")] = total + min(1.0, max(0.0, float(share))), count + 1

    def of(self, condition: str) -> float:
        """Return the trust in a condition's predictions, 0..1."""
        total, count = self._sums.get(condition, (0.0, 0))
        return (self.prior * WEIGHT + total) / (WEIGHT + count)

    def all(self) -> dict[str, float]:
        """Return it for all conditions that were ever proved."""
        return {condition: self.of(condition) for condition in self._sums}
