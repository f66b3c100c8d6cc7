"""The firmware of a network adapter does not answer its driver, or the driver reports that it is unwell.

Why it hurts
    Commands time out, connections cannot be made or ended, and the port is lost until the adapter is reset: the job on
    that host stops.

How it is seen
    The kernel log says so. A firmware message (command timeout, fatal or unrecoverable error) is enough; of messages
    about health it takes three within the hour, or one while a port of that host is down. The text of an event tells
    the fatal ones (health poll failed) from warnings (heat, power).

Look-alikes
    `ACCESS_REG ... failed` on a restricted adapter is harmless and does not count. A port that goes down without a
    word of the driver is `nic-link-down`. The same message on many hosts at once is a roll-out or the fabric.

What to do
    Drain the host and reset the adapter, or cycle its power; replace it at the second time. Look for heat and power
    where the log names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.view import Signal, signal
from skewscope.subjects import Subject

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import fleet, port
from ._ports import ERRORS, UP, Array

MESSAGES = "skewscope_kernel_messages_total"
FATAL = re.compile(  # NVS and the mlx5 driver
    r"mlx5.*(?:timeout\. Will cause a leak|mlx5_cmd\w*\b(?!.*ACCESS_REG).* failed|unrecoverable|fw_fatal|"
    r"[Hh]ealth poll failed|health compromised|[Ff]atal error \d+ detected|[Ff]irmware (?:internal )?error)"
)


@dataclass(frozen=True)
class NicDriverFault:
    """Thresholds: how many messages, within which time, and how near a port's fall is."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    firmware_count: float = 1.0  # NVS: any is fatal
    health_count: float = 3.0  # NVS: the netdev watchdog in an hour; one may be a warning of heat
    within_s: float = 3600.0
    near_windows_count: int = 4  # D: the port falls within two minutes

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per adapter or host whose driver reports a fault, or one for many at once."""
        told = signal(tables, MESSAGES, take="increase", category="nic_firmware")
        found = list(self._by_firmware(tables, told))
        found += self._by_health(tables, {one.subject.node for one in found})
        found += self._by_completions(tables)
        yield from found
        known = {one.subject.node for one in found}
        told_events = {one.subject.id: one for one in self._told(tables) if one.subject.node not in known}
        if not any(one.subject.kind == "rack" for one in found):
            yield from told_events.values()

    def _by_firmware(self, tables: Frames, told: Signal) -> Iterator[Finding]:
        bad = np.nan_to_num(told.values) >= self.firmware_count
        yield from self._messages(tables, told, bad, self.firmware_count, "firmware", "S1")

    def _by_health(self, tables: Frames, known: set[str]) -> Iterator[Finding]:
        told = signal(tables, MESSAGES, take="increase", category="nic_health")
        grown = np.where(np.isin(told.node, sorted(known)), 0.0, np.nan_to_num(told.values))
        times = max(1, round(self.within_s / told.window_s))
        summed = np.cumsum(grown, axis=0)
        summed[times:] -= summed[:-times].copy()
        fell = np.zeros(grown.shape, dtype=bool)
        for column in np.flatnonzero(grown.any(axis=0)).tolist():
            fell[:, column] = _fallen(tables, told, str(told.node[column]), self.near_windows_count)[0]
        many = _ports.ahead(summed >= self.health_count, times)
        yield from self._messages(tables, told, (grown > 0) & (many | fell), self.health_count, "health", "S2")

    def _messages(
        self, tables: Frames, told: Signal, bad: Array, least: float, kind: str, severity: str
    ) -> Iterator[Finding]:
        for scope in _ports.scopes(told, bad):
            column = int(scope.columns[0])
            count = float(np.nansum(np.where(bad, told.values, 0.0)[:, scope.columns]))
            fell, ports = _fallen(tables, told, str(told.node[column]), self.near_windows_count)
            lost = sorted(ports) if (fell & scope.mask).any() else []
            subject: Subject = scope.subject
            if len(lost) == 1 and subject.kind == "node":
                subject = subjects.nic(subject.node, lost[0])
            yield _live.finding(
                "nic-driver-fault", tables, told, column, scope.mask, role="culprit", subject=subject, ranks=(),
                least="S1" if lost else severity, confidence=0.95 if lost else 0.85,
                evidence=(Evidence(f"{kind}_messages", count, 0.0, least, ""),
                          Evidence("ports_down", float(len(lost)), 0.0, None, "")),
                summary=f"the driver of {subject.id} wrote {count:.0f} {kind} messages, {len(lost)} ports fell then",
                advice="drain the host and reset the adapter; replace it at the second time",
            )  # fmt: skip

    def _by_completions(self, tables: Frames) -> Iterator[Finding]:
        """Yield EFA adapters whose command queue is dead."""
        told = signal(tables, ERRORS, take="increase", error="no_completion")
        bad = np.nan_to_num(told.values) >= self.firmware_count
        for scope in _ports.scopes(told, bad):
            count = float(np.nansum(told.values[scope.mask][:, scope.columns]))
            yield _live.finding(
                "nic-driver-fault", tables, told, int(scope.columns[0]), scope.mask, role="culprit", least="S1",
                subject=scope.subject, ranks=(), confidence=0.9,
                evidence=(Evidence("commands_unanswered", count, 0.0, self.firmware_count, ""),),
                summary=f"{scope.text} left {count:.0f} commands of its driver unanswered",
                advice="drain the host and reset the adapter",
            )  # fmt: skip

    def _told(self, tables: Frames) -> Iterator[Finding]:
        """Yield what the kernel's own text says of hosts whose messages nobody counted."""
        events = tables["events"]
        for row in events[events["event"].isin(["kernel", "nic-fatal"]).to_numpy()].to_dict("records"):
            if row["event"] == "nic-fatal" or FATAL.search(str(row["message"])):  # NCCL tells of fatal events too
                node, device, t_ns = str(row["node"]), str(row["device"]), int(row["t_ns"])
                yield Finding(
                    "nic-driver-fault", subjects.nic(node, device) if device else subjects.node(node), "culprit", "S1",
                    0.9, Window(t_ns, t_ns), 0.0, 0.0, (Evidence("fatal_messages", 1.0, 0.0, 1.0, ""),),
                    f"1 fatal message of the adapter's driver: {str(row['message'])[:80]}",
                    "drain the host and reset the adapter",
                )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a firmware message, or several about health within the time."""
        return Rule(
            "SkewscopeNicDriverFault",
            f'increase({MESSAGES}{{category="nic_firmware"}}[{self.within_s:g}s]) >= {self.firmware_count:g} '
            f'or increase({MESSAGES}{{category="nic_health"}}[{self.within_s:g}s]) >= {self.health_count:g}',
            0, "critical", "the adapter's driver on {{ $labels.node }} reports a fault",
            "{{ $value | humanize }} messages of {{ $labels.category }} in the kernel log of {{ $labels.node }}",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, two warnings, firmware, three warnings, one with a port, a silent port, texts."""
        yield World("quiet", fleet().tables())
        yield World("near-miss", _said("nic_health", 2.0).tables())
        yield World("firmware", _said("nic_firmware", 1.0).tables(), frozenset({"n1"}))
        yield World("health", _said("nic_health", 3.0).tables(), frozenset({"n1"}))
        fallen = port(_said("nic_health", 1.0), UP, 0.0, "layer=physical", since=11)
        yield World("port-fell", fallen.tables(), frozenset({"n1/mlx5_0"}))
        yield World("silent-port", port(fleet(), UP, 0.0, "layer=physical").tables())
        everywhere = fleet().put(MESSAGES, 1.0, labels="category=nic_firmware", since=10, until=11)
        yield World("roll-out", everywhere.tables(), frozenset({"fabric"}))
        timeout = "mlx5_core 0000:1c:00.0: wait_func: MODIFY_QP(0x503) timeout. Will cause a leak of a command resource"
        yield World("text", fleet().event("kernel", node="n2", device="mlx5_1", message=timeout).tables(),
                    frozenset({"n2/mlx5_1"}))  # fmt: skip
        fatal = fleet().event("nic-fatal", node="n2", device="mlx5_1", message="async fatal event: device fatal")
        yield World("logged", fatal.tables(), frozenset({"n2/mlx5_1"}))
        refused = "mlx5_core 0000:1c:00.0: mlx5_cmd_out_err:808:(pid 12): ACCESS_REG(0x805) op_mod(0x1) failed"
        yield World("refused-register", fleet().event("kernel", message=refused).tables())
        yield World("efa", port(fleet(), ERRORS, 2.0, "error=no_completion", until=11).tables(),
                    frozenset({"n1/mlx5_0"}))  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: firmware, health, is a port lost, is an adapter gone."""
        return (
            Check("firmware", "The firmware fails.", MESSAGES, "increase", f">= {self.firmware_count:g}",
                  f'increase({MESSAGES}{{category="nic_firmware"}}[1h])', "go on with `port`", "go on with `health`",
                  {"category": "nic_firmware"}),
            Check("health", "The driver warns of its health.", MESSAGES, "increase", f">= {self.health_count:g}",
                  f'increase({MESSAGES}{{category="nic_health"}}[1h])', "go on with `port`",
                  "a single warning: look for heat or power in the log", {"category": "nic_health"}),
            Check("port", "A port is down.", UP, "low", "< 1", f"{UP} < 1",
                  "go on with `present`", "reset the adapter at the next pause of the job"),
            Check("present", "Adapters are there.", "skewscope_rdma_devices", "low", ">= 1",
                  'skewscope_rdma_devices{source="present"} < on (node) skewscope_rdma_devices{source="expected"}',
                  "reset the adapter now", "it fell off the bus: see pcie-error-replay, cycle the power",
                  {"source": "present"}),
        )  # fmt: skip


def _fallen(tables: Frames, told: Signal, node: str, near: int) -> tuple[Array, set[str]]:
    """Return (where ports of a host go down within the next or last windows, these ports)."""
    up = _ports.known(tables, UP, "low")
    mine = np.flatnonzero(up.node == node)
    down = up.values[:, mine] < 1
    fell = down.copy()
    fell[1:] &= ~down[:-1]
    around = _ports.ahead(fell, near) | _ports.ahead(fell[::-1], near)[::-1]
    if not len(mine) or len(up.t_ns) != len(told.t_ns):
        return np.zeros(len(told.t_ns), dtype=bool), set()
    return np.asarray(around.any(axis=1)), {str(up.device[at]) for at in mine[fell.any(axis=0)]}


def _said(category: str, count: float) -> Fleet:
    return fleet().put(MESSAGES, count, labels=f"category={category}", nodes=["n1"], since=10, until=11)
