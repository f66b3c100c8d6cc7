"""How long the threads of a process were ready to run but had no CPU.

A process tells this thread by thread only, and a rank has a hundred threads most of which sleep for ever. So the
threads that waited most in the last round are read at each look, the others in turns, and what each gained since its
last reading is added up. A thread that ends between two readings takes its last bit with it. Opening such a file costs
five times as much as reading it, so as many are kept open as the caller allows.
"""

from __future__ import annotations

import os

from ._proc import FLAGS, entries

HOT_THREADS = 5  # beside the main thread


class RunDelay:
    """The run delay of the process whose threads are in `folder` (<proc>/PID/task), since the first look."""

    def __init__(self, folder: str, main: int) -> None:
        self._folder = folder
        self._main = str(main)
        self._last: dict[str, int] = {}  # thread -> its run delay at its last reading, in ns; -1 before the first
        self._gained: dict[str, int] = {}  # in this round
        self._open: dict[str, int] = {}  # thread -> descriptor
        self._hot: list[str] = []
        self._waiting: list[str] = []  # threads that this round has still to read
        self._first_round = True
        self._known = True
        self.total_ns = 0

    def look(self, cold_threads: int, most_open: int = 64) -> int | None:
        """Read hot threads and some of the others; return the sum in ns, None where the kernel does not count."""
        if not self._waiting:
            self._begin_round(most_open)
        for thread in self._hot:
            self._read(thread, most_open)
        waiting = self._waiting
        for _ in range(min(cold_threads, len(waiting))):
            self._read(waiting.pop(), most_open)
        return self.total_ns if self._known else None

    def close(self) -> None:
        """Let go of all descriptors."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _begin_round(self, most_open: int) -> None:
        threads = entries(self._folder)
        last = self._last
        start = -1 if self._first_round else 0  # what they waited before the first look is history, not a jump
        self._last = {thread: last.get(thread, start) for thread in threads}
        self._first_round = not threads
        by_gain = sorted((gained, thread) for thread, gained in self._gained.items() if thread in self._last)
        hot = [self._main, *(thread for _, thread in by_gain[-HOT_THREADS:] if thread != self._main)]
        self._hot = [thread for thread in hot if thread in self._last]
        self._gained.clear()
        self._waiting = [thread for thread in threads if thread not in self._hot]
        kept = {*self._hot, *self._waiting[: max(0, most_open - len(self._hot))]}
        for gone in self._open.keys() - kept:
            os.close(self._open.pop(gone))

    def _read(self, thread: str, most_open: int) -> None:
        descriptor = self._open.get(thread, -1)
        try:
            if descriptor < 0:
                descriptor = self._open[thread] = os.open(f"{self._folder}/{thread}/schedstat", FLAGS)
            ran, delay, slices = os.pread(descriptor, 80, 0).split()
            delay_ns = int(delay)
        except (OSError, ValueError):  # the thread is gone
            self._forget(thread)
            return
        if len(self._open) > most_open:
            self._forget(thread)
        if thread == self._main:
            self._known = ran != b"0" or slices != b"0"  # all zero: built without CONFIG_SCHED_INFO
        last_ns = self._last[thread]
        if delay_ns != last_ns:
            self._last[thread] = delay_ns
            if 0 <= last_ns < delay_ns:
                self.total_ns += delay_ns - last_ns
                self._gained[thread] = self._gained.get(thread, 0) + delay_ns - last_ns

    def _forget(self, thread: str) -> None:
        descriptor = self._open.pop(thread, -1)
        if descriptor >= 0:
            os.close(descriptor)
