"""A writer that is killed while it appends and joins, and a reader beside one that works."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from _told import STEP_NS, numbers_of

from skewscope.store import Reader, Store
from skewscope.store.folder import listed

ALL = (0, 1 << 62)
SCRIPT = Path(__file__).parent / "_told.py"
ROUNDS, EVERY = 6, 7


def appending(directory, first):
    return subprocess.Popen(
        [sys.executable, SCRIPT, "append", directory, str(first), str(EVERY)], stdout=subprocess.PIPE, text=True
    )


def test_kill_loses_at_most_the_window_being_written(tmp_path):
    chance = random.Random(5)
    told = 0
    for _ in range(ROUNDS):
        with appending(tmp_path, told + 1) as process:
            for _ in range(chance.randint(5, 40)):
                told = int(process.stdout.readline())
            time.sleep(chance.random() * 0.02)  # to die anywhere: while it writes, renames, joins or removes
            process.kill()
            told = max([told, *map(int, process.stdout.read().split())])
        seen = numbers_of(Reader(tmp_path).read(*ALL)["windows"])
        with Store(tmp_path) as store:
            kept = numbers_of(store.read(*ALL)["windows"])
            assert not store.damaged
        assert seen == kept and kept[:told] == list(range(1, told + 1)) and len(kept) <= told + 1
        assert not list(tmp_path.glob(".*.tmp"))
        told = len(kept)
    assert told > 5 * ROUNDS


def test_what_a_joining_left_halfway_counts_once(tmp_path):
    """Between the segment's birth and the removal of its parts both are there."""
    with appending(tmp_path, 1) as process:
        while int(process.stdout.readline()) < 12:
            pass
        process.kill()
    with Store(tmp_path, segment_s=300) as store:
        parts = {path.name: path.read_bytes() for path in tmp_path.glob("windows-*")}
        store.compact()
        kept = numbers_of(store.read(*ALL)["windows"])
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".windows-1-1.segment.tmp").write_bytes(b"PAR1 half")
    assert numbers_of(Reader(tmp_path).read(*ALL)["windows"]) == kept  # raises where a row is there twice
    with Store(tmp_path) as store:
        assert numbers_of(store.read(*ALL)["windows"]) == kept
    assert len(list(tmp_path.glob("windows-*"))) < len(parts) or len(parts) == 1
    assert not (tmp_path / ".windows-1-1.segment.tmp").exists()


def test_a_reader_beside_a_busy_writer_sees_every_window(tmp_path):
    with appending(tmp_path, 1) as process:
        first = int(process.stdout.readline())
        reader, looks, joined = Reader(tmp_path), 0, False
        while looks < (12 if joined else 30):  # each reads all that there is, and there is more each time
            first_ns, last_ns = reader.span()
            found = numbers_of(reader.read(*ALL)["windows"])
            assert found == list(range(first, len(found) + 1)) and len(found) >= last_ns // STEP_NS
            joined |= any(one.first_ns < one.last_ns for one in listed(tmp_path))
            looks += 1
        process.kill()
    assert joined and not reader.damaged
