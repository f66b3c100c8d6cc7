"""An SQLite database that somebody else wrote, perhaps compressed, perhaps damaged: read only, nothing in it is run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np

from ..errors import Unreadable
from ._bytes import COPY_AGAIN, Stream
from ._kineto_columns import Array

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
ROWS = 1 << 16  # fetched at a time
COPIED_BYTES = 1 << 22
LONGEST_BYTES = 1 << 26  # of one value; a damaged length asks for more
ASKED = 500  # values in one question: SQLite allows 999
# A writable schema lets SQLite open a file that is shorter than it says; nothing can be written all the same.
SETTINGS = ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "writable_schema=ON")


class Database:
    """Tables of one file (no views, no virtual ones); `damage` says what could not be read, "" for nothing."""

    def __init__(self, connection: sqlite3.Connection, damage: str) -> None:
        self._connection = connection
        self.damage = damage
        self.columns: dict[str, tuple[str, ...]] = {}
        try:
            plain = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            for (name,) in connection.execute(plain).fetchall():
                told = connection.execute(f"PRAGMA table_info({_quoted(str(name))})").fetchall()
                self.columns[str(name)] = tuple(str(row[1]) for row in told)
        except (sqlite3.Error, MemoryError) as error:
            if not self.columns:
                raise Unreadable(
                    f"the SQLite database cannot be read ({damage or error or 'out of memory'})", COPY_AGAIN
                ) from None
            self._note(error)

    def has(self, table: str, *columns: str) -> bool:
        """Return whether there is such a table with all these columns."""
        return table in self.columns and set(columns) <= set(self.columns[table])

    def integers(self, table: str, columns: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Yield arrays of int64 a piece of the table at a time; what is NULL, or a column that is missing, is -1."""
        known = self.columns.get(table, ())
        parts = [f"IFNULL(CAST({_quoted(name)} AS INTEGER), -1)" if name in known else "-1" for name in columns]
        for rows in self._pieces(f"SELECT {', '.join(parts)} FROM {_quoted(table)}") if known else ():
            flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * len(columns))
            yield dict(zip(columns, flat.reshape(len(rows), len(columns)).T, strict=True))

    def pieces(self, table: str, columns: Sequence[str], where: str = "") -> Iterator[list[tuple[Any, ...]]]:
        """Yield rows a piece of the table at a time; a column that is missing is None. `where` is ours alone."""
        known = self.columns.get(table, ())
        parts = [_quoted(name) if name in known else "NULL" for name in columns]
        if known:
            yield from self._pieces(f"SELECT {', '.join(parts)} FROM {_quoted(table)} {where}")

    def rows(self, table: str, columns: Sequence[str], where: str = "") -> list[tuple[Any, ...]]:
        """Return all rows of a small table, as `pieces` gives them."""
        return list(chain.from_iterable(self.pieces(table, columns, where)))

    def texts(self, table: str, key: str, value: str, wanted: Array) -> dict[int, str]:
        """Return the text of each wanted key that the table holds; `key` is an integer column."""
        found: dict[int, str] = {}
        if not self.has(table, key, value):
            return found
        keys = np.unique(wanted[wanted >= 0]).tolist()
        for at in range(0, len(keys), ASKED):
            some = ",".join(map(str, keys[at : at + ASKED]))
            question = f"SELECT {_quoted(key)}, {_quoted(value)} FROM {_quoted(table)} WHERE {_quoted(key)} IN ({some})"
            for rows in self._pieces(question):
                found.update((int(one), str(text)) for one, text in rows if isinstance(one, int) and text is not None)
        return found

    def count(self, table: str) -> int:
        """Return the number of rows, 0 for a table that is missing or damaged."""
        if table not in self.columns:
            return 0
        return int(next(chain.from_iterable(self._pieces(f"SELECT COUNT(*) FROM {_quoted(table)}")), (0,))[0])

    def _pieces(self, question: str) -> Iterator[list[tuple[Any, ...]]]:
        try:
            cursor = self._connection.execute(question)
            while rows := cursor.fetchmany(ROWS):
                yield rows
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        self.damage = self.damage or f"the SQLite database is damaged ({error or 'out of memory'})"


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Open a database read-only; a compressed one is unpacked beside the other temporary files first.

    Raises Unreadable where it is none or nothing of it can be read.
    """
    with Stream(path) as stream, ExitStack() as ends:
        begin = stream.read(HEADER_BYTES)
        if not begin.startswith(MAGIC):
            raise Unreadable("not an SQLite database", COPY_AGAIN)
        place = path
        if not _plain(path):
            place = Path(ends.enter_context(TemporaryDirectory(prefix="skewscope-"))) / "unpacked.sqlite"
            with place.open("wb") as copy:
                while begin:
                    copy.write(begin)
                    begin = stream.read(COPIED_BYTES)
        with _connected(place) as connection:
            yield Database(connection, stream.damage or _cut(place))


@contextmanager
def _connected(place: Path) -> Iterator[sqlite3.Connection]:
    try:
        # Immutable: no journal is replayed and no lock is taken, so that the recording stays as it is.
        connection = sqlite3.connect(f"file:{quote(str(place.absolute()))}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise Unreadable(f"the SQLite database cannot be opened ({error})", COPY_AGAIN) from None
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        yield connection
    except sqlite3.Error as error:
        raise Unreadable(f"the SQLite database cannot be read ({error})", COPY_AGAIN) from None
    finally:
        connection.close()


def _cut(place: Path) -> str:
    """Return what is wrong with the length of the file, "" for nothing (file format, 1.3: page size and count)."""
    with place.open("rb") as file:
        header = file.read(HEADER_BYTES)
    size = int.from_bytes(header[16:18], "big")
    whole = (65_536 if size == 1 else size) * int.from_bytes(header[28:32], "big")
    known = header[24:28] == header[92:96]
    return "the SQLite database is cut" if known and place.stat().st_size < whole else ""


def _plain(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
