"""A rank may only use CPUs of the other socket than the one its GPU hangs on.

Why it hurts
    Every copy to and from the GPU, every launch and every byte that NCCL moves through host memory crosses the link
    between the sockets, which is slower, shared, and busy with others who do the same.

How it is seen
    None or next to none of the CPUs that the rank may use are near its GPU. It was so from the start and stays so. A
    rank that may use all CPUs is not bound at all and is half near; it is left alone. How much of its memory lies far
    away is not told by the agent; memory is first touched where the threads run.

Look-alikes
    `pcie-link-degraded`: copies are slow as well, but the link has fewer lanes than it can have and the binding is
    right. `host-cpu-contention`: the rank waits for CPUs, near or far.

What to do
    Bind ranks by the GPU's NUMA node (`numactl --cpunodebind`, `--numa-bind`, the launcher's affinity option); give a
    container a cpuset that holds CPUs near its GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import signal

from ._live_groups import groups, judged, usual
from ._live_worlds import Fleet

LOCAL = "skewscope_rank_numa_local"


@dataclass(frozen=True)
class HostNumaMisbinding:
    """Thresholds: the share of near CPUs below which a rank is bound elsewhere, and what that costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    local_ratio: float = 0.05  # no common CPU {conditions A1, D}; unbound is 1/2 to 1/8, by the count of NUMA nodes
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank that is bound elsewhere, per host of such ranks, or for the job."""
        told = signal(tables, LOCAL)
        far, strong = told.values < self.local_ratio, told.values < self.local_ratio / STRONG_RATIO
        mask = lasting(far, self.held_count, self.of_count, strong)
        if not mask.any():
            return
        expected = usual(told, tables)
        for group in groups(told, mask, tables):
            near, peers = group.mean(told.values), group.mean(expected)
            yield judged(
                "host-numa-misbinding", tables, told, group, cost_ratio=self.cost_ratio,
                evidence=(Evidence("numa_local", near, peers, self.local_ratio, "ratio"),),
                summary=f"{near:.0%} of the CPUs that {group.name(told)} may use are near the GPU, "
                f"where {peers:.0%} is usual",
                advice="bind the rank to the NUMA node of its GPU, or give its container CPUs of that node",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a rank has no CPU near its GPU."""
        return Rule(
            "SkewscopeHostNumaMisbinding", f"{LOCAL} < {self.local_ratio:g}", 30 * self.held_count, "info",
            "rank {{ $labels.rank }} is bound to the wrong socket",
            "{{ $value | humanizePercentage }} of the CPUs of rank {{ $labels.rank }} on {{ $labels.instance }} are "
            "near its GPU {{ $labels.gpu }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the binding, the link, what the rank's copies take, and pages that move."""
        width, phase = "skewscope_gpu_pcie_link_width_lanes", "skewscope_phase_seconds_total"
        moved = "skewscope_host_numa_migrated_bytes_total"
        return (
            Check("binding", "Are the rank's CPUs near its GPU?", LOCAL, "mean", f"< {self.local_ratio:g}", LOCAL,
                  "it is bound to another socket; `copies` tells whether that costs", "the binding is right"),
            Check("copies", "Do its copies to the GPU take much of its time?", phase, "rate", ">= 0.05",
                  f'rate({phase}{{phase="h2d"}}[5m])', "they cross the sockets: bind it",
                  "it costs little: mend it at the next start", {"phase": "h2d"}, ("binding",)),
            Check("link", "Does the GPU's link have all its lanes?", width, "low", ">= 16",
                  f'{width}{{kind="current"}}', "the link is whole, so the binding explains slow copies",
                  "see `pcie-link-degraded`", {"kind": "current"}, ("binding",)),
            Check("pages", "Does the kernel move pages between sockets?", moved, "rate", "> 1e6", f"rate({moved}[5m])",
                  "automatic balancing repairs at the rank's cost: bind memory too (`--membind`)",
                  "memory stays where it is", after=("binding",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: bound, unbound, nearly far, a degraded link, a rank far away, a host, the whole job."""
        yield World("quiet", _bound().tables())
        yield World("look-alike-unbound", _bound(0.5).late(1, 0.1).tables())
        yield World("near-miss", _bound().put(LOCAL, 0.06, nodes=["n0"], devices=["gpu1"]).late(1, 0.1).tables())
        narrow = _bound().put("skewscope_gpu_pcie_link_width_lanes", 4.0, labels="kind=current", devices=["gpu1"])
        yield World("look-alike-link", narrow.late(1, 0.1).tables())
        far = _bound().put(LOCAL, 0.0, nodes=["n0"], devices=["gpu1"])
        yield World("far", far.late(1, 0.1, since=0).tables(), frozenset({"n0/gpu1"}))
        half = _bound().put(LOCAL, 0.0, nodes=["n1"], devices=["gpu2", "gpu3"])
        yield World("far-host", half.tables(), frozenset({"n1"}))
        yield World("far-job", _bound(0.0).tables(), frozenset({"llm"}))


def _bound(share: float = 1.0) -> Fleet:
    fleet = Fleet()
    return fleet.put(LOCAL, share, devices=fleet.gpus)
