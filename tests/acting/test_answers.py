"""What people answer to proposals, and what the engine makes of it."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

S = run_path(str(Path(__file__).with_name("_site.py")))
W, Site, policy, phases = S["W"], S["Site"], S["policy"], S["phases"]


class Said:
    def __init__(self):
        self.waiting = []

    def new(self):
        said, self.waiting = self.waiting, []
        return said


def answer(act, decision="approve", person="ada", key="k1", **more):
    return {"act": act, "decision": decision, "person": person, "key": key, "reason": "looks right", **more}


def test_a_person_is_asked_and_then_it_is_done():
    said = Said()
    site = Site(policy("approve"), answers=said)
    (proposed,) = site.turn(W["case"]())
    assert proposed["phase"] == "proposed" and proposed["expires_ns"] == site.clock.now_ns + 1800 * 10**9
    assert proposed["sent"] and proposed["before"] == {"drain": ""}
    assert site.turn(W["case"]()) == []
    said.waiting = [answer(proposed["act"])]
    told = site.turn(W["case"]())
    assert phases(told) == ["approved", "intended", "done"]
    assert told[0]["actor"] == "ada" and told[0]["detail"] == "looks right"
    assert {one["act"] for one in told} == {proposed["act"]}


def test_an_answer_counts_once_also_when_it_is_read_again_and_never_too_late():
    said = Said()
    site = Site(policy("approve"), answers=said)
    (proposed,) = site.turn(W["case"]())
    said.waiting = [answer("another"), answer(proposed["act"], decision="laugh"), answer(proposed["act"], key="")]
    assert site.turn(W["case"]()) == []
    said.waiting = [answer(proposed["act"])]
    told = site.turn(W["case"](), after_s=1900)
    assert phases(told)[0] == "expired" and "approved" not in phases(told) and not site.cluster.sent


def test_an_answer_counts_for_what_the_person_saw():
    said = Said()
    site = Site(policy("approve"), answers=said)
    (proposed,) = site.turn(W["case"]())
    said.waiting = [answer(proposed["act"], key="k1", seen="f" * 64)]
    assert site.turn(W["case"]()) == []
    said.waiting = [answer(proposed["act"], key="k2", seen=proposed["hash"])]
    assert phases(site.turn(W["case"]())) == ["approved", "intended", "done"]


def test_a_second_person_is_waited_for_where_the_policy_asks_for_two():
    said = Said()
    site = Site(policy("approve", approval={"two_persons_above": 0}), answers=said)
    (proposed,) = site.turn(W["case"]())
    said.waiting = [answer(proposed["act"], key="k1"), answer(proposed["act"], key="k2")]
    assert phases(site.turn(W["case"]())) == ["approved"], "the same person twice"
    said.waiting = [answer(proposed["act"], key="k3", person="bob")]
    assert phases(site.turn(W["case"]())) == ["approved", "intended", "done"]


def test_a_snooze_keeps_it_away_for_its_time():
    said = Said()
    site = Site(policy("approve"), answers=said)
    (proposed,) = site.turn(W["case"]())
    said.waiting = [answer(proposed["act"], "snooze", seconds=600)]
    (rejected, *_) = site.turn(W["case"]())
    assert rejected["result"] == "snoozed" and rejected["expires_ns"] == site.clock.now_ns + 600 * 10**9
    assert "proposed" not in phases(site.turn(W["case"]()))
    assert "proposed" in phases(site.turn(W["case"](), after_s=700))


def test_a_rejected_proposal_is_not_done():
    said = Said()
    site = Site(policy("approve"), answers=said)
    (proposed,) = site.turn(W["case"]())
    said.waiting = [answer(proposed["act"], "reject"), answer(proposed["act"], key="k2")]
    told = site.turn(W["case"]())
    assert phases(told)[0] == "rejected" and "approved" not in phases(told) and not site.cluster.sent
