"""What a store or a feed knows of the past, as a horizon takes it.

A store gives some metrics after others, so that little of a large fleet is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from ..feeds.contract import Feed
from ..feeds.wanted import wanted
from ..frames import concat
from .horizon import Cut
from .plan import Shelf

PARTS_COUNT = 12
Span = tuple[int, int]  # ends of its first and its last window, ns


def parts(store: Shelf, spans: Sequence[Span]) -> Iterator[pd.DataFrame]:
    """Yield tables `windows` of these times, each with all rows of the metrics in it; of metrics that are read."""
    names = sorted(wanted())
    size = -(-len(names) // PARTS_COUNT)
    for at in range(0, len(names), size):
        some = names[at : at + size]
        yield concat("windows", [store.windows(*span, metrics=some) for span in spans])


def events(store: Shelf, spans: Sequence[Span]) -> pd.DataFrame:
    """Return the events of these times."""
    return concat("events", [store.events(*span) for span in spans])


def cuts(feed: Feed, begin_ns: int, end_ns: int) -> Iterator[Cut]:
    """Yield the windows of a time that a feed still knows something of."""
    for told in feed.history(begin_ns, end_ns):
        if len(told.tables.get("windows", ())):
            yield Cut(told.end_ns, told.tables)
