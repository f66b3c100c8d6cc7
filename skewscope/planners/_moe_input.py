"""What the planner of experts reads: loads and the running placement, of engines' files and of plain arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import Unreadable, UsageError
from ..moe import drift, noise
from ..moe.loads import Loads, of_tables, placements_of
from ..moe.placement import Placement, lint, start_layout
from ._moe_made import START

Array = NDArray[Any]
Tables = Mapping[str, pd.DataFrame]

RECORD = "record them in the engine, or give an array [windows, layers, experts] as .npy"
TRACE = "give a routing trace, or an array [layers - 1, experts, experts] as .npy"
MAP = "give a plan of `plan moe --json`, a map of an engine, or an array [layers, slots] as .npy"


def read_loads(paths: Sequence[str], job: str = "", phase: str | None = None) -> tuple[Loads, Tables]:
    """Return the loads of files and folders, and all tables that were read with them.

    Raises Unreadable where they hold no loads, UsageError where they hold several jobs or phases and none is chosen.
    """
    from ..sources import gather

    recording = gather([Path(path) for path in paths], workers=1)
    found = of_tables(recording.tables, job, phase)
    if not found:
        asked = "".join(f" of {what} {name!r}" for what, name in (("job", job), ("phase", phase)) if name)
        raise Unreadable(f"{', '.join(paths)}: holds no loads of experts{asked}", RECORD)
    if len(found) > 1:
        names = "; ".join(f"job {one.job!r} phase {one.phase!r}" for one in found)
        raise UsageError(f"{', '.join(paths)}: holds several loads ({names}), whose heat differs: choose one with "
                         "--job and --phase; --workloads with the same path adds all others of its model")  # fmt: skip
    return found[0], recording.tables


def recent(loads: Loads) -> Loads:
    """Return the loads since the workload last became another one, all of them where it did not."""
    found = drift.changes(loads.counts, noise.design_effect(loads.counts)) if loads.ordered else []
    if not found:
        return loads
    place, step = found[-1].place, loads.steps[found[-1].place]
    said = (
        f"the workload became another one at step {step} ({found[-1].bits:.3f} bits): the {place} steps before it are "
        "left out (--all-steps keeps them)"
    )
    return replace(loads, counts=loads.counts[place:], steps=loads.steps[place:], warnings=(*loads.warnings, said))


def read_workloads(paths: Sequence[str], first: Loads) -> list[Loads]:
    """Return all further loads of files and folders, of the same model as `first` and not that itself.

    Raises UsageError where none fits, Unreadable where a path holds no loads.
    """
    from ..sources import gather

    found = []
    for path in paths:
        each = of_tables(gather([Path(path)], workers=1).tables)
        if not each:
            raise Unreadable(f"--workloads {path}: holds no loads of experts", RECORD)
        fitting = [one for one in each if one.counts.shape[1:] == first.counts.shape[1:]]
        if not fitting:
            (layers, experts), (wanted, of) = each[0].counts.shape[1:], first.counts.shape[1:]
            raise UsageError(f"--workloads {path}: {layers} layers of {experts} experts, but {wanted} of {of} in the "
                             "loads: they are of another model")  # fmt: skip
        found += [one for one in fitting if not _same(one, first)]
    if paths and not found:
        raise UsageError(f"--workloads {' '.join(paths)}: holds nothing but the loads that are planned for already")
    return found


def _same(one: Loads, other: Loads) -> bool:
    return (one.job, one.phase) == (other.job, other.phase) and np.array_equal(one.counts, other.counts)


def read_pairs(path: str, loads: Loads) -> NDArray[np.float64]:
    """Return tokens [L - 1, E, E] by expert of each layer and of the next: an array, or a routing trace.

    Raises UsageError where an array does not fit the loads, Unreadable where nothing joins neighbouring layers.
    """
    experts, layers = loads.counts.shape[2], len(loads.layers)
    wanted = (layers - 1, experts, experts)
    if Path(path).suffix.lower() == ".npy" and Path(path).is_file():
        found = np.load(path, allow_pickle=False)
        if found.ndim == 3 and found.shape[1] == found.shape[2]:
            if found.shape != wanted:
                raise UsageError(f"--affinity {path}: pairs {list(wanted)} fit the loads, not {list(found.shape)}")
            return np.asarray(found, np.float64)
    from ..sources import gather

    return _pairs(gather([Path(path)], workers=1).tables["expert_pairs"], loads.layers, wanted, path)


def _pairs(rows: pd.DataFrame, layers: Array, shape: tuple[int, int, int], path: str) -> NDArray[np.float64]:
    made, place = np.zeros(shape), {int(layer): at for at, layer in enumerate(layers)}
    first, second = (rows[name].map(place).fillna(-9).to_numpy(np.int64) for name in ("layer", "next_layer"))
    good = (first >= 0) & (second == first + 1)
    if not good.any():
        raise Unreadable(f"--affinity {path}: no pairs of experts of neighbouring layers", TRACE)
    one, other = (rows[name].to_numpy()[good] for name in ("expert", "next_expert"))
    if max(one.max(), other.max()) >= shape[1]:
        raise UsageError(
            f"--affinity {path}: names experts up to {max(one.max(), other.max())}, the loads have {shape[1]}"
        )
    np.add.at(made, (first[good], one, other), rows["routed_tokens"].to_numpy()[good])
    return made


def running(path: str | None, tables: Tables, loads: Loads, gpus: int, nodes: int, slots: int) -> tuple[Placement, str]:
    """Return the placement that runs now and how it is known: from `path`, the recording, else the start layout.

    Raises UsageError where the file's placement does not fit the loads, Unreadable where it is none.
    """
    experts = loads.counts.shape[2]
    if path:
        made = _fitted(*_read_map(Path(path)), loads, gpus, nodes, f"--current {path}")
        return made, f"read from {path}"
    rows = placements_of(tables, loads)
    if len(rows):
        try:
            return _fitted(*_last_map(rows), loads, gpus, nodes, "the recording"), "as recorded"
        except UsageError as error:
            return _start(experts, slots, gpus, nodes, loads), f"start layout assumed, since {error}"
    return _start(experts, slots, gpus, nodes, loads), START


def _start(experts: int, slots: int, gpus: int, nodes: int, loads: Loads) -> Placement:
    return start_layout(experts, slots, gpus, len(loads.layers), nodes)


def _fitted(layers: Array | None, slots: Array, loads: Loads, gpus: int, nodes: int, what: str) -> Placement:
    """Return the rows of a map for the layers of the loads."""
    if layers is not None and np.isin(loads.layers, layers).all():
        order = np.argsort(layers)
        slots = slots[order[np.searchsorted(layers, loads.layers, sorter=order)]]
    if len(slots) != len(loads.layers):
        raise UsageError(f"{what} places {len(slots)} layers, the loads have {len(loads.layers)}")
    made = Placement(slots.astype(np.int32), gpus, loads.counts.shape[2], nodes)
    wrong = [one for one in lint(made) if "wasted" not in one]
    if wrong:
        raise UsageError(f"{what} is no placement of {made.experts} experts on {gpus} GPUs: {'; '.join(wrong)}")
    return made


def _read_map(path: Path) -> tuple[Array | None, Array]:
    """Return (layers [L] or None, slots [L, P]) of a file."""
    if not path.is_file():
        raise UsageError(f"--current {path}: there is no such file")
    if path.suffix.lower() in (".npy", ".npz"):
        return _array_map(path)
    document = _json(path)
    if isinstance(document, Mapping) and str(document.get("schema", "")).startswith("skewscope.plan.moe/"):
        plan = document["plan"]
        return np.asarray(plan["layers"]), _whole(plan["phy2log"], path)
    from ..sources import gather

    rows = gather([path], workers=1).tables["expert_placements"]
    if not len(rows):
        raise Unreadable(f"--current {path}: holds no placement", MAP)
    return _last_map(rows)


def _array_map(path: Path) -> tuple[Array | None, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        held = {"phy2log": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError) as error:
        raise Unreadable(f"--current {path}: {error}"[:300], MAP) from None
    name = next((name for name in ("phy2log", "physical_to_logical_map") if name in held), "")
    if not name:
        raise Unreadable(f"--current {path}: holds {', '.join(held) or 'nothing'}, not phy2log", MAP)
    return held.get("layers"), _whole(held[name], path)


def _whole(value: object, path: Path) -> Array:
    try:
        slots = np.asarray(value)
    except ValueError as error:
        raise Unreadable(f"--current {path}: {error}", MAP) from None
    if slots.ndim != 2 or slots.dtype.kind not in "iu" or not slots.size:
        raise Unreadable(f"--current {path}: {slots.dtype} {slots.shape} is no map [layers, slots]", MAP)
    return slots


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return None


def _last_map(rows: pd.DataFrame) -> tuple[Array, Array]:
    """Return the layers and slots of the last map of table `expert_placements`; -1 where a slot is not told."""
    last = rows.groupby("layer", observed=True)["step"].transform("max")
    rows = rows[(rows["step"] == last).to_numpy()]
    layers, layer = np.unique(rows["layer"].to_numpy(), return_inverse=True)
    made = np.full((len(layers), int(rows["slot"].max()) + 1), -1, np.int64)
    made[layer, rows["slot"].to_numpy()] = rows["expert"].to_numpy()
    return layers, made
