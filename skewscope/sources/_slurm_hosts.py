"""Slurm's short form of many host names: n[1-4,07],login."""

from __future__ import annotations

import re
from itertools import product
from math import prod

MOST = 65_536
PIECE = re.compile(r"\[([^\]]*)\]|([^\[\]]+)")
SPAN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def hosts(text: str) -> list[str]:
    """Return the names that a host list stands for, none for what is no list.

    >>> hosts("n[1-2,07],login"), hosts("None assigned"), hosts("n[1-")
    (['n1', 'n2', 'n07', 'login'], [], [])
    """
    found: list[str] = []
    for part in re.split(r",(?![^\[]*\])", text.strip()):
        if not part or " " in part or part.count("[") != part.count("]"):
            return []
        choices = [_spans(inside) if inside else [plain] for inside, plain in PIECE.findall(part)]
        found += ["".join(one) for one in product(*choices)] if prod(map(len, choices)) <= MOST else []
    return found if len(found) <= MOST else []


def _spans(text: str) -> list[str]:
    """Return the numbers of a bracket, as wide as they are written."""
    found: list[str] = []
    for one in text.split(","):
        match = SPAN.fullmatch(one)
        if match is None or int(match[2] or match[1]) - int(match[1]) > MOST:
            return []
        found += [f"{number:0{len(match[1])}}" for number in range(int(match[1]), int(match[2] or match[1]) + 1)]
    return found
