"""What planners of layers, links and ranks share: tables and lists of numbers, with errors that name the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import Unreadable, UsageError

Array = np.ndarray[Any, Any]


def read(path: Path) -> pd.DataFrame:
    """Return a table from CSV or Parquet; raises Unreadable, saying what to do."""
    try:
        rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, skipinitialspace=True)
    except FileNotFoundError:
        raise Unreadable(f"{path}: no such file") from None
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {error}", "wants a CSV or Parquet table with a head line") from error
    if not len(rows):
        raise Unreadable(f"{path}: no rows", "wants one row per thing under a head line")
    return rows


def column(rows: pd.DataFrame, name: str, path: Path) -> Array:
    """Return a column as numbers of 0 or more, [rows]; raises UsageError naming the column and the row."""
    values = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise UsageError(
            f"{path}: column {name}, row {row + 1}: wants a number of 0 or more, not {rows[name].iloc[row]}"
        )
    return np.asarray(values)


def matrix(path: Path) -> Array:
    """Return a square matrix of numbers from NPY or CSV without a head, [n, n]; raises Unreadable."""
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(path, delimiter=",", ndmin=2)
    except FileNotFoundError:
        raise Unreadable(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise Unreadable(f"{path}: {error}", "wants rows of numbers separated by commas, or a .npy matrix") from error
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.issubdtype(values.dtype, np.number):
        raise Unreadable(f"{path}: shape {values.shape}", "wants a square matrix, row and column per GPU or node")
    return np.asarray(values, dtype=np.float64)


def numbers(text: str, count: int, flag: str) -> Array:
    """Return one positive number for all, or one each separated by commas, [count]; raises UsageError with the flag.

    >>> numbers("1,0.5", 2, "--speeds").tolist(), numbers("2", 2, "--speeds").tolist()
    ([1.0, 0.5], [2.0, 2.0])
    """
    try:
        values = np.array([float(word) for word in text.split(",")])
    except ValueError:
        raise UsageError(f"{flag} {text}: wants numbers separated by commas") from None
    if len(values) not in (1, count) or not ((values > 0) & np.isfinite(values)).all():
        raise UsageError(f"{flag} {text}: wants positive numbers, one for all or one for each of {count}")
    return np.broadcast_to(values, (count,))


def wholes(text: str, flag: str) -> Array:
    """Return whole numbers separated by commas; raises UsageError with the flag.

    >>> wholes("8,9", "--split").tolist()
    [8, 9]
    """
    try:
        return np.array([int(word) for word in text.split(",")], dtype=np.int64)
    except ValueError:
        raise UsageError(f"{flag} {text}: wants whole numbers separated by commas") from None


def positive(text: str) -> float:
    """Return a number above 0; raises ValueError otherwise (argparse tells it)."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("wants a number above 0")
    return value
