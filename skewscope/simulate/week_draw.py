"""Draws a week at random: what happens to which node and job, how bad it is, how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from .week import DAY_NS, HOUR_NS, SECOND_NS, Machine, Outage, Trouble, WeekPlan, Work

SILENT = ("gpu-slow-silent", "pcie-link-degraded", "nvlink-error-rate", "gpu-clock-pinned-low", "nic-phy-degraded")
PASSING = ("host-cpu-contention", "gpu-power-cap", "gpu-squatter", "gpu-hw-slowdown", "host-gc-pause")
HARD = ("gpu-off-bus", "gpu-ecc-uncorrectable", "gpu-gsp-timeout", "nic-link-down", "host-process-stuck")
OF_JOBS = ("data-loader-stall", "pp-stage-imbalance", "moe-hot-expert", "data-sequence-skew")
OF_FABRIC = ("fabric-congestion", "pfc-storm", "ecmp-collision", "rdma-retransmit")
FALSE = ("gpu-slow-silent", "host-cpu-contention", "nic-phy-degraded")


@dataclass
class Draw:
    """Draws all that is random, in a fixed order."""

    plan: WeekPlan
    random: Random
    _numbers: dict[str, int] = field(default_factory=dict)

    def works(self) -> Iterable[Work]:
        """Yield jobs in lanes of nodes: one long after the other in the large ones, short ones in the small."""
        left = int(self.plan.nodes * self.plan.filled)
        for nodes in _lanes(left):
            time_ns = self.plan.start_ns
            while time_ns < self.plan.end_ns:
                days = self.random.lognormvariate(math.log(0.5 + nodes / 8), 0.6)
                end_ns = min(time_ns + int(days * DAY_NS), self.plan.end_ns)
                yield self._work(nodes, time_ns, end_ns)
                time_ns = end_ns + int(self.random.expovariate(1 / 900.0) * SECOND_NS)

    def _work(self, nodes: int, start_ns: int, end_ns: int) -> Work:
        name = self._next("job")
        restarts = tuple(self._times(1.0 / self.plan.crash_days, start_ns, end_ns))
        checkpoint_s = self.random.choice((900.0, 1800.0, 3600.0))
        step_s = self.random.uniform(0.8, 12.0)
        return Work(name, f"{self.random.choice(('llama', 'moe', 'vision', 'tune'))}-{name}", nodes,
                    nodes * self.plan.gpus_per_node, start_ns, end_ns, step_s=step_s, checkpoint_s=checkpoint_s,
                    restarts_ns=restarts)  # fmt: skip

    def of_nodes(self, machines: Sequence[Machine]) -> Iterable[Trouble]:
        """Yield what is wrong, or seems so, with single nodes."""
        for kind in ("slow", "passing", "hard", "false"):
            for onset_ns in self._node_times(getattr(self.plan, kind)):
                yield getattr(self, f"_{kind}")(self.random.choice(machines), onset_ns)

    def _slow(self, machine: Machine, onset_ns: int) -> Trouble:
        share = self._between(0.06, 0.45)
        noticed_ns = onset_ns + self._spread_ns(self.plan.notice_s, 0.7)
        repair_s = self._spread_ns(self.plan.repair_s, 0.6) / SECOND_NS
        return Trouble(
            self._next("slow"), "slow", self.random.choice(SILENT), onset_ns,
            noticed_ns + int(repair_s * SECOND_NS), share, self._told(share), (machine.name,), machine.rack,
            self._gpu(), repair_s=repair_s, confidence=self._between(0.8, 0.99), seen=self._between(0.9, 1.0),
            severity=_severity(share), noticed_ns=noticed_ns, is_misled=self._is_misled(),
        )  # fmt: skip

    def _passing(self, machine: Machine, onset_ns: int) -> Trouble:
        share = self._between(0.05, 0.5)
        return Trouble(
            self._next("passing"), "passing", self.random.choice(PASSING), onset_ns,
            onset_ns + min(self._spread_ns(1200.0, 1.4), 10 * HOUR_NS), share, self._told(share), (machine.name,),
            machine.rack, self._gpu(), confidence=self._between(0.7, 0.97), seen=self._between(0.6, 1.0),
            severity=_severity(share), is_misled=self._is_misled(),
        )  # fmt: skip

    def _hard(self, machine: Machine, onset_ns: int) -> Trouble:
        noticed_ns = onset_ns + self._spread_ns(self.plan.notice_hard_s, 0.6)
        repair_s = self._spread_ns(self.plan.repair_s, 0.6) / SECOND_NS
        return Trouble(
            self._next("hard"), "hard", self.random.choice(HARD), onset_ns, noticed_ns + int(repair_s * SECOND_NS), 1.0,
            1.0, (machine.name,), machine.rack, self._gpu(), repair_s=repair_s, confidence=0.98, severity="S1",
            noticed_ns=noticed_ns,
        )  # fmt: skip

    def _false(self, machine: Machine, onset_ns: int) -> Trouble:
        end_ns = onset_ns + self._spread_ns(900.0, 0.8)
        return Trouble(
            self._next("false"), "false", self.random.choice(FALSE), onset_ns, end_ns, 0.0, self._between(0.05, 0.3),
            (machine.name,), machine.rack, self._gpu(), confidence=self._between(0.55, 0.92),
            seen=self._between(0.3, 0.9), severity="S3",
        )  # fmt: skip

    def shared(self, machines: Sequence[Machine]) -> Iterable[Trouble]:
        """Yield troubles of a rack or of the fabric: several nodes look bad at once."""
        racks = sorted({one.rack for one in machines})
        for onset_ns in self._times(self.plan.shared_per_week / 7, self.plan.start_ns, self.plan.end_ns):
            rack, share = self.random.choice(racks), self._between(0.08, 0.35)
            near = [one.name for one in machines if one.rack == rack]
            far = [one.name for one in machines]
            some = (
                self.random.sample(near, min(len(near), 4))
                if self.random.random() < 0.5
                else self.random.sample(far, 4)
            )
            yield Trouble(
                self._next("shared"), "shared", self.random.choice(OF_FABRIC), onset_ns,
                onset_ns + min(self._spread_ns(2400.0, 1.0), 10 * HOUR_NS), share, self._told(share),
                tuple(sorted(some)), rack, confidence=self._between(0.75, 0.95), seen=self._between(0.8, 1.0),
                severity=_severity(share),
            )  # fmt: skip

    def of_jobs(self, works: Sequence[Work]) -> Iterable[Trouble]:
        """Yield jobs that are slow by their own work."""
        for one in works:
            if self.random.random() < self.plan.job_share:
                share = self._between(0.08, 0.4)
                onset_ns = one.start_ns + int(self.random.random() * 0.3 * (one.end_ns - one.start_ns))
                yield Trouble(
                    self._next("job-trouble"), "job", self.random.choice(OF_JOBS), onset_ns, one.end_ns, share,
                    self._told(share), job=one.id, confidence=self._between(0.8, 0.98), seen=self._between(0.8, 1.0),
                    severity=_severity(share),
                )  # fmt: skip

    def outages(self, machines: Sequence[Machine]) -> Iterable[Outage]:
        """Yield what others drain, for their own reasons."""
        for start_ns in self._node_times(self.plan.drains):
            node, why = self.random.choice(machines).name, self.random.choice(("NHC: disk", "kernel update", "cabling"))
            yield Outage(node, start_ns, start_ns + self._spread_ns(14_400.0, 0.8), why)

    def _node_times(self, per_1000: float) -> list[int]:
        return self._times(per_1000 * self.plan.nodes / 1000, self.plan.start_ns, self.plan.end_ns)

    def _times(self, per_day: float, start_ns: int, end_ns: int) -> list[int]:
        """Return the times of a Poisson process, whole seconds."""
        found, time_ns = [], start_ns
        while per_day > 0:
            time_ns += int(self.random.expovariate(per_day) * DAY_NS) // SECOND_NS * SECOND_NS
            if time_ns >= end_ns:
                break
            found.append(time_ns)
        return found

    def _spread_ns(self, median_s: float, sigma: float) -> int:
        return int(self.random.lognormvariate(math.log(median_s), sigma)) * SECOND_NS

    def _between(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high), 4)

    def _told(self, share: float) -> float:
        """Return what is found of a share: near it, not the same."""
        return round(min(0.95, max(0.01, share * self.random.gauss(1.0, 0.1))), 4)

    def _is_misled(self) -> bool:
        return self.random.random() < self.plan.misled

    def _gpu(self) -> int:
        return self.random.randrange(self.plan.gpus_per_node)

    def _next(self, word: str) -> str:
        self._numbers[word] = self._numbers.get(word, 0) + 1
        return f"{word}{self._numbers[word]}"


def _lanes(nodes: int) -> list[int]:
    """Return sizes of jobs that fill so many nodes: a large one, then halves.

    >>> _lanes(58)
    [29, 14, 7, 4, 2, 1, 1]
    """
    found = []
    while nodes > 0:
        size = max(1, nodes // 2)
        found.append(size)
        nodes -= size
    return found


def _severity(share: float) -> str:
    return "S1" if share >= 0.4 else "S2" if share >= 0.15 else "S3"
