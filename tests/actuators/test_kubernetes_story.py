"""One incident from its first note to the node's return, by the engine, on a cluster that is spoken to over HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

from skewscope.acting.audit import Audit
from skewscope.acting.book import Book
from skewscope.acting.engine import Engine, Extras
from skewscope.acting.entry import of_command, of_request
from skewscope.acting.lease import Held
from skewscope.acting.lines import MemoryLines
from skewscope.acting.pace import Pace
from skewscope.acting.performing import Performer
from skewscope.acting.recovery import recover
from skewscope.acting.retesting import Came
from skewscope.acts import Fleet
from skewscope.policy.cases import Around, Case
from skewscope.policy.settings import Policy

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
JOBS = run_path(str(Path(__file__).with_name("test_kubernetes_jobs.py")))
world, own, SECOND_NS = WORLDS["world"], WORLDS["own"], 10**9
RULES = {
    "mode": "act", "schedulers": {"kubernetes": {"dry_run": False}}, "work": {"evict": True},
    "ladder": {"verbs": ["note", "avoid", "exclude", "drain", "quarantine"], "step_s": 600.0},
    "capacity": {"spare_nodes": 0},
}  # fmt: skip


class Free:
    """A lease that everybody holds."""

    def take(self) -> Held:
        return Held(True, "us")

    def release(self) -> None:
        """Nothing is held."""

    def working(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


class Timed:
    """An actuator whose looks are at the time of a test's clock."""

    def __init__(self, site: Site, actuator: Any) -> None:
        self._site, self._actuator = site, actuator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._actuator, name)

    def look(self) -> Fleet:
        return replace(self._actuator.look(), read_ns=self._site.now_ns)


class Site:
    """An engine at a cluster, and a clock that a test moves."""

    def __init__(self, world: Any, node: str, **rules: Any) -> None:
        self.now_ns = 1_750_000_000 * SECOND_NS
        self.audit = Audit(MemoryLines(), lambda: self.now_ns)
        extras = Extras(
            False, judge=lambda text, node, since_ns: Came("pass", text.strip()), pace=Pace(1e9, sleep=lambda _: None)
        )
        self.engine = Engine(
            Policy.parse({**RULES, **rules}), {"kubernetes": Timed(self, world.kubernetes)}, self.audit, Free(), extras
        )
        self.case = Case(
            "c0ffee", "gpu-thermal", node, node=node, job="llama", ranks=16, severity="S2", confidence=0.99, share=0.4,
            lost_gpus=6.0, opened_ns=self.now_ns - 3600 * SECOND_NS, seen_count=5, of_count=5, steps=500, peers=15,
            summary='"rank 7"; is slow',
        )  # fmt: skip

    def turn(self, after_s: float, **changed: Any) -> list[tuple[str, str]]:
        self.now_ns += int(after_s * SECOND_NS)
        case = replace(self.case, seen_ns=self.now_ns, **changed)
        return [(one["phase"], one["verb"]) for one in self.engine.turn([case], Around(self.now_ns))]


def test_a_slow_node_is_noted_avoided_drained_tested_and_returned(world: Any) -> None:
    n1, n2 = JOBS["free"](world, "n1", "n2")
    before = {name: world.raw(name) for name in (n1, n2)}
    JOBS["job"](world)
    tests = world.inside is not None
    seen = WORLDS["with_settings"](world, test_image="i") if tests else world
    site = Site(seen, n1, retest={"required": tests})

    for verb in ("note", "avoid", "exclude", "drain"):
        assert site.turn(700.0) == [("intended", verb), ("done", verb)]
        assert site.turn(1.0) == []
    world.until(lambda: JOBS["nodes_of"](world, "llama") == [n2, n2])
    world.until(lambda: world.state(n1).idle)
    assert world.raw(n2) == before[n2]

    if tests:
        world.inside.kubelet = lambda pod: ("as fast as its peers", "Succeeded")
    told = site.turn(3600.0, healthy=True)
    assert told == [("testing", "drain"), ("tested", "drain")] or not tests
    for _ in range(9):
        told += site.turn(30.0, healthy=True)
    undone = {verb for phase, verb in told if phase == "undone"}
    assert undone == {"note", "avoid", "exclude", "drain"}
    world.until(lambda: world.raw(n1) == before[n1])
    assert site.turn(30.0, healthy=True) == []
    assert JOBS["nodes_of"](world, "llama") == [n2, n2]


def test_what_the_policy_does_not_let_happen_leaves_the_cluster_as_it_was(world: Any) -> None:
    (n1,) = JOBS["free"](world, "n1")
    before = world.client.get(f"/api/v1/nodes/{n1}")
    for rules in ({"mode": "observe"}, {"schedulers": {"kubernetes": {"dry_run": True}}}, {"mode": "approve"}):
        site = Site(world, n1, **rules)
        assert {phase for phase, _ in site.turn(700.0)} <= {"observed", "proposed"}
    assert world.client.get(f"/api/v1/nodes/{n1}") == before


def test_a_restart_that_a_crash_cut_off_is_gone_on_with(own: Any) -> None:
    JOBS["free"](own, "n1", "n2")
    id_ = JOBS["job"](own, annotations=JOBS["ALLOWED"])
    command = own.command("requeue", id_)
    hand = Performer("kubernetes", own.kubernetes, Book(Audit(MemoryLines())), Pace(1e9, sleep=lambda _: None))
    hand.write("intended", scheduler="kubernetes", **of_request(command.request), **of_command(command), dry_run=False)
    own.client.send(command.steps[0].words[0], command.steps[0].words[1], command.steps[0].body)
    own.settle()
    assert JOBS["nodes_of"](own, "llama") == []
    recover(hand, own.kubernetes.look())
    own.settle()
    assert JOBS["nodes_of"](own, "llama") == ["n1", "n2"]
    assert [one["phase"] for one in hand.book.audit.records()] == ["intended", "waiting", "intended", "done"]
