"""How the agent was told to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skewscope.contracts import Place

from .exposition import MOST_SERIES

LEAST_INTERVAL_S = 0.2  # faster sampling disturbs what it measures


@dataclass(frozen=True)
class Settings:
    """All that can be set; seconds are float. `every` overrides the interval of single collectors."""

    listen: str = "127.0.0.1:9709"
    interval_s: float = 1.0
    slow_interval_s: float = 15.0
    every: Mapping[str, float] = field(default_factory=dict)
    collectors: tuple[str, ...] = ()
    deadline_s: float = 5.0  # a collector that takes longer is given up
    spool: Path = Path("/run/skewscope/spool")
    archive: Path | None = None
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    options: Mapping[str, str] = field(default_factory=dict)
    web_config: Path | None = None
    allow_plain: bool = False
    most_series: int = MOST_SERIES

    def interval(self, collector: str, group: str) -> float:
        """Return the seconds between two runs of a collector.

        >>> Settings(every={"nfs": 60.0}).interval("nfs", "slow"), Settings().interval("rdma", "fast")
        (60.0, 1.0)
        """
        return self.every.get(collector) or (self.interval_s if group == "fast" else self.slow_interval_s)

    def place(self) -> Place:
        """Return the place where host collectors look."""
        return Place(
            proc=self.proc, sys=self.sys, dev=self.dev, spool=self.spool, archive=self.archive, options=self.options
        )
