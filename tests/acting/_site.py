"""One engine on a cluster in memory, and its clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path

from skewscope.acting.engine import Engine, Extras
from skewscope.acting.lines import MemoryLines
from skewscope.policy.settings import Policy

W = run_path(str(Path(__file__).with_name("_world.py")))
Cluster, Fake, Clock, Desk, MemoryLease = W["Cluster"], W["Fake"], W["Clock"], W["Desk"], W["MemoryLease"]


def policy(mode="act", **changed):
    told = {"mode": mode, "schedulers": {"fake": {"dry_run": False}}, "ladder": {"start": "drain", "verbs": ["drain"]},
            "capacity": {"spare_nodes": 0}, "retest": {"required": False}}  # fmt: skip
    return Policy.parse({**told, **changed})


class Site:
    """A cluster of eight nodes, its scheduler, one engine, and a clock."""

    def __init__(
        self, policy_=None, lines=None, desk=None, owner="a", cluster=None, clock=None, dry_run=False, **extras
    ):
        self.clock = clock or Clock()
        self.cluster = cluster or Cluster.of(8, {"train": ("n2", "n3")})
        self.fake = Fake(self.cluster, now_ns=self.clock)
        self.lines = lines or MemoryLines()
        self.audit = W["audit"](self.clock, self.lines)
        self.desk = desk or Desk()
        self.engine = Engine(
            policy_ or policy(), {"fake": self.fake}, self.audit, MemoryLease(self.desk, owner),
            Extras(dry_run, pace=W["free_pace"](), **extras),
        )  # fmt: skip

    def turn(self, *cases, after_s=30.0, steps=None, **around):
        now_ns = self.clock.on(after_s)
        fresh = [replace(one, seen_ns=now_ns) for one in cases]
        return self.engine.turn(fresh, W["around"](now_ns, **around), steps)

    def phases(self):
        return [one["phase"] for one in self.audit.records()]


def phases(records):
    return [one["phase"] for one in records]
