"""Time in which tasks of the host stood still for want of CPU, memory, disk or because of interrupts (PSI)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._proc import Kept

PRESSURE = "skewscope_host_pressure_seconds_total"
LOOK_AGAIN_S = 30.0  # kernels before 6.1 have no pressure of interrupts


class HostPressure:
    """Reads <proc>/pressure/*."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (PRESSURE,)

    def __init__(self, place: Place) -> None:
        self._files = [
            (Kept(f"{place.proc}/pressure/{name}"), {b"some": (name, "some"), b"full": (name, "full")})
            for name in ("cpu", "memory", "io", "irq")
        ]
        self._absent_until_s = dict.fromkeys((file.path for file, _ in self._files), float("-inf"))
        self._clock_s = place.clock_s

    def collect(self) -> Iterable[Sample]:
        """Return the total stall times; raises NoData where the kernel does not count them."""
        found: list[Sample] = []
        now_s = self._clock_s()
        for file, labels in self._files:
            if now_s < self._absent_until_s[file.path]:
                continue
            words = file.read().split()  # kind, three averages, total=N; for each kind
            if not words:
                self._absent_until_s[file.path] = now_s + LOOK_AGAIN_S
            for kind, total_us in zip(words[::5], words[4::5], strict=False):
                if kind in labels and total_us[:6] == b"total=" and total_us[6:].isdigit():
                    found.append((PRESSURE, labels[kind], int(total_us[6:]) / 1e6))
        if not found:
            raise NoData("pressure stall information is off; it needs Linux 4.20 and perhaps psi=1 at boot")
        return found
