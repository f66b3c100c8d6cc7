"""Tables too large to be held: they stay in their Parquet files, and a page reads the columns and steps it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skewscope import tables as schema
from skewscope.errors import SchemaError, SkewscopeError, Unreadable
from skewscope.frames import check, empty
from skewscope.tables import Column

Array = np.ndarray[Any, Any]
Span = tuple[int, int]
LARGE_ROWS, BATCH_ROWS, BUFFER_BYTES = 500_000, 131_072, 262_144
INT32 = 2**31 - 1
NARROW = {"i16": "int16", "i32": "int32", "f64": "float32", "bool": "bool"}
KEPT_WHOLE = frozenset({"windows"})  # signals ask for it by metric, again and again
ADVICE = "write it again with `skewscope analyze PATH --out DIR`"


class Large:
    """One table in a Parquet file. What is read of it is narrower than the table: float32, int32 where it fits."""

    def __init__(self, name: str, path: Path) -> None:
        """Look at the file's outline; raises Unreadable where it is no such table."""
        self.name, self.path = name, path
        self._columns = schema.table(name).by_name
        self._names: dict[str, tuple[str, ...]] = {}
        with _told(path), pq.ParquetFile(path) as file:
            self.count = int(file.metadata.num_rows)
            self._there = frozenset(file.schema_arrow.names)
            self._largest = {name: _largest(file.metadata, name) for name in self._there}
            check(name, file.schema_arrow.empty_table().to_pandas())
            for column in self._columns.values():
                if column.name in self._there and not _fits(column, file.schema_arrow.field(column.name).type):
                    raise SchemaError(f"table {name}: column {column.name!r} is not {column.type}")

    def parts(self, columns: Sequence[str], step: Span | None = None, every: int = 1) -> Iterator[pd.DataFrame]:
        """Yield the rows a piece at a time, in the file's order; codes of equal names are equal in all pieces.

        With `step` only rows of these steps (both ends too) are read, with `every` one step of that many. Raises
        Unreadable where the file has gone or changed.
        """
        codes = self._codes(columns)
        for piece in self._pieces(columns, step, every, codes):
            yield pd.DataFrame({name: _named(piece[name], codes[name]) for name in columns}, copy=False)

    def rows(self, columns: Sequence[str], step: Span | None = None, every: int = 1) -> pd.DataFrame:
        """Return the rows of `parts` as one frame; raises Unreadable."""
        codes = self._codes(columns)
        pieces: list[dict[str, Array]] = []
        made: dict[str, Array] = {}
        count = 0
        for piece in self._pieces(columns, step, every, codes):
            size = len(piece[columns[0]])
            if step or every > 1:
                pieces.append(piece)
                continue
            for name in columns:
                made.setdefault(name, np.empty(self.count, dtype=piece[name].dtype))[count : count + size] = piece[name]
            count += size
        for name in columns if pieces else ():
            made[name] = np.concatenate([piece.pop(name) for piece in pieces])
        if not made:
            return empty(self.name)[list(columns)]
        return pd.DataFrame({name: _named(made[name], codes[name]) for name in columns}, copy=False)

    def _codes(self, columns: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the codes to start with: of a single job they are known, and its column need not be read."""
        single = self.names("job") if "job" in columns else ()
        return {name: {single[0]: 0} if name == "job" and len(single) == 1 else {} for name in columns}

    def _pieces(
        self, columns: Sequence[str], step: Span | None, every: int, codes: dict[str, dict[str, int]]
    ) -> Iterator[dict[str, Array]]:
        asked = list(dict.fromkeys([*columns, *(["step"] if step or every > 1 else [])]))
        there = [name for name in asked if name in self._there]
        # all row groups at once would be read ahead otherwise
        with _told(self.path), pq.ParquetFile(self.path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            outline = file.metadata
            groups = [at for at in range(outline.num_row_groups) if _meets(outline.row_group(at), step)]
            try:
                for batch in file.iter_batches(BATCH_ROWS, groups, there, use_threads=False):
                    made = {name: self._values(name, batch, codes.get(name, {})) for name in asked}
                    kept = _within(made["step"], step, every) if step or every > 1 else slice(None)
                    yield {name: values[kept] for name, values in made.items()}
            finally:  # also where nobody asks for the rest
                pa.default_memory_pool().release_unused()

    def names(self, column: str) -> tuple[str, ...]:
        """Return the distinct texts of a column, sorted; read once."""
        if column not in self._names:
            codes: dict[str, dict[str, int]] = {column: {}}
            for _ in self._pieces((column,), None, 1, codes):
                pass
            self._names[column] = tuple(sorted(codes[column]))
        return self._names[column]

    def largest(self, column: str) -> float:
        """Return the largest magnitude in a column as the file's outline tells it; NaN where it does not."""
        return self._largest.get(column, 0.0)

    def whole(self) -> pd.DataFrame:
        """Return all of it in memory, for what cannot do with less; raises Unreadable."""
        with _told(self.path):
            return check(self.name, pd.read_parquet(self.path))

    def _values(self, name: str, batch: pa.RecordBatch, codes: dict[str, int]) -> Array:
        """Return a column of a batch as numbers; of texts the codes, which `codes` keeps."""
        declared = self._columns[name]
        if name == "job" and len(self._names.get("job", ())) == 1:
            return np.zeros(len(batch), dtype=np.int8)
        if declared.type == "str":
            texts = batch.column(name) if name in self._there else pa.array([""] * len(batch))
            return _coded(texts, codes)
        if name not in self._there:
            return np.full(len(batch), declared.unknown, dtype=self._dtype(declared))
        values = batch.column(name)
        known = values.fill_null(declared.unknown) if values.null_count else values
        made: Array = known.to_numpy(zero_copy_only=False).astype(self._dtype(declared))
        return made

    def _dtype(self, declared: Column) -> str:
        if declared.type == "i64":
            return "int32" if self._largest.get(declared.name, 0.0) <= INT32 else "int64"  # NaN is neither
        return NARROW[declared.type]


class Tables(Mapping[str, pd.DataFrame]):
    """The tables of a folder: small ones in memory; large ones are in `large` and read whole only where asked to."""

    def __init__(self, folder: Path, most_rows: int = LARGE_ROWS) -> None:
        """Read what is small; raises Unreadable."""
        self.large: dict[str, Large] = {}
        self._held = {name: empty(name) for name in schema.names()}
        for name in schema.names():
            path = folder / f"{name}.parquet"
            if path.is_file():
                one = Large(name, path)
                if one.count > most_rows and name not in KEPT_WHOLE:
                    self.large[name] = one
                else:
                    self._held[name] = one.whole()

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table, whole."""
        return self.large[name].whole() if name in self.large else self._held[name]

    def __iter__(self) -> Iterator[str]:
        """Yield all names."""
        return iter(self._held)

    def __len__(self) -> int:
        """Return how many tables there are."""
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a table, without reading it."""
        return name in self._held


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException, SkewscopeError) as error:
        raise Unreadable(f"{path}: {error}", ADVICE) from None


def _largest(outline: pq.FileMetaData, name: str) -> float:
    """Return the largest magnitude that the row groups tell of a column of numbers, NaN where one does not tell."""
    place = outline.schema.names.index(name) if name in outline.schema.names else -1
    most = 0.0
    for at in range(outline.num_row_groups if place >= 0 else 0):
        told = outline.row_group(at).column(place).statistics
        if told is None or not told.has_min_max or isinstance(told.max, str | bytes):
            return float("nan")
        most = max(most, abs(float(told.min)), abs(float(told.max)))
    return most if place >= 0 else float("nan")


def _meets(group: pq.RowGroupMetaData, step: Span | None) -> bool:
    """Return whether a row group may hold steps of a span."""
    if step is None:
        return True
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema == "step":
            told = column.statistics
            return told is None or not told.has_min_max or bool(told.min <= step[1] and told.max >= step[0])
    return True


def _within(steps: Array, step: Span | None, every: int) -> Array:
    """Return which rows are of the steps asked for.

    >>> _within(np.array([3, 4, 5, 6]), (4, 6), 2).tolist()
    [False, True, False, True]
    """
    kept = np.ones(len(steps), dtype=bool) if step is None else (steps >= step[0]) & (steps <= step[1])
    return kept if every <= 1 else kept & (steps % every == 0)


def _fits(declared: Column, given: pa.DataType) -> bool:
    if declared.type == "str":
        return bool(pa.types.is_dictionary(given) or pa.types.is_string(given) or pa.types.is_large_string(given))
    return bool(pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_boolean(given))


def _coded(texts: pa.Array, codes: dict[str, int]) -> Array:
    """Return texts as int32 codes of all names met so far, which `codes` keeps."""
    packed = texts if isinstance(texts, pa.DictionaryArray) else texts.dictionary_encode()
    place = [codes.setdefault("" if one is None else str(one), len(codes)) for one in packed.dictionary.to_pylist()]
    if packed.null_count:
        place.append(codes.setdefault("", len(codes)))
    given = packed.indices.fill_null(len(place) - 1) if packed.null_count else packed.indices
    made: Array = np.array(place, dtype=np.int32)[given.to_numpy(zero_copy_only=False)]
    return made


def _named(values: Array, codes: dict[str, int]) -> Any:  # noqa: ANN401 - an array or codes
    """Return an array as it is, codes with their names."""
    if not codes:
        return values
    return pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(pd.Index(list(codes), dtype=object)))
