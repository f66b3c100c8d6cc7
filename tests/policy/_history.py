"""Random histories of incidents, foreign drains, failures, crashes and clock jumps, driven by the policy alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

from skewscope.acts import Fleet, JobState, NodeState
from skewscope.policy.breaker import trips
from skewscope.policy.cases import Around, Case
from skewscope.policy.decide import decide, returns
from skewscope.policy.ledger import Ledger
from skewscope.policy.settings import Policy

ORACLE = run_path(str(Path(__file__).with_name("_oracle.py")))
NS = 10**9
START_NS = 1_750_000_000 * NS
FOREIGN = ("anna", "NHC", "")


@dataclass
class History:
    """One cluster's past: `lines` of its audit, what `broke`, and how often things happened (`seen`)."""

    random: Random
    policy: Policy  # decides
    strict: Policy  # judges
    now_ns: int = START_NS
    lines: list[dict[str, Any]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    foreign: dict[str, str] = field(default_factory=dict)
    fenced: dict[str, set[str]] = field(default_factory=dict)  # node -> acts of ours that the scheduler shows
    cases: dict[str, Case] = field(default_factory=dict)
    broke: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def __post_init__(self) -> None:
        pick = self.random
        self.size = pick.choice((8, 24, 60, 150))
        self.full = pick.random() < 0.15  # no node is idle
        self.groups = {f"n{at}": (f"g{at % pick.choice((1, 2))}",) for at in range(self.size)}
        self.jobs = {f"j{at}": tuple(f"n{one}" for one in range(at * 3, at * 3 + 3)) for at in range(self.size // 5)}

    def run(self, turns: int) -> History:
        for _ in range(turns):
            self._pass_time()
            self._happens()
            self.turn()
        return self

    def _pass_time(self) -> None:
        chance = self.random.random()
        if chance < 0.02:
            self.now_ns -= self.random.randrange(7200) * NS
        elif chance < 0.04:
            self.now_ns += self.random.randrange(86_400) * NS
        else:
            self.now_ns += self.random.choice((30, 30, 300, 700, 1900, 7200)) * NS

    def _happens(self) -> None:
        pick, nodes = self.random, [f"n{at}" for at in range(self.size)]
        if pick.random() < 0.1:
            self.foreign[pick.choice(nodes)] = pick.choice(FOREIGN)
        for name in list(self.foreign):
            if pick.random() < 0.15:
                del self.foreign[name]
        for name, case in list(self.cases.items()):
            chance = pick.random()
            if chance < 0.1:
                self.cases[name] = replace(case, healthy=True)
            elif chance < 0.15 or (case.healthy and chance < 0.5):
                del self.cases[name]
        for _ in range(pick.choice((0, 0, 0, 1, 1, 4))):
            self.number += 1
            self.cases[f"i{self.number}"] = self._case(f"i{self.number}", pick.choice(nodes[:12]))

    def _case(self, incident: str, node: str) -> Case:
        pick = self.random
        job = next((job for job, nodes in self.jobs.items() if node in nodes), "")
        weak = pick.random() < 0.2
        case = Case(
            incident, pick.choice(("gpu-slow-silent", "gpu-slow-silent", "gpu-off-bus")), f"{node}/gpu0", node, job=job,
            ranks=24, role=pick.choice((*("culprit",) * 19, "victim")), confidence=0.95, share=pick.uniform(0.17, 0.9),
            lost_gpus=pick.uniform(0.5, 24), opened_ns=self.now_ns - pick.choice((0, 0, 2000)) * NS, seen_count=5,
            of_count=5, steps=300, peers=23, summary=pick.choice(("it is slow", 'x"; rm -rf / \n$(boom) \u202e')),
        )  # fmt: skip
        return self._thinner(case) if weak else case

    def _thinner(self, case: Case) -> Case:
        pick = self.random
        return replace(
            case, confidence=pick.uniform(0.5, 0.99), share=pick.choice((0.05, 0.12, 0.15, 0.5)),
            seen_count=pick.choice((3, 4)), steps=pick.choice((-1, 30, 60)), peers=pick.choice((2, 5)),
        )  # fmt: skip

    def fleet(self) -> Fleet:
        nodes = {}
        for at in range(self.size):
            name = f"n{at}"
            jobs = tuple(job for job, some in self.jobs.items() if name in some)
            ours = self.fenced.get(name)
            out, owner = name in self.foreign, self.foreign.get(name, "skewscope" if ours else "")
            nodes[name] = NodeState(
                name, not (out or ours), owner, "", not (jobs or self.full), jobs, self.groups[name], f"r{at // 4}"
            )
        jobs_now = {job: JobState(job, nodes=some, wants_nodes=3, may_restart=True) for job, some in self.jobs.items()}
        return Fleet("slurm", nodes, jobs_now, self.now_ns - NS, self.random.random() > 0.03)

    def turn(self) -> None:
        pick, fleet = self.random, self.fleet()
        cases = tuple(
            replace(one, seen_ns=self.now_ns - pick.choice((5, 5, 5, 500)) * NS) for one in self.cases.values()
        )
        alarms = ({"severity": "critical", "alertname": "PowerLost"},) if pick.random() < 0.05 else ()
        around = Around(
            self.now_ns, "stop" if pick.random() < 0.03 else "", alarms, "blind" if pick.random() < 0.03 else ""
        )
        self._recover()
        known = self._known()
        for one in returns(self.policy, "slurm", cases, fleet, self.ledger, around):
            if one.step != "keep":
                self.broke += ORACLE["broken_return"](self.strict, known, fleet, cases, around, one)
            self._return(one)
        fleet = replace(self.fleet(), complete=fleet.complete)
        self._breaker(fleet)
        for decision in decide(self.policy, "slurm", cases, fleet, self.ledger, around, ORACLE["RUNGS"]):
            self.seen[decision.verdict] += 1
            if decision.verdict == "act":
                self.broke += ORACLE["broken"](self.strict, self._known(), fleet, cases, around, decision)
                self._act(decision.request)
                if self.lines[-1]["phase"] == "failed":
                    break  # whoever acts asks anew after a failure
            elif decision.verdict == "ask":
                self._ask(decision.request)

    def _known(self) -> list[dict[str, Any]]:
        last = {line.get("of") or line["act"]: line["phase"] for line in self.lines if line["phase"] != "breaker"}
        return [{**line, "phase_now": last.get(line.get("of") or line.get("act"))} for line in self.lines]

    def write(self, phase: str, act: str, **told: Any) -> None:
        line = {"phase": phase, "act": act, "time_ns": self.now_ns, "scheduler": "slurm", "dry_run": False, **told}
        self.lines.append(line)
        self.ledger.add(line)
        self.seen[phase] += 1

    def _told(self, request: Any) -> dict[str, Any]:
        return {"verb": request.verb, "target": request.target, "job": request.job, "incident": request.incident}

    def _act(self, request: Any) -> None:
        told, chance = self._told(request), self.random.random()
        self.write("intended", request.act, **told)
        if chance < 0.08:
            self.write("failed", request.act, result="failed", **told)
        elif chance < 0.13:
            self.write("done", request.act, result="nothing", **told)
        else:
            self._takes(request.target, request.act, request.verb)
            if chance > 0.2:  # else: a crash, before the line
                self.write("done", request.act, result="done", **told)

    def _takes(self, node: str, act: str, verb: str) -> None:
        if verb in ("drain", "quarantine"):
            self.fenced.setdefault(node, set()).add(act)

    def _recover(self) -> None:
        for act, line in list(self.ledger.open_intents.items()):
            told = {name: line[name] for name in ("verb", "target", "job", "incident")}
            self.write("recovered", act, result="done", **told)

    def _ask(self, request: Any) -> None:
        if request.act not in self.ledger.waiting:
            self.write("proposed", request.act, expires_ns=self.now_ns + 1800 * NS, **self._told(request))
        for person in ("ann", "bob"):
            if self.random.random() < 0.5:
                self.write("approved", request.act, actor=person, **self._told(request))
        if self.random.random() < 0.1:
            self.write("rejected", request.act, actor="ann", **self._told(request))

    def _return(self, one: Any) -> None:
        record = one.record
        told = {name: record[name] for name in ("verb", "target", "job", "incident")}
        self.seen[f"return {one.step}"] += 1
        if one.step == "test":
            self.write("tested", "t", of=record["act"], result=self.random.choice(("pass", "fail", "fail")), **told)
        elif one.step in ("undo", "drop"):
            self.write("undoing", "u", of=record["act"], **told)
            if one.step == "undo" and self.random.random() < 0.1:
                self.write("undo-failed", "u", of=record["act"], **told)
                return
            self.write("undone", "u", of=record["act"], **told)
            self.fenced.get(record["target"], set()).discard(record["act"])

    def _breaker(self, fleet: Fleet) -> None:
        why = trips(self.policy, fleet, self.ledger, self.now_ns)
        if why and not self.ledger.breaker:
            self.write("breaker", "", result="open", detail=why)
        elif self.ledger.breaker and self.random.random() < 0.2:
            self.write("breaker", "", result="closed", detail="mended")
