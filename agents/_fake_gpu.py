"""One GPU as plain values: what a stand-in for NVML answers from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

ALL_LINKS = 0xFFFFFFFF
ENERGY, PCIE_BYTES, NVLINK_KIB = 83, (197, 198), (138, 139)
LINK_FIELDS = (161, 162, 163)  # of each link, and summed under ALL_LINKS
COUNTED_REASONS = {0x4: 74, 0x10: 76, 0x20: 269, 0x40: 270, 0x80: 271, 0x200: 77, 0x400: 79}  # bit -> field (ns)
GPU_SAMPLE_S = 0.1
ZERO = (3, 4, 5, 6, 38, 45, 52, 59, 74, 76, 77, 78, 79, 94, 142, 143, 144, 145, 160, 169, *range(173, 184), 226, 230,
        269, 270, 271, 297)  # fmt: skip


def _fields() -> dict[int, int | float]:
    """Return the values of a healthy GPU by field id."""
    found: dict[int, int | float] = dict.fromkeys(ZERO, 0)
    return found | {
        82: 50, ENERGY: 5_000_000_000, 185: 400_000, 186: 410_000, 188: 700_000, 189: 700_000, 190: 700_000,
        192: 700_000, 138: 1 << 30, 139: 1 << 30, 197: 1 << 40, 198: 1 << 40, 170: 0,
    }  # fmt: skip


@dataclass
class FakeLink:
    """One NVLink; `errors` by field id."""

    state: int = 1
    megabytes_per_s: int = 26_562
    errors: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LINK_FIELDS, 0))


@dataclass
class FakeGpu:
    """One GPU. `fault` is an error code that all calls return; `on_call` is called first and may wait or raise."""

    uuid: str
    pci_bus_id: str
    minor: int
    model: str = "NVIDIA H100 80GB HBM3"
    fault: int = 0
    faults: dict[str, int] = field(default_factory=dict)  # call without prefix -> error code
    on_call: Callable[[str], None] | None = None
    fields: dict[int, int | float] = field(default_factory=_fields)
    field_faults: dict[int, int] = field(default_factory=dict)
    narrow_fields: frozenset[int] = frozenset()  # given as 32 bits, wrapping
    links: list[FakeLink] = field(default_factory=lambda: [FakeLink() for _ in range(18)])
    utilization_percent: int = 90
    memory_percent: int = 30
    sm_mhz: int = 1980
    memory_mhz: int = 2619
    reasons: int = 0
    performance_state: int = 0
    memory_used: int = 60 << 30
    memory_total: int = 80 << 30
    bar1_used: int = 1 << 20
    celsius: int = 55
    margin_celsius: int = 32
    thresholds: dict[int, int] = field(default_factory=lambda: {0: 95, 1: 89, 2: 95, 3: 87})
    pcie: dict[str, int] = field(default_factory=lambda: {"gen": 5, "width": 16, "max_gen": 5, "max_width": 16})
    ecc: dict[tuple[int, int, int], int] = field(default_factory=dict)  # severity, lifetime, location
    remapped: tuple[int, int, int, int] = (0, 0, 0, 0)
    banks: tuple[int, int, int, int, int] = (640, 0, 0, 0, 0)
    sram_exceeded: int = 0
    modes: dict[str, int] = field(default_factory=lambda: {"ecc": 1, "mig": 0, "persistence": 1})
    fabric_state: int = 3
    fabric_mask: int = 0x51AA  # everything watched and healthy
    event_types: int = 0x2 | 0x8 | 0x200 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000
    gpm: dict[int, float] = field(default_factory=lambda: {
        2: 80.0, 3: 40.0, 4: 10.0, 5: 50.0, 6: 0.0, 7: 50.0, 8: 0.0, 9: 0.0, 10: 35.0, 11: 0.0, 12: 12.0, 13: 3.0,
        20: 100.0, 21: 200.0, 60: 1000.0, 61: 1000.0,
    })  # fmt: skip
    processes: list[tuple[int, int | None]] = field(default_factory=list)  # pid, bytes
    mps_processes: list[tuple[int, int | None]] = field(default_factory=list)
    samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=100))  # us, percent

    def value(self, number: int, scope: int) -> int | float | None:
        """Return one field value, None where the GPU does not have it."""
        if number == 91:
            return len(self.links)
        if number in (164, 165) or number in LINK_FIELDS:
            return self._of_links(number, scope)
        return None if number == 186 and scope else self.fields.get(number)

    def _of_links(self, number: int, scope: int) -> int | None:
        if scope < len(self.links):
            link = self.links[scope]
            return {164: link.megabytes_per_s, 165: link.state}.get(number, link.errors.get(number))
        return sum(link.errors[number] for link in self.links) if number in LINK_FIELDS else None

    def advance(self, now_s: float, seconds: float) -> None:
        """Let counters grow."""
        self.fields[ENERGY] += int(self.fields[186] * seconds)
        for number in PCIE_BYTES:
            self.fields[number] += int(1e9 * seconds)
        for number in NVLINK_KIB:
            self.fields[number] += int(1e8 * seconds)
        for bit, number in COUNTED_REASONS.items():
            if self.reasons & bit:
                self.fields[number] += int(seconds * 1e9)
        first = self.samples[-1][0] if self.samples else int((now_s - seconds) * 1e6)
        for at in range(1, int((now_s * 1e6 - first) / (GPU_SAMPLE_S * 1e6)) + 1):
            self.samples.append((first + int(at * GPU_SAMPLE_S * 1e6), self.utilization_percent))
