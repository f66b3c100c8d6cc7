"""A GPU is lost: it no longer answers on the bus, or the host lists fewer GPUs than it has.

Why it hurts
    The rank on it is dead and all others wait until a timeout ends the job. A job that starts afterwards gets a node
    with too few GPUs.

How it is seen
    XID 79 (off the bus), 167 (fatal timeout on PCIe) or 54 (no auxiliary power); the driver calls the GPU lost for two
    windows; or it lists fewer GPUs than the settings or the PCI bus say, on a host that had them all or has been up
    for five minutes. Most GPUs of a host at once: its PCIe switch, riser or power.

Look-alikes
    While the driver is being loaded there are no GPUs: that is waited out. `gpu-gsp-timeout`: the GPU is on the bus and
    its firmware is stuck. A scrape that is missing is no missing GPU. XID 45 only follows another one.

What to do
    Drain the node and reboot it; power-cycle it where the GPU stays away. At the second time look at seating, riser and
    power, and have the GPU serviced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from . import _hard_events, _xids
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
STATE, DEVICES = "skewscope_gpu_access_state", "skewscope_gpu_devices"
NAME = "gpu-off-bus"


@dataclass(frozen=True)
class GpuOffBus:
    """Thresholds: windows that a state must hold, how long a host may take to load its driver."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    missing_count: float = 1.0  # conditions A3: fewer than expected
    held_count: int = 2  # gpud: two polls
    grace_s: float = 300.0  # NVSentinel issue 1423: faults were told while the driver was being installed
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per lost GPU, or per host that misses some without saying which."""
        lost = signal(tables, STATE, state="lost")
        mask = lasting(lost.values >= 0.5, self.held_count, self.held_count)  # the greater part of a window
        troubles = _hard_events.of_xids(tables, NAME)
        troubles += _hard_events.of_states(tables, lost, mask, "drain_reboot", "the driver calls the GPU lost", STATE)
        named = {one.node for one in troubles}
        missing = self._missing(tables)
        mask = lasting(missing.values >= self.missing_count, self.held_count, self.held_count)
        mask = mask & ~np.isin(missing.node.astype(str), sorted(named))
        troubles += _hard_events.of_states(
            tables, missing, mask, "drain_reboot", "{value} GPUs are missing", DEVICES, threshold=self.missing_count
        )
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s)

    def _missing(self, tables: Frames) -> Signal:
        """Return how many GPUs each host misses, unknown while its driver may still be loading."""
        listed = signal(tables, DEVICES, take="high", source="nvml")
        if not len(listed):
            return listed
        wanted = np.full(listed.values.shape, np.nan)
        for source in ("expected", "pci"):
            wanted = np.fmax(wanted, listed.aligned(signal(tables, DEVICES, take="low", source=source)))
        missing = wanted - listed.values
        seen_whole = np.cumsum(missing <= 0, axis=0) > 0
        known = np.isfinite(listed.values)
        first = np.where(known.any(axis=0), np.argmax(known, axis=0), 0)
        told_s = (np.arange(len(known))[:, None] - first[None]) * listed.window_s
        values = np.where(seen_whole | (told_s >= self.grace_s), missing, np.nan)
        return Signal(
            listed.t_ns, listed.window_s, listed.node, listed.device, listed.job, listed.rank, values
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: lost, missing, or a code of it."""
        return Rule(
            "SkewscopeGpuOffBus",
            f'{STATE}{{state="lost"}} == 1 or on (node) {DEVICES}{{source="expected"}} - on (node) '
            f'{DEVICES}{{source="nvml"}} >= {self.missing_count:g} or {_hard_events.alert(NAME, self.recent_s)}',
            self.held_count * 30, "critical", "a GPU of {{ $labels.node }} is lost",
            "a GPU of {{ $labels.node }} is off the bus or missing: drain the node and reboot it",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: all there, a loading driver, one look, 45 alone; XID 79, lost, missing, a host's switch."""
        yield World("quiet", _devices().tables())
        yield World("driver-loads", _devices().put(DEVICES, 0.0, labels="source=nvml", nodes=["n1"], until=9).tables())
        yield World("near-miss", _lost("gpu1", until=11).tables())
        yield World("follows", Fleet().event("xid", device="gpu1", code=45).tables())
        yield World("firmware", Fleet().event("xid", device="gpu1", code=119).tables())
        counted = _devices().put(_xids.COUNTS, 1.0, labels="xid=79,source=kmsg", nodes=["n1"], devices=["gpu1"],
                                 since=10, until=11)  # fmt: skip
        yield World("xid-79", counted.tables(), frozenset({"n1/gpu1"}))
        yield World("lost", _lost("gpu1").tables(), frozenset({"n1/gpu1"}))
        fewer = _devices().put(DEVICES, 3.0, labels="source=nvml", nodes=["n1"], since=10)
        yield World("missing", fewer.tables(), frozenset({"n1"}))
        yield World("switch", _lost("gpu0", "gpu1", "gpu2").tables(), frozenset({"n1"}))
        text = "NVRM: Xid (PCI:0000:1b:00): 79, pid=77, GPU has fallen off the bus."
        yield World("log", Fleet().event("kernel", device="gpu0", message=text).tables(), frozenset({"n0/gpu0"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: lost, on the bus at all, PCIe errors before."""
        errors = "skewscope_gpu_pcie_errors_total"
        return (
            Check("lost", "Does the driver call the GPU lost?", STATE, "last", ">= 1", f'{STATE}{{state="lost"}}',
                  "errors", "listed", {"state": "lost"}),
            Check("listed", "Are fewer than eight GPUs listed? Compare with what the host has.", DEVICES, "low", "< 8",
                  f'{DEVICES}{{source="nvml"}}', "compare with the count on the bus; go on with `errors`",
                  "all are there: look at XIDs and at `gpu-gsp-timeout`", {"source": "nvml"}, ("lost",)),
            Check("errors", "Did its PCIe link have fatal errors?", errors, "increase", ">= 1",
                  f'increase({errors}{{error="fatal"}}[1h])', "riser, seating, signal; see `pcie-error-replay`",
                  "no errors before: power or heat; power-cycle the node", {"error": "fatal"}, ("lost", "listed")),
        )  # fmt: skip


def _devices() -> Fleet:
    fleet = Fleet()
    for source in ("nvml", "pci", "expected"):
        fleet.put(DEVICES, 4.0, labels=f"source={source}")
    return fleet


def _lost(*devices: str, until: int = 20) -> Fleet:
    return _devices().put(STATE, 1.0, labels="state=lost", nodes=["n1"], devices=devices, since=10, until=until)
