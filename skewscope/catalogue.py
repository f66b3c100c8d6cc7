"""Finds rooms by their file names: detectors, sources, commands, pages. Nobody names a wing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from os import listdir
from types import ModuleType
from typing import Any

from .errors import UsageError

LISTS = {"detectors": "skewscope conditions", "collectors": "skewscope agent --list",
         "views": "skewscope view --list"}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """One room: its id (`coll-late-rank`), module (`skewscope.detectors.coll_late_rank`) and class name."""

    id: str
    module: str
    class_name: str

    def load(self, *arguments: Any) -> Any:  # noqa: ANN401 - rooms of every kind pass here
        """Return a fresh instance of the room's class, by default with default thresholds."""
        return self.kind()(*arguments)

    def kind(self) -> Any:  # noqa: ANN401 - rooms of every kind pass here
        """Return the room's class."""
        return getattr(import_module(self.module), self.class_name)

    def page(self) -> str:
        """Return the module docstring, which is the room's page."""
        return import_module(self.module).__doc__ or ""

    def title(self) -> str:
        """Return the first line of the page, without importing the room where its file can be read."""
        found = find_spec(self.module)
        try:
            with open(found.origin if found and found.origin else "", encoding="utf-8") as file:
                first = file.readline().strip()
        except (OSError, UnicodeDecodeError):
            first = ""
        return first.strip('"') if first.startswith('"""') else (self.page().strip().splitlines() or [""])[0]


def class_name(file_name: str) -> str:
    """Return the class name that a file must hold.

    >>> class_name("coll_late_rank")
    'CollLateRank'
    """
    return "".join(part.capitalize() for part in file_name.split("_"))


@cache
def rooms(package: str) -> tuple[Room, ...]:
    """Return all rooms of a package such as "detectors" or "sources", sorted by id; private files are skipped."""
    found = import_module(_full_name(package))
    # Listing the files is what pkgutil does too, but importing it costs each process of the agent a MiB.
    names = sorted({name for folder in found.__path__ for name in listdir(folder) if name.endswith(".py")})
    return tuple(
        Room(name.replace("_", "-"), f"{found.__name__}.{name}", class_name(name))
        for name in (name.removesuffix(".py") for name in names if not name.startswith("_"))
    )


def room(package: str, room_id: str) -> Room:
    """Return one room by id; raises UsageError that lists near names."""
    for candidate in rooms(package):
        if candidate.id == room_id:
            return candidate
    from difflib import get_close_matches

    near = get_close_matches(room_id, [candidate.id for candidate in rooms(package)], n=3)
    kind = package.rpartition(".")[2]
    hint = f"did you mean {', '.join(near)}?" if near else f"`{LISTS.get(kind, 'skewscope --help')}` lists all"
    raise UsageError(f"no {kind[:-1]} is called {room_id!r}; {hint}")


def load(module: str) -> ModuleType:
    """Return one module below the package by its place in the tree, as "dashboards.report_page"."""
    return import_module(_full_name(module))


def _full_name(module: str) -> str:
    full = f"skewscope.{module}"
    if find_spec(f"skewscope.{module.split('.')[0]}") is None:
        raise UsageError(f"{full} is not installed; run `pip install -e .` in the checkout (or `make demo`)")
    return full
