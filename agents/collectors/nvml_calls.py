"""How long the driver takes to answer, and how often it does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_devices import devices

BUCKET_S, BUCKETS = 5.0, 12  # 60 s
NO_LIBRARY = {("Init", "LibraryNotFound")}


class NvmlCalls:
    """Tells of the calls that the other collectors make; makes none itself."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_nvml_call_seconds", "skewscope_nvml_call_max_seconds", "skewscope_nvml_errors_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._longest: dict[str, list[float]] = {}  # call -> longest of each of the last 5 s, newest last
        self._labels: dict[str, tuple[str]] = {}
        self._turned_s = place.clock_s()

    def collect(self) -> Iterable[Sample]:
        """Return sums, counts and the longest call of the last minute, by call, and errors by call and kind."""
        asked = devices(self._place)
        calls = asked.calls
        if not asked.starts and set(calls.errors) <= NO_LIBRARY:
            raise NoData("NVML was never started")
        turns = self._turns()
        found: list[Sample] = []
        for call, times in calls.times.items():
            labels = self._labels.get(call) or self._labels.setdefault(call, (call,))
            longest = self._longest.get(call) or self._longest.setdefault(call, [0.0])
            if turns:
                longest[:] = (longest + [0.0] * turns)[-BUCKETS:]
            longest[-1] = max(longest[-1], times[2])
            times[2] = 0.0
            found.append(("skewscope_nvml_call_seconds_sum", labels, times[0]))
            found.append(("skewscope_nvml_call_seconds_count", labels, times[1]))
            found.append(("skewscope_nvml_call_max_seconds", labels, max(longest)))
        found += [("skewscope_nvml_errors_total", key, count) for key, count in calls.errors.items()]
        return found

    def _turns(self) -> int:
        """Return how many times 5 s have passed since the last turn."""
        turns = int((self._place.clock_s() - self._turned_s) / BUCKET_S)
        self._turned_s += turns * BUCKET_S
        return min(turns, BUCKETS)
