"""How a fleet's series are asked for in pages, none of which is too large for the server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST_NAMES = 12_000  # characters of names in one query: servers take 16 KiB or more


@dataclass(frozen=True)
class Page:
    """Series of these metrics, of these instances; all instances where none is named."""

    metrics: tuple[str, ...]
    instances: tuple[str, ...] = ()

    def selector(self, more: str = "") -> str:
        """Return the page as PromQL selects it; `more` are further matchers.

        >>> Page(("a", "b"), ("n1:9400",)).selector('job="gpu"')
        '{__name__=~"a|b",instance=~"n1:9400",job="gpu"}'
        """
        matchers = [
            f'__name__=~"{"|".join(self.metrics)}"' if len(self.metrics) > 1 else f'__name__="{self.metrics[0]}"'
        ]
        if self.instances:
            matchers.append(f'instance=~"{"|".join(map(_quoted, self.instances))}"')
        return "{" + ",".join([*matchers, *([more] if more else [])]) + "}"

    def halves(self, instances: Sequence[str]) -> list[Page]:
        """Return two pages with the same series; one where it cannot be parted. `instances` are all that there are."""
        if len(self.metrics) > 1:
            half = len(self.metrics) // 2
            return [Page(self.metrics[:half], self.instances), Page(self.metrics[half:], self.instances)]
        some = self.instances or tuple(instances)
        if len(some) < 2:
            return [self]
        return [Page(self.metrics, some[: len(some) // 2]), Page(self.metrics, some[len(some) // 2 :])]


def plan(counts: Mapping[str, int], most_series: int, instances: Sequence[str]) -> list[Page]:
    """Return pages of at most `most_series` series, as `counts` (metric -> series) lets expect.

    >>> [page.metrics for page in plan({"a": 3, "b": 4, "c": 5}, 8, ())]
    [('a', 'b'), ('c',)]
    >>> [page.instances for page in plan({"a": 8}, 4, ("n1", "n2"))]
    [('n1',), ('n2',)]
    """
    pages: list[Page] = []
    names: list[str] = []
    total = length = 0
    for name in sorted(counts):
        count = counts[name]
        if count > most_series:
            pages += _parted(name, count, most_series, instances)
            continue
        if names and (total + count > most_series or length + len(name) > LONGEST_NAMES):
            pages.append(Page(tuple(names)))
            names, total, length = [], 0, 0
        names.append(name)
        total, length = total + count, length + len(name) + 1
    return pages + ([Page(tuple(names))] if names else [])


def _parted(name: str, count: int, most_series: int, instances: Sequence[str]) -> list[Page]:
    parts = min(-(-count // most_series), max(1, len(instances)))
    if parts < 2:
        return [Page((name,))]
    each = -(-len(instances) // parts)
    return [Page((name,), tuple(instances[at : at + each])) for at in range(0, len(instances), each)]


def _quoted(text: str) -> str:
    r"""Return a text as it stands in a regular expression in double quotes.

    >>> print(_quoted('n1.a:9400'))
    n1\\.a:9400
    """
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text).replace("\\", "\\\\").replace('"', r"\"")
