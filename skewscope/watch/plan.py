"""What a live service works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from ..feeds.contract import Feed
from .acting import Acting
from .history import History
from .incidents import Patience
from .notify.alertmanager import Alertmanager
from .notify.outbox import Outbox
from .snapshot import Snapshot


class Shelf(Protocol):
    """Where windows are kept, as `store.Store` does."""

    def append(self, windows: pd.DataFrame, events: pd.DataFrame | None = None) -> None:
        """Keep one window."""

    def windows(self, begin_ns: int, end_ns: int, metrics: Collection[str] | None = None) -> pd.DataFrame:
        """Return the windows of these metrics, None for all, that end in a time."""

    def events(self, begin_ns: int, end_ns: int) -> pd.DataFrame:
        """Return the events of the windows that end in a time."""

    def compact(self) -> None:
        """Make small files large."""

    def size_bytes(self) -> int:
        """Return the size on disk."""


@dataclass
class Plan:
    """What a service works with. `folder` keeps its state (None: nothing outlives it), `link` is its own address."""

    feed: Feed
    publish: Callable[[Snapshot], None]
    folder: Path | None = None
    store: Shelf | None = None
    alertmanagers: Sequence[Alertmanager] = ()
    outboxes: Sequence[Outbox] = ()
    link: str = ""
    length: int = 40
    patience: Patience = field(default_factory=Patience)
    only: Sequence[str] = ()
    acting: Acting | None = None
    history: History | None = None
    clock_ns: Callable[[], int] = time.time_ns
