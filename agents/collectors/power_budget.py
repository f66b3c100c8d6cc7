"""What the site grants the power domain of this host: the agent is told, as no counter of the machine knows it.

A domain is what shares a feed, a rack or a row. The options `power.domain` (its name) and `power.budget_watts` (what
the GPUs of all its hosts may draw together) are the same on all its hosts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData, UsageError


class PowerBudget:
    """Tells the power domain of the host and its budget."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = ("skewscope_power_budget_watts",)

    def __init__(self, place: Place) -> None:
        self._options = place.options

    def collect(self) -> Iterable[Sample]:
        """Return the budget; raises NoData where none is set and UsageError for what is no number of watts."""
        domain, told = self._options.get("power.domain", ""), self._options.get("power.budget_watts", "")
        if not domain or not told:
            raise NoData("power.domain and power.budget_watts are not set")
        return [("skewscope_power_budget_watts", (domain,), _watts(told))]


def _watts(told: str) -> float:
    """Return the number of watts; raises UsageError.

    >>> _watts("22400")
    22400.0
    """
    try:
        watts = float(told)
    except ValueError:
        watts = math.nan
    if not (math.isfinite(watts) and watts > 0):
        raise UsageError(f"power.budget_watts {told!r} is no number of watts; write 22400")
    return watts
