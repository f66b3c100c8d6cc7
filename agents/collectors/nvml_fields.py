"""Power, energy, time under a clock limit, ECC, traffic: what one call of the driver gives for each GPU at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._gpm_window import supports_gpm
from ._nvml_batch import ALL_LINKS, Batch, Field
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device
from ._nvml_states import States, Widened

POWER, ENERGY, MEMORY_DEGREES = (
    "skewscope_gpu_power_watts", "skewscope_gpu_energy_joules_total", "skewscope_gpu_temperature_celsius",
)  # fmt: skip
CLOCKS = "skewscope_gpu_clock_event_seconds_total"
SENT, RECEIVED = "skewscope_gpu_nvlink_transmit_bytes_total", "skewscope_gpu_nvlink_receive_bytes_total"
ECC = "skewscope_gpu_ecc_errors_total"
KIB = 1 / 1024
# field, metric, further labels, what to divide by; of two rows for one series the first that answers counts
# fmt: off
PLAIN: tuple[tuple[Field, str, tuple[str, ...], float], ...] = (
    ((185, 0), POWER, ("average",), 1e3), ((186, 0), POWER, ("instant",), 1e3), ((186, 1), POWER, ("module",), 1e3),
    ((83, 0), ENERGY, (), 1e3), ((82, 0), MEMORY_DEGREES, ("memory",), 1),
    ((74, 0), CLOCKS, ("sw_power_cap",), 1e9), ((76, 0), CLOCKS, ("sync_boost",), 1e9),
    ((269, 0), CLOCKS, ("sw_thermal",), 1e9), ((270, 0), CLOCKS, ("hw_thermal",), 1e9),
    ((271, 0), CLOCKS, ("hw_power_brake",), 1e9), ((77, 0), CLOCKS, ("board_limit",), 1e9),
    ((78, 0), CLOCKS, ("low_utilization",), 1e9), ((79, 0), CLOCKS, ("reliability",), 1e9),
    ((138, ALL_LINKS), SENT, (), KIB), ((202, ALL_LINKS), SENT, (), 1),
    ((139, ALL_LINKS), RECEIVED, (), KIB), ((204, ALL_LINKS), RECEIVED, (), 1),
    ((297, 0), "skewscope_gpu_mma_stall_ratio", (), 100),
)
# field -> (severity, lifetime), with NVML's numbers of both
ECC_TOTALS: dict[Field, tuple[str, str, int, int]] = {
    (3, 0): ("corrected", "volatile", 0, 0), (4, 0): ("uncorrected", "volatile", 1, 0),
    (5, 0): ("corrected", "aggregate", 0, 1), (6, 0): ("uncorrected", "aggregate", 1, 1),
}
# fmt: on
SRAM, DRAM = 7, 2
PCIE: dict[Field, str] = {
    (197, 0): "skewscope_gpu_pcie_transmit_bytes_total",
    (198, 0): "skewscope_gpu_pcie_receive_bytes_total",
}
RECOVERY, RESET = (230, 0), (226, 0)
ACTIONS = (
    "none", "reset", "node_reboot", "drain_p2p", "drain_and_reset", "recover_imex", "bus_reset", "system_reboot",
)  # fmt: skip
FALLBACKS = ((POWER, ("average",), "GetPowerUsage"), (ENERGY, (), "GetTotalEnergyConsumption"))
NARROW = 1  # the value type of 32 bits


class Plan:
    """What the fields of one GPU become."""

    def __init__(self, asked: Devices, device: Device) -> None:
        wanted = [*(row[0] for row in PLAIN), *ECC_TOTALS, *PCIE, RECOVERY, RESET]
        self.batch = Batch(asked, device, wanted)
        self.plain: list[tuple[int, str, tuple[str, ...], float]] = []  # place in the batch, metric, labels, divisor
        place = {field: at for at, field in enumerate(self.batch.fields)}
        had: set[tuple[str, tuple[str, ...]]] = set()
        for field, metric, more, divisor in PLAIN:
            if field in place and (metric, more) not in had:
                had.add((metric, more))
                self.plain.append((place[field], metric, (*device.labels, *more), divisor))
        told = {metric for metric, _ in had}
        self.fallbacks = [
            (metric, (*device.labels, *more), call) for metric, more, call in FALLBACKS if metric not in told
        ]
        self.recovery, self.reset = place.get(RECOVERY), place.get(RESET)
        self.actions = States("skewscope_gpu_recovery_action", device.labels, ACTIONS)
        self.ecc = [(place[field], numbers) for field, numbers in ECC_TOTALS.items() if field in place]
        self.ecc_totals: list[int | float | None] = []
        self.ecc_samples: list[Sample] = []
        self.pcie = self._pcie(asked, device, place)
        self.counted = frozenset(told | {metric for _, metric, _ in self.pcie})

    def _pcie(self, asked: Devices, device: Device, place: dict[Field, int]) -> list[tuple[int, str, Widened]]:
        """Return the byte counters; GPM is better than one of 32 bits, which a busy link wraps many times a second."""
        found = []
        for field, metric in PCIE.items():
            if field not in place:
                continue
            narrow = self.batch.types[place[field]] == NARROW
            if not (narrow and supports_gpm(asked, device)):
                found.append((place[field], metric, device.totals.setdefault(metric, Widened(32 if narrow else 64))))
        return found


class NvmlFields:
    """Reads one batch of field values a GPU."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        POWER, ENERGY, MEMORY_DEGREES, CLOCKS, SENT, RECEIVED, ECC, *PCIE.values(), "skewscope_gpu_recovery_action",
        "skewscope_gpu_mma_stall_ratio",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now. Raises NoData where no GPU has any of these."""
        asked = devices(self._place)
        found: list[Sample] = []
        ready = asked.ready()
        for device in ready:
            plan: Plan | None = device.kept.get("fields")
            if plan is None or plan.batch.stale():
                plan = Plan(asked, device)
                if not plan.batch.good:
                    continue
                device.kept["fields"], device.kept["counted"] = plan, plan.counted
            self._read(asked, device, plan, found)
        if not found and ready:
            raise NoData("no GPU here has field values")
        return found

    def _read(self, asked: Devices, device: Device, plan: Plan, found: list[Sample]) -> None:
        values = plan.batch.read()
        for metric, labels, call in plan.fallbacks:
            milli = asked.ask(device, call)
            if milli is not None:
                found.append((metric, labels, milli / 1e3))
        if not values:
            return
        for at, metric, labels, divisor in plan.plain:
            value = values[at]
            if value is not None:
                found.append((metric, labels, value / divisor if divisor != 1 else value))
        for at, metric, widened in plan.pcie:
            value = values[at]
            if value is not None:
                found.append((metric, device.labels, widened.grow(int(value))))
        if plan.ecc:
            self._ecc(asked, device, plan, [values[at] for at, _ in plan.ecc])
            found += plan.ecc_samples
        action = None if plan.recovery is None else values[plan.recovery]
        if action is not None and action < len(ACTIONS):
            found += plan.actions.only(ACTIONS[int(action)])
        device.wants_reset = plan.reset is not None and bool(values[plan.reset])

    def _ecc(self, asked: Devices, device: Device, plan: Plan, totals: list[int | float | None]) -> None:
        """Ask where the errors are only when their number has changed."""
        if totals == plan.ecc_totals:
            return
        samples: list[Sample] = []
        for total, (_, (severity, lifetime, *numbers)) in zip(totals, plan.ecc, strict=True):
            if total is None:
                continue
            labels = (*device.labels, severity, lifetime)
            dram = asked.ask(device, "GetMemoryErrorCounter", *numbers, DRAM)
            if dram is None:
                samples.append((ECC, (*labels, "all"), total))
                continue
            sram = asked.ask(device, "GetMemoryErrorCounter", *numbers, SRAM)
            samples.append((ECC, (*labels, "dram"), dram))
            samples.append((ECC, (*labels, "sram"), max(total - dram, 0) if sram is None else sram))
        plan.ecc_totals, plan.ecc_samples = totals, samples
