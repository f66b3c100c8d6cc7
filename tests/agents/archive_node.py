"""A node that keeps an archive, and what is in it."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

from skewscope import spool
from skewscope.catalogue import room
from skewscope.contracts import Place

COLLECTIVE = spool.KINDS.index("collective")


class Node:
    def __init__(self, folder: Path, **options: str) -> None:
        self.spool, self.archive = folder / "spool", folder / "archive"
        self.spool.mkdir(exist_ok=True)
        self.now_s = time.monotonic()
        self.place = Place(
            proc=folder / "proc", spool=self.spool, archive=self.archive, options=options, clock_s=lambda: self.now_s
        )
        self.start()

    def start(self) -> None:
        self.collector = room("agents.collectors", "collectives").kind()(self.place)

    def look(self, wait_s: float = 6.0) -> dict[str, dict[tuple[str, ...], float]]:
        self.now_s += wait_s
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for name, labels, value, *_ in self.collector.collect():
            found.setdefault(name, {})[labels] = value
        return found

    def segments(self) -> list[Path]:
        return sorted(self.archive.iterdir(), key=lambda path: int(first(path)))

    def numbers(self) -> list[int]:
        """Return the numbers of all archived records, by reading the members one by one."""
        return [number for path in self.segments() for number in numbers(path)]


def first(path: Path) -> str:
    return path.name.split(".")[-3].split("-")[0]


def numbers(path: Path) -> list[int]:
    found, content = [], path.read_bytes()
    while content:
        decoder = zlib.decompressobj(31)
        member = decoder.decompress(content)
        content = decoder.unused_data
        assert spool.read_header(member[: spool.HEADER_BYTES]).rank == 0
        found += [row[0] for row in spool.valid_records(member[spool.HEADER_BYTES :])]
        if not decoder.eof:
            break
    return found


def put(writer, count, ended_ns=0):
    for _ in range(count):
        writer.write(COLLECTIVE, 1, 0, seq=1, start_ns=ended_ns or 1, end_ns=ended_ns or 2)
