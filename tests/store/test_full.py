"""No room: on a small file system, and under a limit on the size of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _told import numbers_of, window

from skewscope.store import Reader, Store, StoreFull

ALL = (0, 1 << 62)
SCRIPT = Path(__file__).parent / "_told.py"
SMALL_BYTES = 1 << 20


@pytest.fixture
def small(tmp_path):
    """Yield a file system of one MiB."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "skewscope-test", place],
                              capture_output=True, timeout=30)  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("only root may mount a small file system; the limit on file sizes is tested anyway")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=30)


def fill(place, leave_bytes):
    """Leave so many bytes free, by a file that is not the store's."""
    about = os.statvfs(place)
    with open(place / "ballast", "ab") as file:
        file.write(bytes(about.f_bavail * about.f_bsize - leave_bytes))


def test_nothing_is_lost_where_the_disk_is_full(small):
    directory = small / "store"
    with Store(directory, segment_s=300) as store:
        for number in range(1, 12):
            store.append(window(number))
        fill(small, 0)
        for _ in range(3):
            with pytest.raises(StoreFull, match="no room"):
                store.append(window(12))
        with pytest.raises(StoreFull):
            store.compact()
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 12))
        assert not list(directory.glob(".*.tmp")) and not store.damaged
        (small / "ballast").unlink()
        store.append(window(12))
        store.compact()
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 13))
    assert len(list(directory.glob("windows-*"))) == 3
    assert numbers_of(Reader(directory).read(*ALL)["windows"]) == list(range(1, 13))


def test_a_disk_that_fills_up_somewhere_in_the_window(small):
    """Whatever the place in the file where it happens."""
    directory = small / "store"
    with Store(directory) as store:
        store.append(window(1))
        outcomes = set()
        for pages in range(10):
            (small / "ballast").unlink(missing_ok=True)
            fill(small, pages * 4096)
            try:
                store.append(window(2))
                outcomes.add("kept")
            except StoreFull:
                outcomes.add("full")
                assert numbers_of(store.read(*ALL)["windows"]) == [1]
                assert not list(directory.glob(".*.tmp"))
                continue
            break
        assert numbers_of(store.read(*ALL)["windows"]) == [1, 2]
    assert outcomes == {"kept", "full"}


def test_no_room_for_a_new_store(small):
    fill(small, 0)
    with pytest.raises(StoreFull, match="no room"):
        Store(small / "store")


def test_a_limit_on_file_sizes(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "limited", tmp_path, "60000"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["2 full [1] 1", "3 kept [1, 3]"], done.stderr
    assert numbers_of(Reader(tmp_path).read(*ALL)["windows"]) == [1, 3]
