"""Expert loads as one array: routed tokens per step, MoE layer and logical expert, summed over ranks and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UsageError
from . import _load_rows, checks

Array = np.ndarray[Any, Any]
Counts = NDArray[np.int64]

MOST_COUNTS = 1 << 28  # T x L x E of one job: 2 GiB
RING = "the steps are places of a ring buffer: they have no order in time, so drift cannot be told from them"


@dataclass(frozen=True, eq=False)
class Loads:
    """Routed tokens of one job and phase.

    `counts` [T, L, E] are tokens summed over ranks and replicas, dense layers left out; `steps` [T] are step numbers,
    `layers` [L] the model's layers. `ordered` is False where the steps are places of a ring buffer, `top_k` 0 where it
    is unknown; `warnings` say what is wrong with the record. `source` is the format of the recording that was taken: of
    several maps of slots the one of the same source belongs to it.
    """

    counts: Counts
    steps: Counts
    layers: Counts
    phase: str = ""
    ordered: bool = True
    top_k: int = 0
    warnings: tuple[str, ...] = ()
    job: str = ""
    source: str = ""

    def window(self, first: int, last: int) -> Counts:
        """Return [L, E], the sum over the places first..last-1 of the axis of steps.

        >>> of_array([[[1, 2]], [[3, 4]], [[5, 6]]]).window(1, 3).tolist()
        [[8, 10]]
        """
        summed: Counts = self.counts[first:last].sum(axis=0)
        return summed

    def total(self) -> Counts:
        """Return [L, E], the sum over all steps."""
        return self.window(0, len(self.steps))


def of_array(
    array: Any,  # noqa: ANN401 - whatever numpy takes
    *,
    steps: Sequence[int] | Array | None = None,
    layers: Sequence[int] | Array | None = None,
    phase: str = "",
    ordered: bool = True,
    top_k: int = 0,
    job: str = "",
    source: str = "",
    warnings: Sequence[str] = (),
) -> Loads:
    """Return the loads of an array of counts [L, E] or [T, L, E]; steps and layers are counted from 0 by default.

    Layers without a token in any step are dense and left out; so are empty places of a ring buffer. Raises UsageError
    for what are no counts: other shapes, negative numbers, shares.

    >>> loads = of_array([[4, 0, 2], [0, 0, 0], [3, 2, 1]])
    >>> loads.counts.shape, loads.layers.tolist()
    ((1, 2, 3), [0, 2])
    """
    counts = _counts(array)
    when = np.arange(counts.shape[0]) if steps is None else np.asarray(steps, dtype=np.int64)
    which = np.arange(counts.shape[1]) if layers is None else np.asarray(layers, dtype=np.int64)
    if when.shape != counts.shape[:1] or which.shape != counts.shape[1:2]:
        raise UsageError(f"{len(when)} steps and {len(which)} layers are named for counts of shape {counts.shape}")
    told = list(warnings)
    sparse: Array = np.asarray(counts.any(axis=(0, 2)))
    if sparse.any() and not sparse.all():
        told.append(f"{int((~sparse).sum())} of {len(sparse)} layers have no tokens: dense layers, left out")
        counts, which = counts[:, sparse], which[sparse]
    if not ordered:
        filled = counts.any(axis=(1, 2))
        counts, when = counts[filled], when[filled]
        told.append(RING)
    told += checks.check(counts, which, top_k)
    return Loads(counts, when, which, phase, ordered, top_k, tuple(told), job, source)


def of_tables(tables: Mapping[str, pd.DataFrame], job: str = "", phase: str | None = None) -> list[Loads]:
    """Return one Loads per job and phase of table `expert_loads`, sorted; `job` "" and `phase` None take all.

    Ranks are summed; ranks with identical counts hold the same tokens and count once, and steps that some ranks lack
    are left out. Of several recordings of one job the finest is taken. An empty list where there are no loads; raises
    UsageError for numbers beyond all sense.
    """
    rows = tables.get("expert_loads")
    if rows is None or not len(rows):
        return []
    found = []
    for name, part in _load_rows.split(rows, "job"):
        if job in ("", name):
            found += [loads for loads in _of_job(part, name) if phase in (None, loads.phase)]
    return found


def placements_of(tables: Mapping[str, pd.DataFrame], loads: Loads) -> pd.DataFrame:
    """Return the rows of table `expert_placements` that belong to loads: of one recording, all its steps.

    The map of the loads' own recording counts first, then one that names the ranks of its slots; a map of the nameless
    job ("job", as of an engine's map file) serves every job that has none of its own.
    """
    rows = tables.get("expert_placements", pd.DataFrame())
    if not len(rows):
        return rows
    jobs = dict(_load_rows.split(rows, "job"))
    mine = jobs.get(loads.job, jobs.get("job", rows.iloc[:0]))
    parts = _load_rows.split(mine, "source") if len(mine) else []
    fits = [((part["rank"] >= 0).all(), source == loads.source, len(part), source, part) for source, part in parts]
    return max(fits, key=lambda fit: (fit[1] and fit[0], fit[0], *fit[1:4]))[4] if fits else mine


def _of_job(rows: pd.DataFrame, job: str) -> list[Loads]:
    """Return the phases of one job; one without a token, as of idle passes, only where there is no other."""
    rows, source, told = _load_rows.one_source(rows)
    rows, more = _load_rows.held_by_all(rows)
    experts = _load_rows.experts(rows, job, MOST_COUNTS)
    made = []
    for phase, part in _load_rows.split(rows, "phase"):
        ring = "unordered" in part and bool(part["unordered"].any())
        top_k = max(int(part["top_k"].max()), 0) if "top_k" in part else 0
        counts, steps, layers, twins = _load_rows.summed(part, experts)
        made.append(of_array(
            counts, steps=steps, layers=layers, phase=phase, ordered=not ring, top_k=top_k, job=job, source=source,
            warnings=[*told, *more, *twins],
        ))  # fmt: skip
    return [loads for loads in made if loads.counts.any()] or made[:1]


def _counts(array: Any) -> Counts:  # noqa: ANN401 - whatever numpy takes
    try:
        given = np.asarray(array)
    except ValueError as error:
        raise UsageError(f"expert counts want an array [L, E] or [T, L, E]: {error}") from None
    if given.ndim == 2:
        given = given[None]
    if given.ndim != 3 or given.dtype.kind not in "iufb" or not given.size:
        raise UsageError(f"expert counts want numbers [L, E] or [T, L, E], not {given.dtype} {given.shape}")
    if given.dtype.kind == "f":
        _are_counts(given)
        given = np.rint(given)
    counts: Counts = given.astype(np.int64, copy=False)
    if counts.min() < 0:
        raise UsageError(f"expert counts hold {int((counts < 0).sum())} negative numbers: give routed tokens")
    return counts


def _are_counts(given: Array) -> None:
    if not np.isfinite(given).all():
        raise UsageError("expert counts hold numbers that are not finite")
    if 0 < given.max() <= 1 and (given % 1).any():
        raise UsageError("these are shares of tokens (none above 1), not counts: multiply them by the tokens routed")
    if given.max() >= 2.0**53:
        raise UsageError(f"expert counts of {given.max():.3g} tokens cannot be meant")
