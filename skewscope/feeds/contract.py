"""What a live source of windows owes: the windows of a fleet, one after another, and who did not answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from skewscope.signals.windows import WINDOW_S

if TYPE_CHECKING:
    import pandas as pd

WINDOW_NS = int(WINDOW_S * 1e9)
MOST_ERRORS = 20
LONGEST_ERROR = 300


@dataclass(frozen=True)
class Told:
    """What one window told.

    `tables` holds `windows` (rows with t_ns == end_ns; counters that did not grow may be left out), `events` (may be
    empty) and `ranks` where jobs were seen. `targets` is how many nodes should have answered, `answered` how many did
    at least once, `stale` the sorted names of those that did not. `errors` are lines for people, no two alike.
    """

    end_ns: int
    tables: Mapping[str, pd.DataFrame]
    targets: int
    answered: int
    stale: tuple[str, ...]
    errors: tuple[str, ...]
    samples: int


class Feed(Protocol):
    """A live source. Windows are 30 s long and end at multiples of that; times are ns since the Unix epoch."""

    def start(self) -> None:
        """Begin to collect."""

    def window(self, end_ns: int) -> Told:
        """Return the window that ends at `end_ns`, as soon as its data can be there; a dead source is told in it."""

    def history(self, begin_ns: int, end_ns: int) -> Iterator[Told]:
        """Yield the windows whose ends lie in (begin_ns, end_ns], oldest first; none where the source has no past."""

    def stop(self) -> None:
        """End collecting, and whatever waits in `window`."""


def ends(begin_ns: int, end_ns: int) -> range:
    """Return the ends of the windows in (begin_ns, end_ns].

    >>> [end // 10**9 for end in ends(30 * 10**9, 95 * 10**9)]
    [60, 90]
    """
    return range((begin_ns // WINDOW_NS + 1) * WINDOW_NS, end_ns + 1, WINDOW_NS)


def lines(errors: Iterable[str]) -> tuple[str, ...]:
    r"""Return errors as `Told` holds them: one line each, no two alike, at most 20 and short.

    >>> lines(["a\nb", "a b", "c"])
    ('a b', 'c')
    """
    unique = list(dict.fromkeys(" ".join(error.split())[:LONGEST_ERROR] for error in errors))
    if len(unique) > MOST_ERRORS:
        unique[MOST_ERRORS - 1 :] = [f"... and {len(unique) - MOST_ERRORS + 1} more"]
    return tuple(unique)
