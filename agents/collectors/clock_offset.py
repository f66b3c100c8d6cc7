"""How right the host's clock is, as the kernel knows it, and whether somebody set it.

A time daemon (chrony, ntpd, phc2sys) steers the kernel's clock; adjtimex(2) tells what it last said, to anybody. Steps
are seen without it: steering moves the wall clock and the monotonic clock alike, setting moves the wall clock alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample

from ._proc import whole

# struct timex of 64-bit Linux up to status: modes u32, offset, freq, maxerror, esterror (long), status i32
TIMEX = struct.Struct("@I4xqqqqi")
TIMEX_BYTES = 256  # 208 are written; no kernel may write beyond what we have
UNSYNCHRONIZED, NANOSECONDS = 0x0040, 0x2000  # bits of status
STEP_S = 0.001
ERRORS_EVERY_S = 4.5
SOURCE_EVERY_S = 60.0

Adjtimex = Callable[[], bytes]  # the struct timex as the kernel filled it; raises OSError


def kernel_clock() -> Adjtimex:
    """Return a call of adjtimex(2) that changes nothing (modes 0)."""
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).adjtimex
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)

    def adjtimex() -> bytes:
        ctypes.memset(buffer, 0, 4)  # modes: ask only
        if call(buffer) < 0:
            raise OSError(ctypes.get_errno(), "adjtimex")
        return buffer.raw

    return adjtimex


class ClockOffset:
    """Asks the kernel for its clock's error; `adjtimex` stands in for the kernel in tests."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_host_clock_offset_seconds", "skewscope_host_clock_max_error_seconds",
        "skewscope_host_clock_estimated_error_seconds", "skewscope_host_clock_synchronized",
        "skewscope_host_clock_steps_total", "skewscope_host_clock_last_step_seconds", "skewscope_host_clocksource_info",
    )  # fmt: skip

    def __init__(self, place: Place, adjtimex: Adjtimex | None = None) -> None:
        self._place = place
        self._adjtimex = adjtimex
        self._ahead_s: float | None = None  # wall clock minus monotonic clock
        self._steps = 0
        self._last_step_s: float | None = None
        self._errors: list[Sample] = []
        self._errors_due_s = float("-inf")
        self._source = ""
        self._source_due_s = float("-inf")

    def collect(self) -> Iterable[Sample]:
        """Return the clock's state; where the kernel may not be asked, steps and source alone."""
        self._look_for_steps()
        found: list[Sample] = [("skewscope_host_clock_steps_total", (), self._steps)]
        if self._last_step_s is not None:
            found.append(("skewscope_host_clock_last_step_seconds", (), self._last_step_s))
        if self._source:
            found.append(("skewscope_host_clocksource_info", (self._source,), 1))
        now_s = self._place.clock_s()
        if now_s >= self._errors_due_s:
            self._errors_due_s = now_s + ERRORS_EVERY_S
            self._errors = self._ask()
        return found + self._errors

    def _ask(self) -> list[Sample]:
        try:
            self._adjtimex = self._adjtimex or kernel_clock()
            return list(_errors(self._adjtimex()))
        except OSError:  # a seccomp filter forbids it
            return []

    def _look_for_steps(self) -> None:
        before_s, wall_s, after_s = self._place.clock_s(), self._place.now_s(), self._place.clock_s()
        ahead_s, doubt_s = wall_s - (before_s + after_s) / 2, after_s - before_s
        if doubt_s > STEP_S:
            return  # we were held up between the clocks: the next look tells
        if self._ahead_s is not None and abs(ahead_s - self._ahead_s) > STEP_S:
            self._steps += 1
            self._last_step_s = ahead_s - self._ahead_s
        self._ahead_s = ahead_s
        if before_s >= self._source_due_s:
            self._source_due_s = before_s + SOURCE_EVERY_S
            path = f"{self._place.sys}/devices/system/clocksource/clocksource0/current_clocksource"
            self._source = whole(path).decode("ascii", "replace").strip()


def _errors(raw: bytes) -> Iterator[Sample]:
    _, offset, _, maximum_us, estimated_us, status = TIMEX.unpack_from(raw)
    yield "skewscope_host_clock_offset_seconds", (), offset / (1e9 if status & NANOSECONDS else 1e6)
    yield "skewscope_host_clock_max_error_seconds", (), maximum_us / 1e6
    yield "skewscope_host_clock_estimated_error_seconds", (), estimated_us / 1e6
    yield "skewscope_host_clock_synchronized", (), 0 if status & UNSYNCHRONIZED else 1
