"""The canonical tables: one file each, every column with its type, unit and meaning."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ._schema import Column, Table

__all__ = ["Column", "Table", "names", "table"]


def names() -> list[str]:
    """Return the names of all canonical tables, sorted.

    >>> "collectives" in names()
    True
    """
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


@cache
def table(name: str) -> Table:
    """Return the declaration of one table; raises KeyError for an unknown name.

    >>> table("steps").key
    ('job', 'step', 'rank', 'phase', 'microbatch')
    """
    if name not in _names():
        raise KeyError(f"no table {name!r}; tables are {', '.join(names())}")
    declared: Table = import_module(f".{name}", __name__).TABLE
    return declared
