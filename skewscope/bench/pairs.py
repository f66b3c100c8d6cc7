"""Which conditions people confuse, as their own pages say: the pairs under *Look-alikes*, or "not to be confused with".

No list is kept here: whoever writes a room names its look-alikes there, and the pair is measured from then on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from .. import catalogue
from ..errors import UsageError
from ..outline import outlines
from ..precedence import EXPLAINED
from ..simulate import Scenario

SECTION = re.compile(r"^Look-alikes\n.*?(?=\n\n|\Z)|Not\s+to\s+be\s+confused\s+with.*?(?=\n\n|\Z)", re.S | re.M)
NAME = re.compile(r"`([a-z0-9-]+)`")
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (  # of conditions that meet in one place; categories of rooms
    ("Steps and collectives", ("collective", "step", "tensor", "pipeline", "data")),
    ("Network", ("nic", "fabric", "nvlink")),
    ("GPU, power and memory", ("gpu", "power", "memory")),
    ("Host, PCIe and storage", ("host", "pcie", "storage")),
    ("Experts", ("moe",)),
    ("Serving and KV cache", ("srv", "kv")),
    ("Reinforcement learning and scheduling", ("rl", "scheduler")),
)
OTHERS = "Others"


@dataclass(frozen=True)
class Pair:
    """Two conditions that are confused, in the order of the alphabet, and the rooms whose pages say so."""

    one: str
    other: str
    told_by: tuple[str, ...]

    @property
    def cause(self) -> str:
        """Which of both makes the other visible where it is true, "" for neither."""
        if self.other in EXPLAINED.get(self.one, ()):
            return self.one
        return self.other if self.one in EXPLAINED.get(self.other, ()) else ""


@cache
def pairs() -> tuple[Pair, ...]:
    """Return all pairs, sorted."""
    return confused({room.id: room.page() for room in catalogue.rooms("detectors")})


def confused(pages: Mapping[str, str]) -> tuple[Pair, ...]:
    r"""Return the pairs that pages (by condition) tell of.

    >>> confused({"a": "A.\n\nLook-alikes\n    `b`: later. `c-flag`: none.", "b": "B."})
    (Pair(one='a', other='b', told_by=('a',)),)
    """
    told: dict[tuple[str, str], list[str]] = {}
    for condition in sorted(pages):
        for name in sorted(look_alikes(pages[condition]) & set(pages) - {condition}):
            told.setdefault((min(condition, name), max(condition, name)), []).append(condition)
    return tuple(Pair(*names, tuple(rooms)) for names, rooms in sorted(told.items()))


def look_alikes(page: str) -> set[str]:
    r"""Return all names in backticks where a page speaks of look-alikes.

    >>> sorted(look_alikes("Seen by `x`. Not to be\nconfused with `a-b` or `c`, which end.\n\nWhat to do\n    `d`"))
    ['a-b', 'c']
    """
    return {name for part in SECTION.findall(page) for name in NAME.findall(part)}


def chosen(only: str | None) -> tuple[Pair, ...]:
    """Return the pairs with a condition that `only` (separated by commas) names, all where it is None.

    Raises UsageError for a name that stands in no pair.
    """
    if only is None:
        return pairs()
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    strange = sorted(wanted - {name for pair in pairs() for name in (pair.one, pair.other)})
    if strange or not wanted:
        raise UsageError(f"--only {only}: no page tells of look-alikes of {', '.join(strange) or 'nothing'}; "
                         "`skewscope conditions` lists all conditions")  # fmt: skip
    return tuple(pair for pair in pairs() if {pair.one, pair.other} & wanted)


def conditions(some: Iterable[Pair]) -> list[str]:
    """Return all conditions in pairs, sorted."""
    return sorted({name for pair in some for name in (pair.one, pair.other)})


def scenarios(wanted: Collection[str], known: Mapping[str, Scenario]) -> dict[str, list[str]]:
    """Return the names of the scenarios in which each wanted condition alone is true; none for some."""
    found: dict[str, list[str]] = {condition: [] for condition in wanted}
    for name, plan in known.items():
        faults = {fault.condition for fault in plan.faults}
        if len(plan.faults) == 1 and faults <= found.keys():
            found[plan.faults[0].condition].append(name)
    return found


def families(wanted: Collection[str]) -> list[tuple[str, list[str]]]:
    """Return the wanted conditions by family: (title, conditions), without empty ones."""
    category = {outline.id: outline.category for outline in outlines()}
    of = {kind: title for title, kinds in FAMILIES for kind in kinds}
    titles = [*(title for title, _ in FAMILIES), OTHERS]
    sorted_in = {title: [one for one in sorted(wanted) if of.get(category.get(one, ""), OTHERS) == title]
                 for title in titles}  # fmt: skip
    return [(title, some) for title, some in sorted_in.items() if some]
