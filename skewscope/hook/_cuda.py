"""Times collectives on the GPU by pairs of events that are recorded around them and read later, never waited for.

The first event is recorded on the current stream before the call, the second where the call is waited for: on that
stream, so it comes after the collective. A thread of ours asks every 50 ms which are over and writes their records
then. Nothing is synchronised. While a CUDA graph is captured no event is recorded and none is asked, since either
would spoil the capture.
"""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ._patches import Patches
from ._recorder import Call, Recorder

SMALL_BYTES = 8192
SAMPLE = 16  # of the calls below SMALL_BYTES one in so many is timed: their events would cost more than they do
WAITING = 8192  # pairs that are not over yet
POOL = 1024


class Timer:
    """Records events, keeps the pairs, and hands finished ones to the recorder."""

    def __init__(self, recorder: Recorder, cuda: Any) -> None:
        self._recorder, self._cuda = recorder, cuda
        self._pools: dict[int, list[Any]] = {}  # device -> events that are free
        self._waiting: deque[tuple[Call, Any, int, int, int]] = deque()
        self._small = 0
        self._lock = threading.Lock()  # held while events are asked, so that no capture begins meanwhile
        self._captures = 0
        self.in_use = False  # no event has been recorded yet

    def started(self, args: tuple[Any, ...], place: int) -> Any:
        """Return (device, event) recorded before a call, None for one that is not timed on the GPU."""
        if place < 0 or len(args) <= place or self._captures:
            return None
        first = args[place]
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        if not getattr(first, "is_cuda", False) or first.is_sparse:
            return None
        if first.nbytes < SMALL_BYTES:
            self._small += 1
            if self._small % SAMPLE:
                return None
        return self._recorded()

    def ended(self, call: Call, end_ns: int, flags: int) -> bool:
        """Record the second event of a call and take it over; False where it must be written without GPU time."""
        device, _ = call[-1]
        if self._captures or len(self._waiting) >= WAITING:
            return False
        now, after = self._recorded()
        if now != device:
            return False
        self._waiting.append((call, after, end_ns, flags, device))
        return True

    def poll(self) -> None:
        """Write the calls that are over on the GPU."""
        with self._lock:
            while self._waiting and not self._captures:
                call, after, end_ns, flags, device = self._waiting[0]
                if not after.query():
                    return
                self._waiting.popleft()
                before = call[-1][1]
                self._recorder.end(call, end_ns, flags, int(before.elapsed_time(after) * 1e6))
                pool = self._pools.setdefault(device, [])
                if len(pool) < POOL:
                    pool += (before, after)

    def forget(self) -> None:
        """Start over in a forked child, where the parent's events mean nothing."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._pools.clear()
        self._captures, self.in_use = 0, False

    def may_ask(self) -> bool:
        """Return whether CUDA may be asked about work now: not during a capture."""
        return not self._captures

    def captured(
        self, begin: Callable[..., Any], end: Callable[..., Any]
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return both ends of a graph capture, with events kept away between them."""

        @functools.wraps(begin)
        def capture_begin(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._captures += 1
            try:
                return begin(*args, **kwargs)
            except BaseException:
                self._captures -= 1
                raise

        @functools.wraps(end)
        def capture_end(*args: Any, **kwargs: Any) -> Any:
            try:
                return end(*args, **kwargs)
            finally:
                self._captures = max(self._captures - 1, 0)

        return capture_begin, capture_end

    def _recorded(self) -> tuple[int, Any]:
        self.in_use = True
        device = self._cuda.current_device()
        pool = self._pools.get(device)
        event = pool.pop() if pool else self._cuda.Event(enable_timing=True)
        event.record()
        return device, event


def patch(recorder: Recorder, patches: Patches, cuda: ModuleType) -> None:
    """Time on the GPU where this torch has one; CUDA is not started for it."""
    # Not cuda.is_available(): asking the driver here would forbid CUDA to processes that are forked later.
    if not hasattr(cuda, "CUDAGraph") or not sys.modules["torch"].backends.cuda.is_built():
        return
    timer = Timer(recorder, cuda)
    begin, end = timer.captured(cuda.CUDAGraph.capture_begin, cuda.CUDAGraph.capture_end)
    patches.put(cuda.CUDAGraph, "capture_begin", begin)
    patches.put(cuda.CUDAGraph, "capture_end", end)
    recorder.timer = timer
