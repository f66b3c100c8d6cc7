"""Slurm's short form of many node names: n[1-4,7],login."""

from __future__ import annotations

import re

MOST = 65_536
RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand(text: str) -> tuple[str, ...]:
    """Return the names that a host list stands for; raises ValueError for what is none.

    >>> expand("n[1-2,07],login,r[1-2]n[3]")
    ('n1', 'n2', 'n07', 'login', 'r1n3', 'r2n3')
    """
    names = [name for part in _parts(text) for name in _names(part)]
    if len(names) > MOST:
        raise ValueError(f"more than {MOST} nodes in one list")
    return tuple(names)


def _parts(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    return [part for part in re.split(r",(?![^\[]*\])", text) if part]


def _names(part: str) -> list[str]:
    names = [""]
    for place, piece in enumerate(re.split(r"\[([^\]]*)\]", part)):
        tails = _numbers(piece) if place % 2 else [piece]
        if len(names) * len(tails) > MOST:
            raise ValueError(f"more than {MOST} nodes in one list")
        names = [name + tail for name in names for tail in tails]
    return names


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for one in text.split(","):
        if not (match := RANGE.fullmatch(one)):
            raise ValueError(f"{one!r} is no range of a host list")
        first, last = match[1], match[2] or match[1]
        if int(last) - int(first) >= MOST:
            raise ValueError(f"more than {MOST} nodes in one list")
        found += [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return found


def listed(value: object) -> tuple[str, ...]:
    """Return the names of a host list, or of a list of names.

    >>> listed("n[1-2]"), listed(["n1", "n2"]), listed(None)
    (('n1', 'n2'), ('n1', 'n2'), ())
    """
    if isinstance(value, str):
        return expand(value)
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
