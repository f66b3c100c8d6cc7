"""NVLinks of a GPU are down, or the GPU is not part of its NVLink fabric.

Why it hurts
    A job that needs the links stops with the first transfer over them; one that starts afterwards falls back to PCIe
    and is many times slower inside the node, or does not start.

How it is seen
    Fewer links are up than before, or than on the GPUs that do the same, for two windows; the fabric state is no longer
    complete or the fabric manager calls it unhealthy; XID 136 or 155; XID 74 or 144 to 150 twice within a day; a fatal
    SXid of an NVSwitch. Most GPUs of a host at once: its switches or its fabric manager.

Look-alikes
    Links that sleep are up. Boards without NVLink bridges never had a link up, and neither had their peers.
    `nvlink-error-rate`: links are up and send again. One XID 74 with all links up is a note for the next one.

What to do
    Reset the GPU (all GPUs of the host where switches are concerned) and restart the fabric manager. At the second time
    look at the connector, the tray or the switch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal
from skewscope.xid_policy import POLICY

from . import _hard_events, _live, _xids
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
LINKS, STATE, ILL = "skewscope_gpu_nvlink_links", "skewscope_gpu_fabric_state", "skewscope_gpu_fabric_unhealthy"
LINES = "skewscope_kernel_messages_total"
FATAL = re.compile(r"SXid \([^)]*\): (\d+), Fatal")
NAME = "nvlink-down"


@dataclass(frozen=True)
class NvlinkDown:
    """Thresholds: links that are missing, and for how many windows."""

    category: ClassVar[str] = "nvlink"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    links_count: float = 1.0  # conditions A4: any inactive link
    held_count: int = 2  # A12: two windows
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU with links down, or per host or rack where most are."""
        missing = self._missing(tables)
        apart, ill = self._apart(tables), signal(tables, ILL, take="low")
        lines = _xids.appeared(tables, LINES, category="nvswitch_sxid")
        troubles = [
            *_hard_events.of_xids(tables, NAME, once=False),
            *_hard_events.of_states(tables, missing, self._held(missing.values >= self.links_count), "drain_reset",
                                    "{value} NVLinks are down", LINKS, threshold=self.links_count),
            *_hard_events.of_states(tables, apart, self._held(apart.values >= 1), "drain_reset",
                                    "the GPU is not part of its NVLink fabric", STATE),
            *_hard_events.of_states(tables, ill, self._held(ill.values >= 1), "drain_reset",
                                    "the fabric manager calls its NVLink fabric unhealthy", ILL),
            *_hard_events.of_states(tables, lines, lines.values >= 1, "annotate",
                                    "{value} messages of NVSwitches", LINES),
            *_fatal(tables),
        ]  # fmt: skip
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s)

    def _held(self, mask: Array) -> Array:
        return lasting(mask, self.held_count, self.held_count)

    def _missing(self, tables: Frames) -> Signal:
        """Return how many links each GPU has less than before, or than its peers of the same kind."""
        up = signal(tables, LINKS, take="high", state="active")
        if not len(up):
            return up
        values = up.values + np.nan_to_num(up.aligned(signal(tables, LINKS, take="high", state="sleep")))
        wanted = np.fmax.reduce(up.aligned(signal(tables, LINKS, state="expected")), axis=0)
        alike = [f"{job}/{count:g}" for job, count in zip(_live.roles(up, tables), wanted, strict=True)]
        before = np.fmax.accumulate(values, axis=0)
        return replace(up, values=np.fmax(before, peer_median(values, np.array(alike))) - values)

    def _apart(self, tables: Frames) -> Signal:
        """Return 1 where a GPU has left its fabric, or never joined it as its peers did."""
        joined = signal(tables, STATE, take="high", state="completed")
        if not len(joined):
            return joined
        before = np.fmax.accumulate(joined.values, axis=0)
        usual = np.fmax(before, peer_median(joined.values, _live.roles(joined, tables)))
        return replace(joined, values=usual - joined.values)

    def alert(self) -> Rule:
        """Return the alert: fewer links than an hour before, the fabric, or a code of it."""
        up = f'{LINKS}{{state="active"}} + on (node, gpu) {LINKS}{{state="sleep"}}'
        return Rule(
            "SkewscopeNvlinkDown",
            f"max_over_time(({up})[1h:1m]) - ({up}) >= {self.links_count:g} or {ILL} == 1 "
            f"or {_hard_events.alert(NAME, self.recent_s)}",
            self.held_count * 30, "critical", "NVLinks of GPU {{ $labels.gpu }} are down",
            "GPU {{ $labels.gpu }} of {{ $labels.node }} has NVLinks down or is not part of its fabric",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: up, asleep, no bridges, a flap, one XID 74; down, from the start, a host, codes, a switch."""
        yield World("quiet", _links(18.0).tables())
        asleep = _links(0.0).put(LINKS, 18.0, labels="state=sleep", nodes=["n1"], devices=["gpu2"], since=10)
        yield World("asleep", asleep.tables())
        none = Fleet()
        none.put(LINKS, 0.0, labels="state=active", devices=none.gpus)
        yield World("no-bridges", none.put(LINKS, 18.0, labels="state=inactive", devices=none.gpus).tables())
        yield World("near-miss", _links(17.0, until=11).tables())
        yield World("one-74", _xid(74).tables())
        yield World("down", _links(17.0).tables(), frozenset({"n1/gpu2"}))
        yield World("from-the-start", _links(16.0, since=0).tables(), frozenset({"n1/gpu2"}))
        host = ("gpu0", "gpu1", "gpu2", "gpu3")
        yield World("host", _links(0.0, devices=host).tables(), frozenset({"n1"}))
        twice = _xid(74).put(_xids.COUNTS, 1.0, labels="xid=74,source=nvml", nodes=["n1"], devices=["gpu2"], since=16,
                             until=17)  # fmt: skip
        yield World("twice-74", twice.tables(), frozenset({"n1/gpu2"}))
        yield World("training", _xid(136).tables(), frozenset({"n1/gpu2"}))
        text = "nvidia-nvswitch2: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
        yield World("switch", Fleet().event("kernel", node="n1", message=text).tables(), frozenset({"n1"}))
        apart = _links(18.0).put(STATE, 1.0, labels="state=completed", devices=host)
        apart.put(STATE, 0.0, labels="state=completed", nodes=["n1"], devices=["gpu2"], since=10)
        yield World("apart", apart.tables(), frozenset({"n1/gpu2"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: links, fabric, switches, what the driver wants."""
        action = _hard_events.ASKED
        return (
            Check("down", "Are links inactive?", LINKS, "last", ">= 1", f'{LINKS}{{state="inactive"}}', "switches",
                  "fabric", {"state": "inactive"}),
            Check("fabric", "Has the GPU joined its fabric?", STATE, "last", ">= 1", f'{STATE}{{state="completed"}}',
                  "links and fabric are fine: see `nvlink-error-rate`", "restart the fabric manager; `switches`",
                  {"state": "completed"}, ("down",)),
            Check("switches", "Did NVSwitches complain in the kernel log?", LINES, "increase", ">= 1",
                  f'increase({LINES}{{category="nvswitch_sxid"}}[1h])',
                  "a switch or its links: reset all GPUs of the host; go on with `recovery`", "recovery",
                  {"category": "nvswitch_sxid"}, ("down", "fabric")),
            Check("recovery", "Does the driver ask for nothing?", action, "last", ">= 1", f'{action}{{action="none"}}',
                  "restart the program and watch", "do what it asks for, with the node drained", {"action": "none"},
                  ("switches",)),
        )  # fmt: skip


def _fatal(tables: Frames) -> Iterator[_hard_events.Trouble]:
    """Yield the hosts whose kernel log tells of a fatal error of an NVSwitch."""
    events = tables["events"]
    row: Any
    for row in events[events["event"].isin(["sxid", "kernel"]).to_numpy()].itertuples():
        named = FATAL.search(str(row.message))
        if named:
            why = f"SXid {named[1]}: fatal error of an NVSwitch"
            evidence = (Evidence(f"sxid_{named[1]}", 1.0, 0.0, 1.0, "count"),)
            verdict = POLICY.weighed("drain_reset", why)
            yield _hard_events.Trouble(str(row.node), "", int(row.t_ns), int(row.t_ns), verdict, evidence)


def _links(up: float, *, devices: tuple[str, ...] = ("gpu2",), since: int = 10, until: int = 20) -> Fleet:
    fleet = Fleet()
    for state, count in (("active", 18.0), ("sleep", 0.0), ("expected", 18.0)):
        fleet.put(LINKS, count, labels=f"state={state}", devices=fleet.gpus)
    return fleet.put(LINKS, up, labels="state=active", nodes=["n1"], devices=devices, since=since, until=until)


def _xid(code: int) -> Fleet:
    labels = f"xid={code},source=nvml"
    return Fleet().put(_xids.COUNTS, 1.0, labels=labels, nodes=["n1"], devices=["gpu2"], since=10, until=11)
