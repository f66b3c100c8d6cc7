"""Delay profiles in files: NPY and NPZ arrays, CSV and Parquet as a matrix or as rows of round, worker and seconds."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Unreadable, UsageError
from .delays import Profile, of_array, of_long

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
ROUND, WORKER, LOAD = ("round", "step", "iteration", "job"), ("worker", "rank"), ("load",)
TIMES = {"seconds": 1.0, "delay_s": 1.0, "duration_s": 1.0, "time_s": 1.0, "delay": 1.0, "delay_ms": 1e-3,
         "duration_ms": 1e-3, "time_ms": 1e-3, "duration_ns": 1e-9, "time_ns": 1e-9}  # fmt: skip
FORM = "wanted are seconds, a line per round and a column per worker, or the columns round, worker, seconds (and load)"
NUMBERED = re.compile(r"[a-z_.: -]*\d+")
PARQUET, NPY, ZIP = b"PAR1", b"\x93NUMPY", b"PK\x03\x04"


def is_profile(path: Path) -> bool:
    """Return whether a file's content looks like a delay profile (and not like a recording in another format)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(65536)
    if head[:6] == NPY or head[:4] == ZIP:
        return True
    if head[:4] == PARQUET:
        import pyarrow.parquet as pq

        return _known(pq.read_schema(path).names)
    try:
        first = next(csv.reader([head.decode().splitlines()[0]]))
    except (UnicodeDecodeError, IndexError, csv.Error):
        return False
    return _known(first)


def _known(names: list[str]) -> bool:
    """Return whether columns are those of a long table, or of a matrix: numbers, or names with a number in them."""
    plain = [name.strip().lower() for name in names]
    if _first(plain, WORKER) and _first(plain, tuple(TIMES)) and _first(plain, ROUND):
        return True
    rest = [name for name in plain if name not in (*ROUND, "")]
    return len(rest) > 0 and all(_number(name) or NUMBERED.fullmatch(name) for name in rest)


def read(path: Path, load: float | None = None) -> list[Profile]:
    """Return the profiles of a file, one per load; `load` says at which load a file without that column was measured.

    Raises UsageError for values or shapes that are no delays, Unreadable for a file that is damaged or another format.
    """
    if not path.is_file():
        raise UsageError(f"{path} is no file")
    try:
        with path.open("rb") as file:
            head = file.read(6)
        if head == NPY or head[:4] == ZIP:
            return [of_array(_array(path), load, str(path))]
        columns = _parquet(path) if head[:4] == PARQUET else _csv(path)
        return _profiles(columns, load, str(path))
    except (OSError, ValueError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"{path} cannot be read: {error}", FORM) from None


def _array(path: Path) -> Array:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        if len(found.files) != 1:
            raise ValueError(f"it holds the arrays {', '.join(found.files)}; one was wanted")
        return np.asarray(found[found.files[0]])


def _parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    return {str(name): table.column(name).to_numpy() for name in table.column_names}


def _csv(path: Path) -> Columns:
    """Return the columns of a CSV; without a line of names they are called 0, 1, 2 and so on."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    if not rows:
        raise ValueError("it is empty")
    names = [str(place) for place in range(len(rows[0]))]
    if not all(_number(cell) for cell in rows[0]):
        names = [cell.strip() for cell in rows.pop(0)]
        if any(_number(name) and float(name) % 1 for name in names):
            raise ValueError("its first line is neither names nor times alone")
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values and not {len(names)}, so it is no matrix")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: _column(column) for name, column in zip(names, columns, strict=True)}


def _column(cells: Sequence[str]) -> Array:
    """Return a column as numbers, empty cells as NaN, or as text where it holds a name."""
    if all(_number(cell) or not cell.strip() for cell in cells):
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    return np.array(cells)


def _names(column: Array) -> Array:
    """Return whole numbers as such, so that a worker is called 3 and not 3.0."""
    whole = column.dtype.kind == "f" and bool(np.all(column == np.floor(column)))
    return column.astype(np.int64) if whole else column


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first(names: list[str], wanted: tuple[str, ...]) -> str:
    return next((name for name in wanted if name in names), "")


def _profiles(columns: Columns, load: float | None, name: str) -> list[Profile]:
    plain = {key.lower(): values for key, values in columns.items()}
    round_, worker, time = (_first(list(plain), wanted) for wanted in (ROUND, WORKER, tuple(TIMES)))
    if worker and time and round_:
        seconds = np.asarray(plain[time], dtype=float) * TIMES[time]
        if not _first(list(plain), LOAD):
            return [of_long(_names(plain[round_]), _names(plain[worker]), seconds, load, name)]
        loads = np.asarray(plain["load"], dtype=float)
        return [
            of_long(_names(plain[round_][part]), _names(plain[worker][part]), seconds[part], float(one),
                    f"{name}, load {one:g}")
            for one in np.unique(loads) for part in [loads == one]
        ]  # fmt: skip
    kept = [values for key, values in plain.items() if key not in (*ROUND, "")]
    if not kept:
        raise Unreadable(f"{name} has no column of delays", FORM)
    return [of_array(np.stack(kept, axis=1), load, name)]
