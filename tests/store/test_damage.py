"""Files that are torn, empty or have other bytes than were written."""

from __future__ import annotations

import os
import random

import pytest
from _told import STEP_NS, numbers_of, window

from skewscope.store import Reader, Store
from skewscope.store import segment as segment_file

ALL = (0, 1 << 62)


@pytest.fixture
def directory(tmp_path):
    """Return a store of two segments and four windows."""
    with Store(tmp_path, segment_s=300) as store:
        for number in range(1, 25):
            store.append(window(number))
        store.compact()
    assert len(list(tmp_path.glob("windows-*"))) == 6
    return tmp_path


def name(first, last):
    return f"windows-{first * STEP_NS}-{last * STEP_NS}.segment"


def half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [half, lambda content: b"", lambda content: bytes(len(content)), lambda content: content[:-4] + b"PAR0",
     lambda content: half(content) + content[-1000:], lambda content: os.urandom(len(content))],
    ids=["torn", "empty", "zeros", "end", "middle", "noise"],
)  # fmt: skip
def test_a_broken_segment_sinks_nobody_else(directory, damage):
    path = directory / name(11, 20)
    path.write_bytes(damage(path.read_bytes()))
    reader = Reader(directory)
    for _ in range(2):
        assert numbers_of(reader.read(*ALL)["windows"]) == [*range(1, 11), *range(21, 25)]
    assert [one.file for one in reader.damaged] == [path.name] and reader.damaged[0].why
    with Store(directory) as store:
        store.append(window(25))
        assert numbers_of(store.read(*ALL)["windows"]) == [*range(1, 11), *range(21, 26)]


def test_a_flipped_bit_is_noticed_or_harmless(directory):
    """Pages have checksums; the description at the end of a file has not, but it must fit them."""
    path = directory / name(1, 10)
    whole = path.read_bytes()
    want = Reader(directory).read(*ALL)["windows"]
    chance, noticed = random.Random(1), 0
    for _ in range(150):
        broken = bytearray(whole)
        at = chance.choice([chance.randrange(len(whole)), len(whole) - 1 - chance.randrange(3000)])
        broken[at] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        reader = Reader(directory)
        found = reader.read(*ALL)["windows"]
        assert found.equals(want) or (reader.damaged and len(found) < len(want))
        noticed += bool(reader.damaged)
    assert noticed > 75


def test_a_broken_row_group_costs_its_metrics_only(each, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_file, "LEAST_ROWS", 1000)
    with Store(tmp_path) as store:
        store.append(each[0])
        whole = store.read(*ALL)["windows"]
    (path,) = tmp_path.glob("windows-*")
    with segment_file.Segment(str(path)) as found:
        groups = found.groups
        place = found._file.metadata.row_group(1).column(9).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 40] ^= 0xFF
    path.write_bytes(content)
    reader = Reader(tmp_path)
    left = reader.read(*ALL)["windows"]
    assert len(groups) > 3 and len(left) == len(whole) - groups[1].rows
    assert [one.file for one in reader.damaged] == [f"{path.name}, metrics {groups[1].first} to {groups[1].last}"]


def test_a_broken_window_is_set_aside_when_others_are_joined(directory):
    path = directory / name(22, 22)
    path.write_bytes(half(path.read_bytes()))
    with Store(directory, segment_s=300) as store:
        store.append(window(31))
        store.compact()
        assert numbers_of(store.read(*ALL)["windows"]) == [*range(1, 22), 23, 24, 31]
    aside = directory / f"{path.name}.damaged"
    assert aside.exists() and not path.exists()
    with Store(directory) as store:
        assert [one.file for one in store.damaged] == [aside.name]


def test_a_broken_window_that_is_told_again_is_whole(directory):
    path = directory / name(24, 24)
    path.write_bytes(half(path.read_bytes()))
    with Store(directory) as store:
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 24)) and store.damaged
        store.append(window(24))
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 25)) and not store.damaged


def test_broken_events_sink_nobody(directory, events):
    with Store(directory) as store:
        store.append(window(25), events)
        store.append(window(26), events)
        path = directory / name(25, 25).replace("windows", "events")
        path.write_bytes(half(path.read_bytes()))
        found = store.read(*ALL)
        assert len(found["events"]) == 2 and numbers_of(found["windows"]) == list(range(1, 27))
        assert [one.file for one in store.damaged] == [path.name]


def test_what_the_system_refuses_is_no_damage(directory):
    """A window that cannot be opened for want of handles must not be set aside."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Store(directory, segment_s=300) as store:
        store.append(window(31))
        handles = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    handles.append(os.open(directory, os.O_RDONLY))
            with pytest.raises(OSError, match="Too many open files"):
                store.compact()
        finally:
            for handle in handles:
                os.close(handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not store.damaged and not list(directory.glob("*.damaged"))
        assert numbers_of(store.read(*ALL)["windows"]) == [*range(1, 25), 31]
