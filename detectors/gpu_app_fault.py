"""A program made an illegal access or ran into a fault on a GPU; again and again on one GPU it may be the hardware.

Why it hurts
    The program ends. Nearly always it is a fault of the program, and a healthy node is drained for it; rarely one part
    of the GPU computes wrong addresses, and every program that runs there ends the same way.

How it is seen
    XID 13, 31, 11, 25, 32, 68, 69, 80, 137, 8 or those of copy engines. Twice within a day on one GPU, with no fault
    on others of the job: suspect hardware; for XID 13, where the log names them, on the same GPC and TPC. On three
    GPUs or more at once, or each time on another GPU of the job: the program.

Look-alikes
    One such XID is the program's and is not told. XID 43 and 45 follow from others. `gpu-ecc-uncorrectable` ends
    programs too, and says so. XID 137 and 80 may point to links: `nvlink-down`, `pcie-error-replay`.

What to do
    Spread over GPUs: debug the program (compute-sanitizer). On one GPU: run DCGM's EUD on it before it takes work
    again. Never drain a node for a single XID 13 or 31.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.impact import costs
from skewscope.subjects import Subject
from skewscope.xid_policy import POLICY

from . import _crowds, _hard_events, _xids
from ._live_worlds import Fleet
from ._xids import Burst

NAME = "gpu-app-fault"
FOLLOWING = (43, 45)  # they come after another one
PLACE = re.compile(r"GPC (\d+)\D+TPC (\d+)")


@dataclass(frozen=True)
class GpuAppFault:
    """Thresholds: bursts on one GPU within a day, GPUs at once, and what counts as at once."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    bursts_count: int = 2  # NVSentinel: twice on the same GPU (31), or the same GPC and TPC (13)
    within_s: float = 86_400.0  # NVSentinel: 24 h
    alone_ratio: float = 4 / 3  # OWN: a GPU is suspected where others of its job have a quarter of all bursts at most
    spread_count: int = 3  # OWN: so many GPUs at once have one cause, the program
    together_s: float = 180.0  # NVSentinel: a burst of XID 31 lasts three minutes
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU with repeated faults of its own, and notes on programs that fail everywhere."""
        codes = [code for code in POLICY.codes(NAME) if code not in FOLLOWING]
        bursts = _xids.bursts(tables, codes)
        own: dict[tuple[str, str, int], list[Burst]] = {}
        for group in self._at_once(bursts):
            if len({(one.node, one.device) for one in group}) >= self.spread_count:
                yield self._of_program(tables, group)
                continue
            for burst in group:
                own.setdefault((burst.node, burst.device, burst.code), []).append(burst)
        yield from self._over_time(tables, own)
        troubles = [_again(tables, again) for mine in own.values() if (again := self._repeated(mine))]
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s, alone=True)

    def _over_time(self, tables: Frames, own: dict[tuple[str, str, int], list[Burst]]) -> Iterable[Finding]:
        """Yield programs that fail again, each time on another GPU of their job; takes their bursts out of `own`."""
        by_job: dict[tuple[str, int], list[tuple[str, str, int]]] = {}
        for node, device, code in own:
            cost = costs(tables).of_device(node, device)[0]
            if cost is not None:
                by_job.setdefault((cost.job, code), []).append((node, device, code))
        for keys in by_job.values():
            bursts = [burst for key in keys for burst in own[key]]
            most = max(len(own[key]) for key in keys)
            if len(bursts) > self.alone_ratio * most and len(bursts) >= self.bursts_count:
                yield self._of_program(tables, bursts)
                for key in keys:
                    own.pop(key)

    def _at_once(self, bursts: Sequence[Burst]) -> Iterable[list[Burst]]:
        """Yield bursts of all GPUs and codes that came together."""
        group: list[Burst] = []
        for burst in bursts:
            if group and burst.start_ns - max(one.end_ns for one in group[-64:]) > self.together_s * 1e9:
                yield group
                group = []
            group.append(burst)
        if group:
            yield group

    def _repeated(self, mine: Sequence[Burst]) -> list[Burst]:
        """Return the last bursts within a day that point to one place, [] where they are too few."""
        recent = [one for one in mine if one.start_ns >= mine[-1].end_ns - self.within_s * 1e9]
        places = [found.groups() for one in recent if (found := PLACE.search(one.message))]
        most = max((places.count(place) for place in places), default=len(recent))
        return recent if most >= self.bursts_count else []

    def _of_program(self, tables: Frames, group: Sequence[Burst]) -> Finding:
        gpus = sorted({(one.node, one.device) for one in group})
        codes = ", ".join(str(code) for code in sorted({one.code for one in group}))
        window = Window(min(one.start_ns for one in group), max(one.end_ns for one in group) + int(self.recent_s * 1e9))
        return Finding(
            NAME, _shared(tables, gpus), "context", "S4", 0.9, window, 0.0, 0.0,
            (Evidence("gpus_with_it", float(len(gpus)), 1.0, float(self.spread_count), "count"),),
            f"XID {codes} on {len(gpus)} GPUs of the same program: its fault, not that of a GPU",
            "debug the program (compute-sanitizer); no node needs to be drained",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the same code again on one GPU, but not on many."""
        codes = "|".join(str(code) for code in POLICY.codes(NAME) if code not in FOLLOWING)
        counts = f'increase({_xids.COUNTS}{{xid=~"{codes}"}}[{self.within_s:g}s])'
        return Rule(
            "SkewscopeGpuAppFault",
            f"max by (node, gpu, xid) ({counts}) >= {self.bursts_count:g} unless on (xid) "
            f"count by (xid) (max by (node, gpu, xid) ({counts}) > 0) >= {self.spread_count:g}",
            0, "warning", "GPU {{ $labels.gpu }} of {{ $labels.node }} had XID {{ $labels.xid }} again",
            "only this GPU has XID {{ $labels.xid }} again and again: run diagnostics before it takes work",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, one 31, 43 and 45, another code, other places; twice on a GPU, everywhere."""
        yield World("quiet", Fleet().tables())
        yield World("near-miss", _faults(31, (8,)).tables())
        yield World("followers", _faults(45, (3, 12), into=_faults(43, (3, 12))).tables())
        yield World("two-codes", _faults(31, (3,), into=_faults(13, (14,))).tables())
        yield World("memory", _faults(94, (3, 14)).tables())
        elsewhere = [_warp(tpc) for tpc in (1, 5)]
        yield World("other-places", _faults(13, (3, 14), messages=elsewhere).tables())
        yield World("again", _faults(31, (3, 14)).tables(), frozenset({"n1/gpu2"}))
        yield World("same-place", _faults(13, (3, 14), messages=[_warp(1), _warp(1)]).tables(), frozenset({"n1/gpu2"}))
        moves = _faults(31, (3,)).event("xid", node="n0", device="gpu1", code=31, window=14)
        yield World("each-time-another", moves.tables(), frozenset({"llm"}))
        many = Fleet().put(_xids.COUNTS, 1.0, labels="xid=31,source=nvml", devices=["gpu0", "gpu1", "gpu2"], since=10,
                           until=11)  # fmt: skip
        mixed = _faults(31, (3, 16)).event("xid", node="n0", device="gpu1", code=31, window=10)
        yield World("mostly-one", mixed.tables(), frozenset({"llm"}))
        one = _faults(31, (1, 8, 15, 22)).event("xid", node="n0", device="gpu1", code=31, window=4)
        yield World("nearly-alone", one.tables(), frozenset({"n1/gpu2"}))
        yield World("program", many.tables(), frozenset({"llm"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: again, memory errors, a lost link."""
        errors = "skewscope_gpu_ecc_errors_total"
        return (
            Check("again", "Did XID 31 come on this GPU?", _xids.COUNTS, "increase", ">= 1",
                  f'increase({_xids.COUNTS}{{xid="31"}}[1d])', "memory", "graphics", {"xid": "31"}),
            Check("graphics", "Did XID 13 come on this GPU?", _xids.COUNTS, "increase", ">= 1",
                  f'increase({_xids.COUNTS}{{xid="13"}}[1d])', "memory",
                  "look for other codes in the kernel log of the host", {"xid": "13"}, ("again",)),
            Check("memory", "Were there memory errors that could not be corrected?", errors, "increase", ">= 1",
                  f'increase({errors}{{severity="uncorrected"}}[1d])', "see `gpu-ecc-uncorrectable`",
                  "on this GPU alone and again: run EUD on it; on many GPUs: debug the program",
                  {"severity": "uncorrected"}, ("again", "graphics")),
        )  # fmt: skip


def _again(tables: Frames, mine: Sequence[Burst]) -> _hard_events.Trouble:
    first, last = mine[0], mine[-1]
    recovery = _hard_events.Asked(tables).of(first.node, first.device, first.start_ns, last.end_ns)
    why = f"XID {first.code} {len(mine)} times on this GPU alone ({POLICY.of(first.code).meaning}): suspect hardware"
    verdict = POLICY.weighed("validate", why, recovery)
    evidence = Evidence(f"xid_{first.code}", float(len(mine)), 0.0, 2.0, "count")
    return _hard_events.Trouble(first.node, first.device, first.start_ns, last.end_ns, verdict, (evidence,))


def _shared(tables: Frames, gpus: Sequence[tuple[str, str]]) -> Subject:
    """Return the job on these GPUs, else their host, else the hosts."""
    known = costs(tables)
    jobs = {cost.job for node, device in gpus[:64] if (cost := known.of_device(node, device)[0]) is not None}
    nodes = dict.fromkeys(node for node, _ in gpus)
    if len(jobs) == 1:
        return subjects.job(jobs.pop())
    return subjects.node(next(iter(nodes))) if len(nodes) == 1 else _crowds.wide(nodes)


def _warp(tpc: int) -> str:
    return f"NVRM: Xid (PCI:0000:1b:00): 13, Graphics SM Warp Exception on (GPC 0, TPC {tpc}, SM 0): Out Of Range"


def _faults(code: int, at: tuple[int, ...], *, messages: Sequence[str] = (), into: Fleet | None = None) -> Fleet:
    fleet = into or Fleet()
    texts = messages or [""] * len(at)
    for window, message in zip(at, texts, strict=True):
        fleet.event("xid", node="n1", device="gpu2", code=code, message=message, window=window)
    return fleet
