"""What gathering gives: the canonical tables of one job, and what became of each input file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Input:
    """One input file: `status` is ok, partial or unreadable; `error` says why, empty for none; rank -1 is unknown."""

    path: str
    format: str
    rank: int
    events: int
    status: str
    error: str = ""


@dataclass(frozen=True)
class Recording:
    """All that was read of one job; every canonical table that is not derived is there, maybe empty.

    `world_size` is -1 where nobody declared it; `parallelism` maps dp, pp, tp, ep, cp to their sizes.
    """

    tables: dict[str, pd.DataFrame]
    inputs: tuple[Input, ...]
    world_size: int = -1
    parallelism: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
