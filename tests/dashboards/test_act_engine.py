"""The whole street with the real engine: it proposes, people answer on the dashboard, it acts, the pages tell."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import bcrypt
import pytest

from skewscope.acting.account import account
from skewscope.acting.approvals import AnswerFile
from skewscope.acting.audit import Audit
from skewscope.acting.engine import Engine, Extras
from skewscope.catalogue import load
from skewscope.policy.settings import Policy
from skewscope.web.web_config import WebConfig

pytest.importorskip("dash")
here = Path(__file__)
served = run_path(str(here.with_name("_served.py")))
world = run_path(str(here.parents[1] / "acting" / "_world.py"))
files, records, sources = (load(f"dashboards.{name}") for name in ("_act_file", "_act_records", "_sources"))
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


class Site:
    """A cluster in memory, an engine that asks people, and a dashboard on the engine's audit file."""

    def __init__(self, folder: Path, people=("ann",), **changed) -> None:
        self.clock, self.cluster = world["Clock"](), world["Cluster"].of(8, {"train": ("n2", "n3")})
        self.fake = world["Fake"](self.cluster, now_ns=self.clock)
        policy = Policy.parse({
            "mode": "approve", "schedulers": {"fake": {"dry_run": False}}, "capacity": {"spare_nodes": 0},
            "ladder": {"start": "drain", "verbs": ["drain"]}, "retest": {"required": False}, **changed,
        })  # fmt: skip
        self.decisions = served["acts"].Audit(folder / "decisions.jsonl", clock_ns=self.clock)
        self.engine = Engine(
            policy, {"fake": self.fake}, Audit(folder / "audit.jsonl", self.clock),
            world["MemoryLease"](world["Desk"]()),
            Extras(False, pace=world["free_pace"](), answers=AnswerFile(self.decisions.path)),
        )  # fmt: skip
        source = files.WithActs(
            sources.Fixed(served["View"](id="one")), files.ActFile(folder / "audit.jsonl", self.clock)
        )
        (folder / "web.yml").write_text("basic_auth_users:\n" + "".join(f"  {name}: {HASH}\n" for name in people))
        guard = served["security"].Guard(WebConfig(folder / "web.yml"), operators=frozenset(people))
        self.dashboard = served["app"].Dashboard(source, guard, self.decisions)

    def turn(self, *cases, after_s=30.0):
        now_ns = self.clock.on(after_s)
        return [one["phase"] for one in self.engine.turn(
            [replace(one, seen_ns=now_ns) for one in cases], world["around"](now_ns))]  # fmt: skip

    def answer(self, person, action, **more):
        """Answer the first proposal as a person does, and return the status of the reply."""
        client = self.dashboard.server.test_client()
        client.post("/login", data={"name": person, "password": "right"})
        (form, *_) = [one for block in self.blocks() for one in block.forms if one.action == action]
        page = client.get(f"/act/{action}", query_string=form.fields)
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
        return client.post(f"/act/{action}", data={**fields, "reason": "seen", **more}).status_code

    def blocks(self, name="actions", query=""):
        selection = load("dashboards._selection").Selection.of(query)
        return self.dashboard.pages[name].blocks(self.dashboard.view(), selection)

    def block(self, name, page="actions"):
        return next(one for one in self.blocks(page) if one.name == name)


def test_a_yes_is_carried_out_and_told(tmp_path):
    site, slow = Site(tmp_path), world["case"]()
    assert site.turn(slow) == ["proposed"]
    waits = next(one for one in site.blocks() if one.name.startswith("waits-"))
    assert waits.lines[:2] == ('- drain: ""', "+ drain: skewscope:c0ffee n3 is slow")
    assert "a person must approve" in waits.verdict and site.cluster.sent == []
    assert site.answer("ann", "approve") == 303
    assert "approved by ann, the engine takes it up" in next(
        one for one in site.blocks() if one.name.startswith("waits-")
    ).verdict  # fmt: skip
    assert site.turn(slow) == ["approved", "intended", "done"]
    assert site.cluster.nodes["n3"]["drain"].startswith("skewscope:c0ffee")
    assert site.block("waits").verdict.startswith("No proposal waits")
    (row,) = site.block("acts").rows
    assert row[5] == "stands" and row[8] == "ann" and row[9].startswith("skewscope undo ")
    assert site.block("done", "incidents").rows[0][6] == "stands"


@pytest.mark.parametrize(
    ("action", "phase", "state"), [("reject", "rejected", "rejected"), ("snooze", "rejected", "snoozed")]
)
def test_a_no_or_later_leaves_the_cluster_alone(tmp_path, action, phase, state):
    site, slow = Site(tmp_path), world["case"]()
    site.turn(slow)
    assert site.answer("ann", action, **{"for": "1 hour"}) == 303
    assert site.turn(slow)[0] == phase and site.turn(slow) == [] and site.cluster.sent == []
    told = [one.state for one in records.stories(site.dashboard.view().acts.records)]
    assert told == ["held back", state]


def test_a_yes_that_comes_too_late_is_none(tmp_path):
    site, slow = Site(tmp_path), world["case"]()
    site.turn(slow)
    site.clock.on(3600)
    assert site.block("waits").verdict.startswith("No proposal waits")
    assert "expired" in site.turn(slow) and site.cluster.sent == []


def test_two_people_where_the_policy_asks(tmp_path):
    site = Site(tmp_path, ("ann", "bob"), approval={"two_persons_above": 0})
    slow = world["case"]()
    site.turn(slow)
    assert site.answer("ann", "approve") == 303
    assert site.turn(slow) == ["approved"]
    waits = next(one for one in site.blocks() if one.name.startswith("waits-"))
    assert waits.verdict.endswith("approved by ann, one more person must approve.")
    assert site.answer("ann", "approve") != 303
    assert site.answer("bob", "approve") == 303
    assert site.turn(slow) == ["approved", "intended", "done"]


def test_the_account_of_the_engine_reads_as_its_audit_file(tmp_path):
    site = Site(tmp_path)
    site.turn(world["case"]())
    told = records.acts_of(dict(account(site.engine, site.clock.now_ns).document), "x")
    seen = site.dashboard.view().acts
    assert told.records == seen.records and [one["act"] for one in told.waiting] == [seen.waiting[0]["act"]]
    assert told.modes == {"fake": "approve"} and told.mine is True
    view = replace(served["View"](id="two"), acts=told)
    (limits,) = [one for one in site.dashboard.pages["actions"].blocks(view, load("dashboards._selection").Selection())
                 if one.name == "limits"]  # fmt: skip
    assert limits.rows == (("fake", "approve", "no", "0 of 1", "0 of 1", "0", "yes"),)
