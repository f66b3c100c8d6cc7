"""Kinds of network cards beside a matrix of links: reads them, and says what Holmes' rule would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Unreadable, UsageError
from ..optimize import kinds as rule
from ..optimize.layout import Job

Array = np.ndarray[Any, Any]


def read(path: Path) -> tuple[str, ...]:
    """Return the kind of each row of the matrix: one word per line; raises Unreadable."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise Unreadable(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {error}", "wants one word per line, as ib or roce") from error
    return tuple(line.strip() for line in lines if line.strip())


def of_units(words: Sequence[str], rows: int, tensor: int) -> tuple[str, ...]:
    """Return the kind of each unit of `tensor` rows; raises UsageError where they do not fit the matrix or a group.

    >>> of_units(["ib", "ib", "roce", "roce"], 4, 2)
    ('ib', 'roce')
    """
    if len(words) != rows:
        raise UsageError(f"--kinds: {len(words)} kinds for {rows} rows of links; one word per line, in their order")
    for first in range(0, rows, tensor):
        group = set(words[first : first + tensor])
        if len(group) > 1:
            raise UsageError(f"--kinds: rows {first} to {first + tensor - 1} are one tensor-parallel group, but of "
                             f"kinds {', '.join(sorted(group))}; a group wants one kind")  # fmt: skip
    return tuple(words[::tensor])


def what_if(
    it: Job, kinds: Sequence[str], orders: tuple[Array, Array], seed: int, moves: int
) -> tuple[dict[str, Any], str]:
    """Return what the rule gives, and a sentence; `kinds` [units], `orders` today's and the planned one, [units]."""
    names, numbers = np.unique(np.array(kinds), return_inverse=True)
    now, planned = (int(rule.mixed(order, numbers, it)) for order in orders)
    order = rule.within(it, numbers, seed, moves)
    found: dict[str, Any] = {
        "kinds": list(kinds), "mixed_stages_now": now, "mixed_stages": planned, "within_s": None, "within_grid": None,
    }  # fmt: skip
    told = f"replicas of more than one kind of network card: {planned} of {it.stages} stages (now {now})"
    if order is None:
        counts = ", ".join(f"{name} {count}" for name, count in zip(names, np.bincount(numbers), strict=True))
        return found, (f"{told}; none at all is not possible: {counts} units, of which each kind would have to be a "
                       f"multiple of the {it.replicas} replicas")  # fmt: skip
    within_s, planned_s = float(it.seconds(order)), float(it.seconds(orders[1]))
    found |= {"within_s": within_s, "within_grid": order.reshape(it.replicas, it.stages)}
    if planned == 0:
        return found, f"{told}, as Holmes asks"
    return found, (f"what-if: with each stage inside one kind and pipelines across kinds (Holmes) communication takes "
                   f"{within_s:.4g} s, planned {planned_s:.4g} s; {told}. See plan.kinds in the JSON")  # fmt: skip
