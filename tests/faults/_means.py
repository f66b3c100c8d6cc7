"""Real means to slow one process of a job: quotas, hogs, throttled disks, thin links, signals.

Each mean is a context manager that takes effect on a process that runs already, and says why it cannot be had.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skewscope.processes import end_with_parent

CGROUPS = Path("/sys/fs/cgroup")
NETWORK = 0x40000000  # CLONE_NEWNET
PERIOD_US = 25_000
HOG = "while True: pass"


def _control(kind: str) -> Path | None:
    """Return the folder in which control groups of a kind ("cpu", "blkio") are made, None where there is none."""
    one = CGROUPS / "cgroup.controllers"
    if one.exists():  # version 2: one tree; a controller must have been handed to the groups below
        name = {"blkio": "io"}.get(kind, kind)
        handed = (CGROUPS / "cgroup.subtree_control").read_text().split()
        return CGROUPS if name in handed and os.access(CGROUPS, os.W_OK) else None
    place = CGROUPS / kind
    return place if place.is_dir() and os.access(place, os.W_OK) else None


def without(kind: str) -> str:
    """Return why control groups of a kind cannot be had here, "" where they can."""
    place = _control(kind)
    if place is None:
        return f"no control group for {kind} may be made here"
    try:
        with _group(kind):
            return ""
    except OSError as error:
        return f"no control group for {kind}: {error}"


@contextmanager
def _group(kind: str) -> Iterator[Path]:
    place = (_control(kind) or CGROUPS) / f"skewscope-faults-{os.getpid()}"
    place.mkdir()
    try:
        yield place
    finally:
        for _ in range(50):
            with suppress(OSError):
                place.rmdir()
                break
            time.sleep(0.05)  # a process that has just ended is still in it


def _move(pid: int, place: Path) -> None:
    """Move a process with all of its threads, if it lives."""
    with suppress(ProcessLookupError):
        (place / "cgroup.procs").write_text(str(pid))


@contextmanager
def _inside(pid: int, place: Path) -> Iterator[None]:
    """Keep a process in a control group."""
    _move(pid, place)
    try:
        yield
    finally:
        with suppress(OSError):
            _move(pid, place.parent)


@contextmanager
def quota(pid: int, share: float) -> Iterator[None]:
    """Let a process have this share of one core, no more."""
    with _group("cpu") as place:
        limit_us = max(1000, int(share * PERIOD_US))
        if (place / "cpu.max").exists():
            (place / "cpu.max").write_text(f"{limit_us} {PERIOD_US}")
        else:
            (place / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (place / "cpu.cfs_quota_us").write_text(str(limit_us))
        with _inside(pid, place):
            yield


def disk_of(path: Path) -> str:
    """Return the "major:minor" of the whole disk that a path lies on, "" where it is on none."""
    number = path.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not place.exists():
        return ""
    whole = place.resolve()
    whole = whole.parent if (whole / "partition").exists() else whole
    return (whole / "dev").read_text().strip()


@contextmanager
def slow_disk(pid: int, path: Path, bytes_per_s: int) -> Iterator[None]:
    """Let a process read no faster than this from the disk that a path lies on."""
    with _group("blkio") as place:
        disk = disk_of(path)
        if (place / "io.max").exists():
            (place / "io.max").write_text(f"{disk} rbps={bytes_per_s}")
        else:
            (place / "blkio.throttle.read_bps_device").write_text(f"{disk} {bytes_per_s}")
        with _inside(pid, place):
            yield


@contextmanager
def hogs(core: int, count: int) -> Iterator[None]:
    """Keep one core busy with other processes, as urgent as this one."""
    words = [sys.executable, "-S", "-E", "-c", HOG]
    running = [subprocess.Popen(words, preexec_fn=end_with_parent) for _ in range(count)]
    try:
        for one in running:
            os.sched_setaffinity(one.pid, {core})
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


@contextmanager
def stops(pid: int, stopped_s: float, running_s: float) -> Iterator[None]:
    """Stop a process for a while, again and again."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(running_s):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                ended.wait(stopped_s)
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def enter(namespace: str) -> None:
    """Move this process into a network namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, NETWORK) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
    os.close(descriptor)
