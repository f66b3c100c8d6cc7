"""Which nn.Module each host call works for, forward and backward: backward calls go by their sequence number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats import intervals, segments
from . import _calls

Array = np.ndarray[Any, Any]

ENGINE = "autograd::engine::evaluate_function"
PREFIX = "nn.Module: "


@dataclass(frozen=True)
class Belonging:
    """For each call: `forward` [n] the row of the forward operator whose gradient it computes (itself when forward).

    `backward` [n] whether it is part of the backward pass; `module` [n] the row of its innermost module, -1 for none.
    """

    forward: Array
    backward: Array
    module: Array


def belonging(forest: _calls.Calls) -> Belonging:
    """Return what each call works for."""
    engine = _is_engine(forest)
    around = _calls.outermost(forest, engine)
    backward = around >= 0
    source = np.where(backward, _joined(forest, engine, backward)[np.maximum(around, 0)], np.arange(len(backward)))
    own = _calls.nearest(forest, forest.of_kind("module"))
    module = np.where(source >= 0, own[np.maximum(source, 0)], -1)
    return Belonging(source, backward, np.where(own >= 0, own, module))


def _is_engine(forest: _calls.Calls) -> Array:
    names = forest.frame["name"].array
    told = [name.startswith(ENGINE) or bool(re.search(r"Backward\d*$", name)) for name in names.categories]
    return np.asarray(np.array([*told, False])[names.codes]) & forest.of_kind("operator")


def _joined(forest: _calls.Calls, engine: Array, backward: Array) -> Array:
    """Return, per call of the engine, the innermost forward operator of its sequence number; -1 for none."""
    sequence = forest.frame["sequence"].to_numpy()
    rank = forest.frame["rank"].to_numpy().astype(np.int64)
    ahead = np.flatnonzero(forest.of_kind("operator") & ~backward & (sequence >= 0))
    found = np.full(len(engine), -1)
    asked = np.flatnonzero(engine & (sequence >= 0))
    if not len(ahead) or not len(asked):
        return found
    both = segments.numbered(
        np.concatenate([rank[ahead], rank[asked]]), np.concatenate([sequence[ahead], sequence[asked]])
    )
    mine, theirs = both[: len(ahead)], both[len(ahead) :]
    order = np.lexsort((ahead, forest.start[ahead], mine))
    place = intervals.position(mine[order], forest.start[ahead][order], theirs, forest.start[asked]) - 1
    row = order[np.maximum(place, 0)]
    good = (place >= 0) & (mine[row] == theirs)
    found[asked[good]] = ahead[row[good]]
    return found


def plain(name: str) -> str:
    """Return a module's name without the profiler's prefix.

    >>> plain("nn.Module: Linear_3")
    'Linear_3'
    """
    return name.removeprefix(PREFIX)


def kind_of(name: str) -> str:
    """Return the class of a module from its name with number.

    >>> kind_of("nn.Module: Linear_3")
    'Linear'
    """
    return re.sub(r"_\d+$", "", plain(name))
