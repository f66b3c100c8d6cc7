"""Packets on a PCIe link are damaged and sent again, or the link reports errors that it cannot mend.

Why it hurts
    Each replay delays what is behind it; many cost bandwidth. The signal that makes them gets worse until the link
    retrains with fewer lanes, or the device falls off the bus and the job stops.

How it is seen
    A fatal error, or non-fatal ones in two windows, at the GPU, its adapter or the bridge above. Or replays, or
    correctable errors, at a minute's rate for most of four minutes, ten times beyond what others of the kind count. Few
    of them are context: they cost nothing yet. From a minute's worth a second on, for most of the last windows, it is
    the culprit where the rank is late or transfers are longer.

Look-alikes
    A single burst after a reset or a hot plug; correctable errors at a trickle on all hosts. `gpu-off-bus`: XID 79 or
    167 follow when the link is lost. `pcie-link-degraded`: the link has already trained down.

What to do
    Reseat, swap the riser or cable, update the retimer's and the switch's firmware. Take the host out after a fatal
    error, and soon where the rate grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import signal

from ._live_groups import groups, judged, peers_of_counts
from ._live_pci import device_at, named
from ._live_worlds import Fleet

REPLAYS, ERRORS = "skewscope_gpu_pcie_replays_total", "skewscope_gpu_pcie_errors_total"
AER, NIC = "skewscope_pcie_aer_errors_total", "skewscope_nic_errors_total"
SIGNAL = ("pcie_signal_receive", "pcie_signal_transmit")
LINE = re.compile(r"PCIe Bus Error: severity=Uncorrect(?:ed|able) \((Fatal|Non-Fatal)\)")
ADDRESS = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")


@dataclass(frozen=True)
class PcieErrorReplay:
    """Thresholds: errors that cannot be mended, rates of those that can, and what they cost."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    errors_count: float = 0.9  # fatal or non-fatal in a window {conditions A2: any}
    again_count: int = 2  # windows of twenty with non-fatal errors: one is a probe that was refused {D}
    replays_per_s: float = 1 / 60  # {conditions A2: more than 1 a minute}
    many_per_s: float = 1.0  # {conditions A2: more than 60 a minute}
    peers_ratio: float = 10.0  # {conditions A2: ten times the own median}
    cost_ratio: float = 0.005  # of the step: below it is context; a bad link that costs anything is one {D}
    held_count: int = 4  # of `of_count` windows {NVRX: 15 of 30 for links}
    of_count: int = 8
    many_held_count: int = 3  # of `many_of_count` windows, where there are many {conditions A12}
    many_of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per device with errors, per host of such devices, or for the job."""
        seen: set[str] = set()
        for found in (*self._hard(tables), *self._rates(tables), *self._written(tables)):
            bridge = ":" in found.subject.id and found.subject.node in seen
            if found.subject.id not in seen and not bridge:
                seen |= {found.subject.id, found.subject.node}
                yield found

    def _hard(self, tables: Frames) -> Iterator[Finding]:
        for severity, least in (("fatal", "S1"), ("nonfatal", "S2")):
            of_gpus = signal(tables, ERRORS, take="increase", error=severity)
            for told in (of_gpus, signal(tables, AER, take="increase", severity=severity)):
                any_ = told.values >= self.errors_count
                often = lasting(any_, self.again_count, 20) if severity == "nonfatal" else any_
                devices = named(told, tables, any_)
                for group in groups(devices, any_, tables):
                    count = float(np.nansum(told.values[:, list(group.columns)]))
                    sure = bool(often[:, list(group.columns)].any())
                    found = judged(
                        "pcie-error-replay", tables, devices, group, cost_ratio=0.0, least=least if sure else "S3",
                        evidence=(Evidence(f"{severity}_errors", count, 0.0, self.errors_count, "errors"),),
                        summary=f"{count:.0f} {severity} PCIe errors at {group.name(devices)}",
                        advice="take the host out, reseat the card and read the kernel log for the kind of error",
                        link=True,
                    )  # fmt: skip
                    yield replace(found, role="culprit" if sure else "context")

    def _rates(self, tables: Frames) -> Iterator[Finding]:
        for counts in (
            signal(tables, REPLAYS, take="increase"), signal(tables, AER, take="increase", severity="correctable"),
            signal(tables, NIC, take="increase", error=SIGNAL),
        ):  # fmt: skip
            told = counts.rate()
            if not (told.values >= self.replays_per_s).any():
                continue
            usual = peers_of_counts(told, tables)
            some = (told.values >= self.replays_per_s) & (told.values >= self.peers_ratio * usual)
            many, more = told.values >= self.many_per_s, told.values >= STRONG_RATIO * self.many_per_s
            mask = lasting(some, self.held_count, self.of_count)
            mask |= lasting(some & many, self.many_held_count, self.many_of_count, strong=more)
            devices = named(told, tables, mask)
            for group in groups(devices, mask, tables):
                rate, baseline = group.mean(told.values), group.mean(usual)
                costly = rate >= self.many_per_s
                yield judged(
                    "pcie-error-replay", tables, devices, group, cost_ratio=self.cost_ratio if costly else 2.0,
                    least="S3" if costly else "S4", link=True, proven=costly,
                    evidence=(Evidence("replays", rate, baseline, self.replays_per_s, "errors_per_s"),),
                    summary=f"{rate * 60:.0f} packets a minute are sent again on the PCIe link of "
                    f"{group.name(devices)}, {baseline * 60:.1f} elsewhere",
                    advice="reseat the card, riser or cable; look at the firmware of retimer and switch",
                    confidence=0.85,
                )  # fmt: skip

    def _written(self, tables: Frames) -> Iterator[Finding]:
        """Yield findings from lines of kernel logs, one a device; corrected errors are not worth one."""
        events = tables["events"]
        kernel = events[(events["event"].astype(str) == "kernel").to_numpy()]
        lines: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for row in kernel.to_dict("records"):
            said, where = LINE.search(str(row["message"])), ADDRESS.search(str(row["message"]))
            if said:
                key = str(row["node"]), where[0] if where else ""
                lines.setdefault(key, []).append((int(row["t_ns"]), said[1]))
        for (node, address), told in lines.items():
            fatal = any(kind == "Fatal" for _, kind in told)
            sure = fatal or len(told) >= self.again_count
            device = device_at(tables, node, address) if address else ""
            subject = subjects.nic(node, device) if device else subjects.node(node)
            yield Finding(
                "pcie-error-replay", subjects.gpu(node, device[3:]) if device.startswith("gpu") else subject,
                "culprit" if sure else "context", "S1" if fatal else "S2" if sure else "S3", 0.9,
                Window(min(t_ns for t_ns, _ in told), max(t_ns for t_ns, _ in told)), 0.0, 0.0,
                (Evidence("kernel_messages", float(len(told)), 0.0, self.errors_count, "messages"),),
                f"the kernel of {node} tells of {len(told)} uncorrected PCIe errors at {device or 'a device'}",
                "take the host out, reseat the card and read the kernel log for the kind of error",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: replays at the higher rate for minutes, or any fatal error."""
        return Rule(
            "SkewscopePcieErrorReplay",
            f"rate({REPLAYS}[4m]) >= {self.many_per_s:g} or "
            f'increase({ERRORS}{{error="fatal"}}[4m]) >= {self.errors_count:g} or '
            f'increase({AER}{{severity="fatal"}}[4m]) >= {self.errors_count:g}',
            60, "warning", "the PCIe link of a device of {{ $labels.instance }} makes errors",
            "GPU {{ $labels.gpu }}{{ $labels.device }} of {{ $labels.instance }}: {{ $value }} errors",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: fatal errors, replays, both ends of the link, retraining, and XIDs."""
        recovery, xid = "skewscope_gpu_pcie_recovery_entries_total", "skewscope_gpu_xid_errors_total"
        return (
            Check("fatal", "Did the device or its bridge report a fatal error?", AER, "increase", ">= 1",
                  f'increase({AER}{{severity="fatal"}}[1h])', "take the host out", "none: see `replays`",
                  {"severity": "fatal"}),
            Check("replays", "Are packets sent again?", REPLAYS, "rate", f">= {self.replays_per_s:g}",
                  f"rate({REPLAYS}[10m])", "the signal is bad: see `retrains`", "the GPU replays nothing"),
            Check("correctable", "Do errors stand at one end only?", AER, "rate", f">= {self.replays_per_s:g}",
                  f'rate({AER}{{severity="correctable"}}[10m])',
                  "role endpoint: what the device receives is bad; role upstream: what it sends",
                  "both ends are quiet", {"severity": "correctable"}),
            Check("retrains", "Does the link retrain?", recovery, "increase", ">= 1", f"increase({recovery}[1h])",
                  "it will lose lanes: see `pcie-link-degraded`", "it holds", after=("replays",)),
            Check("lost", "Did the GPU fall off the bus?", xid, "increase", ">= 1",
                  f'increase({xid}{{xid="79"}}[1h])', "see `gpu-off-bus`", "it is still there", {"xid": "79"}),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, few, a burst, a trickle everywhere, many and late, fatal, non-fatal, by the log."""
        yield World("quiet", _replays(0.0).tables())
        yield World("near-miss", _replays(0.4).tables())
        yield World("burst", _replays(2000.0, until=11).tables())
        yield World("everywhere", Fleet().put(REPLAYS, 5.0, devices=[f"gpu{n}" for n in range(4)]).tables())
        yield World("look-alike-late", Fleet().late(1, 0.1).tables())
        yield World("many", _replays(300.0).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        yield World("some", _replays(2.0).tables(), frozenset({"n0/gpu1"}))
        fatal = Fleet().put(AER, 1.0, labels="role=endpoint,severity=fatal", nodes=["n0"], devices=["0000:1b:00.0"],
                            since=10, until=11)  # fmt: skip
        fatal.put("skewscope_gpu_info", 1.0, labels="pci_bus_id=00000000:1B:00.0", nodes=["n0"], devices=["gpu1"])
        yield World("fatal", fatal.tables(), frozenset({"n0/gpu1"}))
        text = "pcieport 0000:1a:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer"
        log = Fleet().event("kernel", node="n1", message=text)
        yield World("log", log.tables(), frozenset({"n1/0000:1a:00.0"}))
        mended = text.replace("Uncorrected (Fatal)", "Corrected")
        yield World("log-corrected", Fleet().event("kernel", node="n1", message=mended).tables())


def _replays(count: float, until: int | None = None) -> Fleet:
    """Return a fleet of which one GPU replays so many packets a window."""
    fleet = Fleet()
    fleet.put(REPLAYS, 0.0, devices=fleet.gpus)
    return fleet.put(REPLAYS, count, nodes=["n0"], devices=["gpu1"], since=10, until=until)
