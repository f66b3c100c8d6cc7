"""Small readers of CSV: which column is which, and whole numbers out of text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from csv import Error as CsvError
from csv import reader as rows
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from ..contracts import Coded
from ..errors import Unreadable
from ._lines import ended

Array = np.ndarray[Any, Any]
BLOCK_BYTES = 1 << 20  # read at a time, as pyarrow does by itself; a small file takes no such room


def header(head: bytes) -> list[str]:
    """Return the column names in the first line of a text, in small letters.

    >>> header(b'Layer_ID, "expert"' + bytes([10]) + b'1,2')
    ['layer_id', 'expert']
    """
    first = head.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip()
    return [part.strip().strip('"').strip().lower() for part in first.split(",")]


def meaning(names: Sequence[str], known: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return which place each meaning has among column names; `known` lists the names of each, best first.

    >>> meaning(["layer_id", "count"], {"layer": ("layer", "layer_id"), "step": ("step",)})
    {'layer': 0}
    """
    found = {}
    for what, spellings in known.items():
        place = next((names.index(name) for name in spellings if name in names), -1)
        if place >= 0:
            found[what] = place
    return found


def table(content: bytes, texts: Collection[str] = ()) -> tuple[pa.Table, str]:
    """Return the whole lines of a CSV, and what is wrong with it; raises Unreadable.

    A last line without its end is left out, as of a file that was still being written. Columns called as one of
    `texts`, in small letters, stay text: else a model called 007 would be a number, and one called NA nothing.
    """
    content, damage = ended(_utf8(content), "")
    kinds = {head: pa.string() for head in heads(content) if head.strip().strip('"').lower() in texts}
    torn: list[str] = []

    def skip(row: Any) -> str:  # noqa: ANN401 - of pyarrow
        torn.append(f"line of {row.actual_columns} instead of {row.expected_columns} fields")
        return "skip"

    try:
        found = csv.read_csv(
            pa.BufferReader(content),
            csv.ReadOptions(use_threads=False, block_size=min(BLOCK_BYTES, len(content) + 1)),
            csv.ParseOptions(invalid_row_handler=skip), csv.ConvertOptions(column_types=kinds),
        )  # fmt: skip
    except (pa.ArrowException, ValueError) as error:
        raise Unreadable(f"damaged CSV: {error}"[:300], "copy the file again") from None
    return found, f"{len(torn)} damaged lines are left out: {torn[0]}" if torn else damage


def heads(content: bytes) -> list[str]:
    """Return the names of the columns as they stand in the first line, none where it is no row.

    >>> heads(b'Model," a, b"' + bytes([13, 10]))
    ['Model', ' a, b']
    """
    try:
        return next(rows([content.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")]), [])
    except CsvError:
        return []


def _utf8(content: bytes) -> bytes:
    """Return a text with whatever is no UTF-8 in it replaced: the reader of CSV cannot speak of such a line."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace").encode()
    return content


def numbers(column: pa.ChunkedArray, what: str) -> tuple[Array, Array]:
    """Return whole numbers and which of them are sound; raises Unreadable for a column of text.

    >>> numbers(pa.chunked_array([["3", "x", "4.5"]]), "layer")
    (array([3, 0, 0]), array([ True, False, False]))
    """
    try:
        given = column.combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError):
        given = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(given).any():
        raise Unreadable(f"column {what} holds no numbers")
    sound = np.isfinite(given) & (given >= 0) & (given < 2.0**53) & (given == np.floor(given))
    return np.where(sound, given, 0).astype(np.int64), sound


def text(column: pa.ChunkedArray) -> Coded:
    """Return a column as text, "" for what is empty.

    >>> text(pa.chunked_array([["b", None, "b"]]))
    Coded(codes=array([0, 1, 0]), values=['b', ''])
    """
    given = column.combine_chunks().cast(pa.string()).fill_null("").dictionary_encode()
    return Coded(given.indices.to_numpy(zero_copy_only=False).astype(np.int64), given.dictionary.to_pylist())


def joined(columns: Sequence[Coded], otherwise: str, rows: int) -> Coded:
    """Return texts side by side with "/" between those that are not empty; without columns `otherwise` everywhere.

    >>> one, two = Coded(np.array([0, 0]), ["m"]), Coded(np.array([0, 1]), ["", "arxiv"])
    >>> joined([one, two], "x", 2)
    Coded(codes=array([0, 1]), values=['m', 'm/arxiv'])
    """
    codes = np.zeros(rows, dtype=np.int64)
    for column in columns:
        codes = codes * len(column.values) + column.codes
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    parts = ([column.values[column.codes[at]] for column in columns] for at in first.tolist())
    return Coded(place, ["/".join(part for part in row if part) or otherwise for row in parts])
