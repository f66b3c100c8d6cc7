"""Answers to proposals: bound to what was shown, once a person, in time, by operators only."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import bcrypt
import pytest

from skewscope.catalogue import load
from skewscope.web.web_config import WebConfig

pytest.importorskip("dash")
here = Path(__file__)
made, world = (run_path(str(here.with_name(name))) for name in ("_served.py", "_act_world.py"))
served, Guard, Audit, View = made["served"], made["security"].Guard, made["acts"].Audit, made["View"]
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
NOW_NS, MINUTE_NS = world["NOW_NS"], world["MINUTE_NS"]
DRAIN, EXCLUDE = "c0ffee12.drain", "c0ffee13.exclude"


def acting(**changes):
    return View(id="one", title="made up", acts=world["acts"](**changes))


@pytest.fixture
def audit(tmp_path):
    return Audit(tmp_path / "decisions.jsonl", clock_ns=lambda: NOW_NS)


@pytest.fixture
def local(audit):
    """Return a client of an operator on the machine itself, and the source behind it."""
    return served(acting(), Guard(operators=frozenset({"local"})), audit)


@pytest.fixture
def many(audit, tmp_path):
    """Return a function: a name to a client of that operator; all see the same dashboard."""
    (tmp_path / "web.yml").write_text("basic_auth_users:\n" + "".join(f"  {name}: {HASH}\n" for name in ("ann", "bob")))
    client, source = served(
        acting(), Guard(WebConfig(tmp_path / "web.yml"), operators=frozenset({"ann", "bob"})), audit
    )

    def signed_in(name):
        one = client.application.test_client()
        assert one.post("/login", data={"name": name, "password": "right"}).status_code == 303
        return one

    return signed_in


def form(client, act=DRAIN, action="approve", **changes):
    page = client.get(f"/act/{action}?act={act}")
    assert page.status_code == 200, page.text
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    return {**fields, "reason": "because", **changes}


def lines(audit):
    return [json.loads(line) for line in audit.path.read_text().splitlines()]


def test_the_form_shows_what_would_be_sent(local):
    client, _ = local
    text = client.get(f"/act/approve?act={DRAIN}").text
    assert '<span class="come">+ State: ALLOCATED+DRAIN</span>' in text
    assert "&gt; scontrol update NodeName=n006 State=DRAIN" in text
    assert "save 45 GPU-hours and cost 2.5" in text and "a person must approve" in text
    assert "if its safe-guards still agree" in text


def test_an_answer_names_the_act_and_what_was_seen(local, audit):
    client, _ = local
    asked = form(client)
    assert client.post("/act/approve", data=asked).status_code == 303
    assert client.post("/act/approve", data=asked).status_code == 303  # sent twice
    (told,) = lines(audit)
    assert told == {
        "schema": "skewscope.decision/1", "time_ns": NOW_NS, "key": asked["key"], "person": "local",
        "decision": "approve", "act": DRAIN, "seen": world["told"]()[-2]["hash"], "incident": "c0ffee12",
        "finding": "gpu-hw-slowdown", "scheduler": "slurm", "action": "drain n006", "reason": "because",
    }  # fmt: skip


@pytest.mark.parametrize("action", ["reject", "snooze"])
def test_a_proposal_that_is_answered_is_not_answered_again(local, audit, action):
    client, _ = local
    assert client.post(f"/act/{action}", data=form(client, action=action, **{"for": "1 hour"})).status_code == 303
    again = client.get(f"/act/approve?act={DRAIN}")
    assert again.status_code == 409 and f"{action}ed by local".replace("snoozeed", "snoozed") in again.text
    assert len(lines(audit)) == 1 and lines(audit)[0].get("seconds", 3600) == 3600


def test_two_people_must_approve_where_the_policy_asks(many, audit):
    ann, bob = many("ann"), many("bob")
    assert "2 people must approve" in ann.get(f"/act/approve?act={EXCLUDE}").text
    assert ann.post("/act/approve", data=form(ann, EXCLUDE)).status_code == 303
    same = ann.get(f"/act/approve?act={EXCLUDE}")
    assert same.status_code == 409 and "one more person must approve" in same.text
    assert bob.post("/act/approve", data=form(bob, EXCLUDE)).status_code == 303
    assert [one["person"] for one in lines(audit)] == ["ann", "bob"]
    assert "approved by ann, bob, the engine takes it up" in bob.get(f"/act/reject?act={EXCLUDE}").text
    assert ann.post("/act/reject", data=form(ann, EXCLUDE, "reject")).status_code == 303  # not taken up yet


def test_a_form_that_was_open_too_long_is_refused(many, audit):
    ann = many("ann")
    asked = form(ann, EXCLUDE)
    assert ann.post("/act/approve", data=form(ann, EXCLUDE)).status_code == 303
    assert ann.post("/act/approve", data=asked).status_code == 409  # another key, the same person
    assert len(lines(audit)) == 1


def test_what_changed_since_it_was_shown_must_be_read_again(local, audit):
    client, source = local
    asked = form(client)
    waiting = [{**one, "hash": "f" * 64} for one in world["document"]()["waiting"]]
    source.now = replace(source.now, id="two", acts=world["acts"](waiting=waiting))
    reply = client.post("/act/approve", data=asked)
    assert reply.status_code == 409 and "another since you looked" in reply.text
    assert lines(audit) == []
    assert client.get(f"/act/approve?act={DRAIN}&seen={asked['seen']}").status_code == 409


def test_an_expired_proposal_cannot_be_approved(local, audit):
    client, _ = local
    asked = form(client)
    audit._clock_ns = lambda: NOW_NS + 31 * MINUTE_NS
    assert client.post("/act/approve", data=asked).status_code == 409
    assert "It expired at 2023-11-14 22:43:20Z" in client.get(f"/act/approve?act={DRAIN}").text
    assert lines(audit) == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"csrf": "0" * 64}, 403), ({"reason": " "}, 400), ({"key": "short"}, 400), ({"act": "none"}, 404),
     ({"act": ""}, 404), ({"seen": "x"}, 409)],
)  # fmt: skip
def test_a_form_that_does_not_fit_is_refused(local, audit, changes, status):
    client, _ = local
    assert client.post("/act/approve", data={**form(client), **changes}).status_code == status
    assert not lines(audit)


def test_viewers_and_boards_without_a_file_cannot_answer(audit):
    viewer, _ = served(acting(), Guard(), audit)
    assert viewer.get(f"/act/approve?act={DRAIN}").status_code == 403
    nowhere, _ = served(acting(), Guard(operators=frozenset({"local"})))
    assert nowhere.get(f"/act/approve?act={DRAIN}").status_code == 403
    idle, _ = served(View(id="one"), Guard(operators=frozenset({"local"})), audit)
    assert idle.get(f"/act/approve?act={DRAIN}").status_code == 404


def test_names_of_others_stay_text(audit):
    evil = "<img src=x onerror=alert(1)>"
    waiting = [{**one, "reason": evil, "target": evil, "after": {evil: evil}} for one in world["document"]()["waiting"]]
    client, _ = served(acting(waiting=waiting), Guard(operators=frozenset({"local"})), audit)
    text = client.get(f"/act/approve?act={DRAIN}").text
    assert "<img" not in text and "&lt;img" in text


def test_who_approved_elsewhere_counts_too():
    answers = load("dashboards._act_answers").answers
    say = world["Told"]()
    asked = say("proposed", DRAIN, world["SLURM"])
    assert answers((), asked, ()).told == "a person must approve"
    taken = say("approved", DRAIN, world["SLURM"], actor="bob")
    told = answers((), {**asked, "persons": 2, "approved_by": ["bob"]}, (taken, asked))
    assert told.approved == ("bob",) and told.told == "approved by bob, one more person must approve"
    assert answers((), taken, (taken, asked)).approved == ()  # an answer to a proposal before this one
