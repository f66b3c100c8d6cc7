"""The pool of processes: gone when its block is left, whatever the program's handlers and whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skewscope.processes import process_pool

PATIENCE_S = 60

ORPHANS = """
import os, time
from skewscope.processes import process_pool
with process_pool(2) as pool:
    print(*{pool.submit(os.getpid).result() for _ in range(2)} | set(pool._processes), flush=True)
    time.sleep(600)
"""


def until_gone(pids: list[int]) -> list[int]:
    """Return the processes that still run when our patience has ended."""
    end = time.monotonic() + PATIENCE_S
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_handler_of_ours_keeps_no_process_alive():
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(KeyboardInterrupt), process_pool(2) as pool:
            pool.submit(time.sleep, 600)
            pool.submit(time.sleep, 600)
            pids = list(pool._processes)
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(pids) == 2 and not until_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_no_process_outlives_a_parent_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait(PATIENCE_S)
    parent.stdout.close()
    assert len(pids) == 2 and not until_gone(pids)


def test_an_interrupt_is_left_to_the_parent():
    with process_pool(1) as pool:
        os.kill(pool.submit(os.getpid).result(), signal.SIGINT)
        assert pool.submit(abs, -3).result(PATIENCE_S) == 3


def test_what_is_asked_of_each_process_is_done_first(tmp_path):
    with process_pool(1, initializer=(tmp_path / "begun").touch) as pool:
        assert pool.submit((tmp_path / "begun").exists).result(PATIENCE_S)
