"""Sequence lengths for planners: from a table of tokens, or the tokens that a recording holds per rank and step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Unreadable, UsageError
from ..optimize.sequence_deal import Deal
from ..optimize.speeds import Rounds
from . import _rounds

Array = np.ndarray[Any, Any]

NAMES = ("tokens", "length", "lengths", "seq_len", "num_tokens", "work_tokens", "n_tokens")
TABLES = (".npy", ".npz", ".csv", ".txt", ".json", ".parquet")
FORM = "give one length in tokens per sequence: a column called tokens or length, or one number a line"


@dataclass(frozen=True)
class Lengths:
    """`tokens` [n] of every sequence in the order of training; of recordings also how they were dealt and timed."""

    tokens: Array
    recorded: Deal | None = None
    rounds: Rounds | None = None
    warnings: tuple[str, ...] = field(default_factory=tuple)


def read(paths: list[str], column: str | None = None) -> Lengths:
    """Return the lengths of one table, or of a job's recordings.

    Raises UsageError for a path that does not exist or lengths that cannot be, Unreadable for a damaged table.
    """
    first = Path(paths[0])
    if not first.exists():
        raise UsageError(f"{first}: there is no such file")
    found = _table(first, column) if len(paths) == 1 and first.suffix.lower() in TABLES else None
    if found is None:
        return _recorded([Path(path) for path in paths])
    return Lengths(checked(found, str(first)))


def checked(values: Array, name: str) -> Array:
    """Return lengths as integers; raises UsageError naming the place of one that is none."""
    flat = np.asarray(values, dtype=float).ravel()
    bad = ~(np.isfinite(flat) & (flat >= 1) & (flat == np.floor(flat)))
    if bad.any():
        place = int(np.argmax(bad))
        raise UsageError(f"{name}: sequence {place} has {flat[place]:g} tokens; wanted are whole numbers from 1 on")
    if not len(flat):
        raise UsageError(f"{name}: holds no sequences; {FORM}")
    return flat.astype(np.int64)


def _table(path: Path, column: str | None) -> Array | None:
    """Return the lengths of a table, None where the file is something else (a recording)."""
    try:
        if path.suffix == ".json":
            loaded = json.loads(path.read_text("utf-8"))
            return np.array(loaded, dtype=float) if isinstance(loaded, list) else None
        columns = {".npy": _arrays, ".npz": _arrays, ".parquet": _parquet}.get(path.suffix.lower(), _csv)(path)
        return _picked(columns, column, path)
    except (OSError, ValueError, KeyError) as error:
        raise Unreadable(f"{path}: cannot be read as lengths: {error}"[:300], FORM) from None


def _picked(columns: dict[str, Array], column: str | None, path: Path) -> Array | None:
    if column is not None:
        if column not in columns:
            raise UsageError(f"{path}: has no column {column!r}; it has {', '.join(columns)}")
        return columns[column]
    if len(columns) == 1:
        return next(iter(columns.values()))
    named = next((name for name in NAMES if name in columns), None)
    if {"rank", "step"} <= set(columns):
        return None  # a canonical table: whose tokens those are is told by rank and step
    if named is None:
        raise UsageError(f"{path}: which of the columns {', '.join(columns)} holds the tokens? Say it with --column")
    return columns[named]


def _arrays(path: Path) -> dict[str, Array]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"": loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _parquet(path: Path) -> dict[str, Array]:
    import pandas as pd

    table = pd.read_parquet(path)
    return {str(name): table[name].to_numpy() for name in table}


def _csv(path: Path) -> dict[str, Array]:
    import pandas as pd

    with path.open(encoding="utf-8-sig") as file:
        head = file.readline().strip().split(",")
    named = not all(word.strip().replace(".", "", 1).isdigit() for word in head)
    table = pd.read_csv(path, header=0 if named else None)
    return {str(name).strip(): table[name].to_numpy() for name in table}


def _recorded(paths: list[Path]) -> Lengths:
    """Return what every rank got in every step as one sequence each: which documents it was made of is not recorded."""
    rounds = _rounds.recorded(paths)
    if not np.isfinite(rounds.load).all():
        raise UsageError("the recording holds no tokens of every rank and step; give a table of lengths instead")
    steps, ranks = rounds.load.shape
    deal = Deal(np.repeat(np.arange(steps), ranks), np.tile(np.arange(ranks), steps))
    return Lengths(checked(rounds.load, "the recording"), deal, rounds, rounds.warnings)
