"""Calls into the driver: noted before they start, timed, and counted when they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Any

# What NVML returns instead of success.
UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 1, 2, 3, 4, 6
DRIVER_NOT_LOADED, TIMEOUT, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 10, 12, 13
GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND = 15, 16, 18, 26, 28

ABSENT = frozenset((NOT_SUPPORTED, FUNCTION_NOT_FOUND, 22, 25, DEPRECATED))  # this GPU or driver does not have it
GONE = frozenset((UNINITIALIZED, DRIVER_NOT_LOADED, VERSION_MISMATCH))  # the driver went away under us
LOST = frozenset((GPU_IS_LOST, GPU_NOT_FOUND))
QUIET = frozenset((("GetSamples", NOT_FOUND), ("EventSetWait_v2", TIMEOUT)))  # how a call says that nothing is new
# Called with our own buffers, as the wrapper makes new ones each time and is slow to read from them.
RAW = frozenset((
    "GetFieldValues", "GetSamples", "GetCurrentClocksEventReasons", "GetUtilizationRates", "GetClockInfo",
    "GetPerformanceState", "GetMemoryInfo_v2", "GetTemperatureV", "GetMarginTemperature", "GetCurrPcieLinkGeneration",
    "GetCurrPcieLinkWidth",
))  # fmt: skip


class Calls:
    """The only way to the driver. `calling(slot, call)` is told before each call which GPU it may hang on (-1: none).

    A call is named without its prefix: `GetClockInfo` is nvmlDeviceGetClockInfo, `Init` is nvmlInit.
    """

    def __init__(self, nvml: Any, calling: Callable[[int, str], None]) -> None:  # noqa: ANN401 - a module or a fake
        self.nvml = nvml
        self.error: type[Exception] = nvml.NVMLError
        self.times: dict[str, list[float]] = {}  # call -> [sum (s), count, longest (s) since it was last taken]
        self.errors: Counter[tuple[str, str]] = Counter()
        self._calling = calling
        self._known: dict[str, tuple[Callable[..., Any], list[float]]] = {}

    def run(self, slot: int, call: str, *arguments: Any) -> Any:  # noqa: ANN401 - whatever NVML takes and gives
        """Return what the wrapper's function answers; raises its error, counted."""
        function, times = self._known.get(call) or self._find(call)
        self._calling(slot, call)
        start_s = perf_counter()
        try:
            return function(*arguments)
        except self.error as error:
            self.note(call, error)
            raise
        finally:
            _add(times, perf_counter() - start_s)

    def code(self, slot: int, call: str, *arguments: Any) -> int:  # noqa: ANN401 - handles, numbers and buffers
        """Return the code of a raw call, 0 where it filled the buffers; another one is counted."""
        function, times = self._known.get(call) or self._find(call)
        self._calling(slot, call)
        start_s = perf_counter()
        code: int = function(*arguments)
        _add(times, perf_counter() - start_s)
        if code:
            self.note_code(call, code)
        return code

    def note(self, call: str, error: Exception) -> None:
        """Count an error, unless it only says that there is nothing."""
        code = code_of(error)
        if code not in ABSENT and (call, code) not in QUIET:
            self.errors[call, _name(error)] += 1

    def note_code(self, call: str, code: int) -> None:
        """Count an error that came as a bare code."""
        self.note(call, self.error(code))

    def _find(self, call: str) -> tuple[Callable[..., Any], list[float]]:
        """Return a function and where its times go; raises "function not found" for what driver or wrapper lack."""
        times = self.times.setdefault(call, [0.0, 0, 0.0])
        function: Callable[..., Any] | None
        if call in RAW:
            function = self.nvml._nvmlGetFunctionPointer(f"nvmlDevice{call}")
        else:
            function = getattr(self.nvml, f"nvml{call}", None) or getattr(self.nvml, f"nvmlDevice{call}", None)
        if function is None:  # an older wrapper than ours
            raise self.error(FUNCTION_NOT_FOUND)
        self._known[call] = function, times
        return function, times


def _add(times: list[float], seconds: float) -> None:
    times[0] += seconds
    times[1] += 1
    if seconds > times[2]:
        times[2] = seconds


def code_of(error: Exception) -> int:
    """Return NVML's number of an error, 999 (unknown) where it has none."""
    return int(getattr(error, "value", 999))


def _name(error: Exception) -> str:
    kind = type(error).__name__.removeprefix("NVMLError_")
    return kind if kind != "NVMLError" else f"code_{code_of(error)}"
