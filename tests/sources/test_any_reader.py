"""What holds for every reader: a changed file is read as before, and a cut one gives less, never something else.

The sound files are the seeds of the fuzzer. `LATER` lists what a cut file may say otherwise, each time with the reason:
there a row is made from several places of the file, of which the cut has taken some.
"""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import tables as schema
from skewscope.catalogue import rooms
from skewscope.contracts import Reading
from skewscope.errors import Unreadable
from skewscope.frames import concat, frame

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import _parsers

READERS = {room.id: room.load() for room in rooms("sources")}
LARGEST_BYTES = 9_000
WRITTEN_S = 1_700_000_000.0  # times without a year, and files without times, are placed by when the file was written
NO_GZIP = ("canonical-table", "store-segment", "whatif-parquet")  # Parquet is read from its end
PACKED_BLOCKS = ("ring-spool",)  # packed it is a segment of the archive: each member is one block, of any number
BINARY = ("chakra-et", "ring-spool")  # of the others the content tells it
NOT_READ = ("simulation-truth", "skewscope-trace")  # known, and left alone whatever they hold
SILENT = {"chakra-et": "nodes follow one another, and nothing tells how many there should be"}

Rows = dict[str, Counter[tuple[str, ...]]]
WHOLE_TABLE = None
LATER: dict[str, dict[str, tuple[str, ...] | None]] = {
    # Rows without times are counted back from the last one, which was taken when the file was written.
    "dcgm-csv": {"samples": ("t_ns",)},
    # Picks are counted over all lines.
    "expert-counts-csv": {"expert_loads": ("routed_tokens",)},
    "route-log": {"expert_loads": ("routed_tokens",), "expert_pairs": ("routed_tokens",)},
    "router-trace": {"expert_loads": ("routed_tokens",), "expert_pairs": ("routed_tokens",)},
    # The mean of a summary is that since the page before; a first page alone tells the one since the engine's start.
    "exposition-page": {"balance_reports": ("balance_ratio", "t_ns")},
    # Which ranks a group has stands behind the entries.
    "flight-recorder": {"collectives": ("group", "group_size", "peer"), "groups": ("group_size",)},
    # Steps, and operations inside others, are told on lines of their own.
    "jax-trace": {"ops": ("step", "name", "end_ns"), "collectives": ("step", "end_ns")},
    # A trace without device work keeps the operators of the processor, another one does not.
    "kineto": {"ops": WHOLE_TABLE},
    # A checkpoint is told after the iteration that it belongs to.
    "megatron-log": {"steps": ("end_ns",)},
    # Repeated events are counted; algorithm and protocol come on the next line; calls are open or not by all lines,
    # and numbered from the last beginning of their communicator.
    "nccl-debug-log": {"events": ("message",), "collectives": ("algo", "proto", "seq", "state")},
    # A call has begun and ended with its last child.
    "nccl-profiler-plugin": {"collectives": ("start_ns", "end_ns", "state")},
    # The summary counts the communicators of the table behind it.
    "nccl-ras": {"events": ("message",)},
    # Marks of steps lie in a table of their own.
    "nsys-sqlite": {"ops": ("step",), "collectives": ("step",)},
    # What is known of a GPU, errors of several memories and processes are gathered from several elements.
    "nvidia-smi-xml": {"samples": ("labels", "value")},
    # A ring's records lie anywhere; what is left is counted and laid out anew.
    "ring-spool": {"steps": WHOLE_TABLE, "ops": WHOLE_TABLE, "collectives": ("step",)},
    # Calls of the host, and of RCCL, stand behind the kernels that they launched.
    "rocprof": {"ops": ("launch_ns", "launch_end_ns"), "collectives": ("op", "op_class")},
    # Connections of a pair, and of a dump, are summed, and the busiest speaks for them.
    "socket-statistics": {
        "links": ("window_ns", "moved_bytes", "latency_ns", "speed_bytes_per_s"), "samples": ("value",),
    },
    # The innermost frames that are the user's: those of the main thread come last.
    "stack-dump": {"events": ("message",)},
}  # fmt: skip


class Sound(NamedTuple):
    """A file that a reader reads, its text without gzip, and what it makes of it."""

    name: str
    text: bytes
    reading: Reading
    rows: Rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every file is written over the last one."""
    return tmp_path_factory.mktemp("any") / "n5"


def read(reader: str, name: str, content: bytes, folder: Path) -> Reading:
    """Read some content as a file of that name, always written at the same time."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (WRITTEN_S, WRITTEN_S))
    found: Reading = READERS[reader].read(path)
    return found


def rows(reading: Reading, leave_out: dict[str, tuple[str, ...] | None] | None = None) -> Rows:
    """Return how often each row stands in each table."""
    parts: dict[str, list[object]] = {}
    for table, columns in reading.batches:
        parts.setdefault(table, []).append(frame(table, columns))
    made: Rows = {}
    for table, frames in parts.items():
        less = (leave_out or {}).get(table, ())
        if less is not None:
            whole = concat(table, frames).drop(columns=list(less))  # type: ignore[arg-type]
            made[table] = Counter(zip(*(map(str, whole[name].tolist()) for name in whole.columns), strict=True))
    return made


@cache
def sound(reader: str) -> tuple[tuple[str, bytes], ...]:
    """Return names and texts of a reader's seeds that are small."""
    found = []
    for name, data in _parsers.parsers()[reader].seeds():
        try:
            text = zlib.decompressobj(31).decompress(data) if data[:2] == b"\x1f\x8b" else data
        except zlib.error:
            continue
        packed_ring = reader == "ring-spool" and text is not data  # it is told from a ring by being packed
        if len(text) <= LARGEST_BYTES and not packed_ring:
            found.append((name.removesuffix(".gz"), text))
    return tuple(found)


@cache
def read_sound(reader: str, folder: Path) -> list[Sound]:
    """Return the seeds that are read, those with rows where there are some."""
    found = []
    for name, text in sound(reader):
        try:
            reading = read(reader, name, text, folder)
        except Unreadable:
            continue  # some are damaged on purpose
        found.append(Sound(name, text, reading, rows(reading, LATER.get(reader))))
    with_rows = [one for one in found if any(one.rows.values())]
    return with_rows or found


def told(reading: Reading) -> tuple[object, ...]:
    """Return what a reading says beside its rows."""
    return (reading.status, reading.rank, reading.node, reading.world_size, reading.events, reading.warnings,
            reading.job.get("parallelism"), reading.job.get("hosts"))  # fmt: skip


def is_text(reader: str, content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return reader not in BINARY and b"\0" not in content


def examples(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=[HealthCheck.function_scoped_fixture])


every_reader = pytest.mark.parametrize("reader", READERS)


@every_reader
def test_tables_fit_the_schema_and_come_out_the_same_twice(reader, place):
    files = read_sound(reader, place)
    assert files
    for one in files:
        again = read(reader, one.name, one.text, place)
        assert rows(again) == rows(one.reading) and told(again) == told(one.reading)
        for table, columns in one.reading.batches:
            made = frame(table, columns)
            for column in schema.table(table).columns:
                values = made[column.name]
                if column.name.endswith("_ns") and column.type == "i64":
                    assert values.dtype == "int64" and (values >= -1).all(), (table, column.name)
                if column.type == "f64" and not column.optional:
                    assert not values.isna().any(), (table, column.name)


@every_reader
def test_its_own_reader_claims_a_file_most(reader, place):
    for one in read_sound(reader, place):
        mine, others = claims(reader, one.text, one.name)
        assert mine > others, one.name


def claims(reader: str, head: bytes, name: str) -> tuple[float, float]:
    """Return how surely a reader claims a file, and how surely any other does."""
    found = {other: READERS[other].sniff(head, name) for other in READERS}
    return found.pop(reader), max(found.values())


@every_reader
@examples(3)
@given(part=st.floats(0, 1), level=st.integers(0, 9))
def test_gzip_in_any_number_of_members_changes_nothing(reader, place, part, level):
    for one in read_sound(reader, place):
        at = int(part * len(one.text)) if reader not in PACKED_BLOCKS else 0
        packed = b"".join(gzip.compress(some, level, mtime=0) for some in (one.text[:at], one.text[at:]) if some)
        if reader in NO_GZIP and one.text.startswith(b"PAR1"):
            with pytest.raises(Unreadable):
                read(reader, one.name, packed, place)
            continue
        found = read(reader, one.name, packed, place)
        assert rows(found, LATER.get(reader)) == one.rows
        assert told(found) == told(one.reading) or reader in PACKED_BLOCKS


@every_reader
@examples(2)
@given(blanks=st.lists(st.sampled_from([b"\n", b"\r\n"]), max_size=3))
def test_line_ends_of_windows_and_blank_lines_behind_change_nothing(reader, place, blanks):
    for one in read_sound(reader, place):
        if is_text(reader, one.text):
            text = one.text if one.text.endswith(b"\n") else one.text + b"\n"  # else its last line is left out
            want = read(reader, one.name, text, place)
            changed = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"".join(blanks)
            found = read(reader, one.name, changed, place)
            assert rows(found) == rows(want) and told(found) == told(want)


@every_reader
@examples(20)
@given(data=st.data())
def test_a_cut_file_has_no_other_rows_and_says_that_it_is_cut(reader, place, data):
    one = data.draw(st.sampled_from(read_sound(reader, place)))
    _look_at_cut(reader, one, data.draw(st.integers(1, max(1, len(one.text) - 1))), place)


@every_reader
@examples(8)
@given(data=st.data())
def test_a_cut_gzip_has_no_other_rows_and_is_never_whole(reader, place, data):
    one = data.draw(st.sampled_from(read_sound(reader, place)))
    packed = gzip.compress(one.text, 1, mtime=0)
    found = _cut(reader, one, packed[: data.draw(st.integers(10, len(packed) - 1))], place)
    assert found is None or found.status == "partial" or reader in NOT_READ


@every_reader
def test_the_last_line_or_the_check_of_a_gzip_is_cut(reader, place):
    """These two cuts are the usual ones: of a file that is being written, and of one that was not copied to its end."""
    for one in read_sound(reader, place):
        end = len(one.text.rstrip())
        for at in {end - 1, (one.text.rfind(b"\n", 0, end) + end) // 2} - {0, -1}:
            _look_at_cut(reader, one, at, place)
        found = _cut(reader, one, gzip.compress(one.text, 1, mtime=0)[:-4], place)
        assert found is None or found.status == "partial" or reader in NOT_READ


def _look_at_cut(reader: str, one: Sound, at: int, place: Path) -> None:
    found = _cut(reader, one, one.text[:at], place)
    if found is not None and any(rows(found).values()):
        mine, others = claims(reader, one.text[:at], one.name)
        assert mine > others or not others, "what it reads is claimed by another reader"
    if found is None or found.status != "ok" or reader in SILENT:
        return
    head, rest = one.text[:at].rstrip(b" \t"), one.text[at:]
    between_lines = is_text(reader, one.text[:at]) and (head.endswith(b"\n") or rest.startswith((b"\n", b"\r\n")))
    assert between_lines or rows(found, LATER.get(reader)) == one.rows, "rows are lost, and it says that all is well"


def _cut(reader: str, one: Sound, content: bytes, place: Path) -> Reading | None:
    """Read what is left of a file and look that every row stands in the whole one; None where it is unreadable."""
    try:
        found = read(reader, one.name, content, place)
    except Unreadable as error:
        assert len(error.reason) > 10, error
        return None
    for table, left in rows(found, LATER.get(reader)).items():
        assert not left - one.rows.get(table, Counter()), f"{table}: rows that the whole file does not have"
    assert found.rank in (-1, one.reading.rank)
    assert found.node in ("", one.reading.node) or not one.reading.node  # what is left of two nodes' rows may be of one
    return found
