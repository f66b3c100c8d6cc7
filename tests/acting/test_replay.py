"""Weeks played again: what policies would have done, saved and cost, where that can be said by head."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.acting._replay_presets import ABOUT, PRESETS, policy
from skewscope.acting._replay_yard import verbs_of
from skewscope.acting.audit import verify
from skewscope.acting.replay import STRONG, Settings, nobody, play
from skewscope.acting.replay_page import Compared, document, of_nodes, page
from skewscope.errors import UsageError
from skewscope.policy.settings import Policy
from skewscope.simulate import incidents
from skewscope.simulate.week import WeekPlan

MADE = run_path(str(Path(__file__).with_name("_weeks.py")))
at, job, outage, slow, week = (MADE[name] for name in ("at", "job", "outage", "slow", "week"))
HERE = Settings(scheduler="here")  # a scheduler that does all that can be simulated
BOLD = {"mode": "act", "ladder": {"start": "drain"}, "work": {"evict": True},
        "budget": {"nodes_per_day": 9, "share_per_day": 1.0, "nodes_at_once": 2, "share_at_once": 1.0,
                   "nodes_per_group": 9}}  # fmt: skip
ALL_DAY = 0.5 * 32 * 23  # GPU-hours that `slow()` costs where nobody does anything


def played(told, made, how=HERE):
    return play("mine", Policy.parse(told), made, how)


def phases(one):
    return [(json.loads(line)["phase"], json.loads(line).get("verb")) for line in one.audit.splitlines()]


def test_nobody_acts():
    assert nobody(week(slow())).slowed_gpu_hours == pytest.approx(ALL_DAY, rel=0.01)


def test_observing_saves_nothing_and_tells_what_it_would_do():
    one = played({"mode": "observe"}, week(slow()))
    assert one.slowed_gpu_hours == nobody(week(slow())).slowed_gpu_hours and not one.deeds
    assert one.told == {"note": 1} and one.mode == "observe"


def test_acting_at_once_saves_nearly_all_and_the_node_comes_back_mended():
    one = played(BOLD, week(slow()))
    assert one.slowed_gpu_hours < 0.02 * ALL_DAY
    assert [(deed.verb, deed.target, deed.right, deed.job) for deed in one.deeds] == [("drain", "n1", True, "job")]
    assert one.losses.restarts == {"act": 1} and 0 < one.price_gpu_hours < 32 * 0.5
    assert one.failed >= 1 and one.passed == 1 and one.counts["undone"] == 1
    assert one.losses.fenced_node_s == pytest.approx(2.2 * 3600, rel=0.1) and one.losses.most_out == 1


def test_the_gentle_ladder_waits_for_a_restart_of_the_job():
    made = week(slow(), works=[job(restarts_ns=(at(12),))])
    one = played({"mode": "act", "ladder": {"verbs": ["note", "avoid", "exclude", "drain"]}}, made)
    assert [deed.verb for deed in one.deeds] == ["note", "avoid", "exclude", "drain"]
    assert one.slowed_gpu_hours == pytest.approx(0.5 * 32 * 11, rel=0.02)
    assert one.losses.restarts["act"] == 0


def test_every_act_is_written_down_before_it_and_the_chain_holds(tmp_path):
    one = played(BOLD, week(slow(), slow("n5", hour=3), works=[job(), job("other", 2)]))
    (tmp_path / "audit.jsonl").write_bytes(one.audit)
    assert verify(tmp_path / "audit.jsonl").ok
    told = phases(one)
    done = [place for place, (phase, _) in enumerate(told) if phase == "done"]
    assert done and all(told[place - 1][0] == "intended" for place in done)


def test_a_false_alarm_costs_a_restart_and_the_node_returns():
    one = played(BOLD, week(slow(kind="false", share=0.0, told=0.4, until=3)))
    assert [(deed.verb, deed.right) for deed in one.deeds] == [("drain", False)]
    assert (one.passed, one.failed) == (1, 0) and one.slowed_gpu_hours == 0 and one.price_gpu_hours > 0


def test_a_blame_that_is_wrong_saves_nothing():
    one = played(BOLD, week(slow(is_misled=True, until=3)))
    assert [(deed.target, deed.right) for deed in one.deeds][:1] == [("n2", False)]


def test_what_many_nodes_share_is_left_alone():
    many = [replace(slow(kind="shared", share=0.4), nodes=("n0", "n1", "n2", "n3"))]
    one = played(BOLD, week(*many))
    assert not one.deeds or [deed.verb for deed in one.deeds] == ["drain"]  # the first shows itself alone for a minute
    assert one.held["storm"]


def test_the_work_of_a_job_itself_is_left_alone():
    one = played(BOLD, week(slow("", kind="job", condition="data-loader-stall", job="job")))
    assert not one.deeds and one.held["subject"]


def test_a_budget_holds_back_the_second_node():
    two = week(slow("n1"), slow("n5", hour=1.1), works=[job(), job("other", 2)], nodes=12)
    one = played({**BOLD, "budget": {"nodes_at_once": 1, "share_at_once": 1.0, "nodes_per_group": 9}}, two)
    assert one.losses.most_out == 1 and one.held["budget"]
    assert played(BOLD, two).losses.most_out == 2


def test_a_person_says_yes_in_the_day_and_nobody_at_night():
    by_day = played({**BOLD, "mode": "approve"}, week(slow(hour=9)))
    assert by_day.counts["proposed"] == by_day.counts["approved"] == len(by_day.deeds) == 1
    by_night = played({**BOLD, "mode": "approve"}, week(slow(hour=1, until=6)))
    assert by_night.counts["expired"] and not by_night.deeds


def test_two_persons_are_asked_where_the_policy_wants_them():
    one = played({**BOLD, "mode": "approve", "approval": {"two_persons_above": 0}}, week(slow(hour=9)))
    assert one.counts["approved"] == 2 and len(one.deeds) == 1


def test_an_open_breaker_is_closed_by_a_person():
    shaky = [slow(f"n{number}", hour=9 + number / 2, share=0.4) for number in (0, 4, 6)]
    works = [job(), job("second", 2), job("third", 2)]
    one = played({**BOLD, "breaker": {"acts": 1}}, week(*shaky, works=works, nodes=16))
    switched = [json.loads(line) for line in one.audit.splitlines() if b'"breaker"' in line]
    results = [record["result"] for record in switched if record["phase"] == "breaker"]
    assert results[:2] == ["open", "closed"]


def test_a_drained_node_of_others_is_not_ours():
    one = played(BOLD, week(slow(hour=2), outages=[outage("n1", 1, 24)]))
    assert not one.deeds and one.held["ownership"]


def test_the_same_week_gives_the_same():
    made = incidents.week(WeekPlan(nodes=16, days=1), 2)
    assert played(BOLD, made).audit == played(BOLD, made).audit


def test_the_first_days_of_dry_run_are_left_out_and_so_is_one_that_is_set():
    told = {**BOLD, "schedulers": {"here": {"mode": "act", "dry_run": True}}, "dry_run": {"first_days": 365.0}}
    assert played(told, week(slow())).deeds


def test_a_mode_of_a_group_holds():
    told = {**BOLD, "schedulers": {"here": {"mode": "act", "groups": {"mine": {"mode": "observe", "nodes": ["n1"]}}}}}
    one = play("mine", Policy.parse(told), week(slow()))  # the scheduler is the one that the policy names
    assert not one.deeds and one.told == {"drain": 1}


def test_slurm_takes_no_exclusion_of_a_running_job_and_evicts_nothing():
    one = played({**BOLD, "ladder": {"start": "exclude"}}, week(slow()), Settings(scheduler="slurm"))
    assert ("refused", "exclude") in phases(one) and one.losses.restarts["act"] == 0
    requeued = played({**BOLD, "ladder": {"start": "exclude"}, "work": {"requeue": True}}, week(slow()),
                      Settings(scheduler="slurm"))  # fmt: skip
    assert requeued.losses.restarts["act"] == 1 and requeued.deeds[0].verb == "exclude"
    assert set(verbs_of("slurm")) < set(verbs_of("here"))


def test_an_exclusion_of_kubernetes_takes_the_node_from_everybody():
    told = {**BOLD, "ladder": {"start": "exclude"}, "work": {"requeue": True}}
    one = played(told, week(slow()), Settings(scheduler="kubernetes"))
    assert one.losses.most_out == 1 and one.counts["undone"] == 1


def test_presets_go_from_looking_on_to_acting():
    assert [policy(name).mode("slurm") for name in PRESETS] == ["observe", "approve", "act", "act"]
    assert set(ABOUT) == set(PRESETS)
    with pytest.raises(UsageError, match="none of observe, approve"):
        policy("brave")


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["here", "slurm", "kubernetes"]))
def test_whatever_happens_budgets_hold_and_nothing_is_done_twice(seed, scheduler):
    plan = WeekPlan(nodes=24, days=0.7, slow=150, hard=60, passing=200, false=150, drains=100)
    one = played(BOLD, incidents.week(plan, seed), Settings(scheduler=scheduler, seed=seed))
    acts = Counter(deed.act for deed in one.deeds)
    assert one.losses.most_out <= 2 and all(count == 1 for count in acts.values())
    records = [json.loads(line) for line in one.audit.splitlines()]
    intended = {record["act"] for record in records if record["phase"] == "intended"}
    assert set(acts) <= intended


def compared(told, made):
    return Compared([played(told, made)], [nobody(made, HERE)])


def test_the_table_says_what_was_done_saved_and_cost():
    made = week(slow())
    text = page([made], [compared(BOLD, made), compared({"mode": "observe"}, made)], deeds=True)
    lines = text.splitlines()
    assert lines[0].startswith("a day by hand: 1 troubles (slow 1)")
    assert lines[1].startswith("Where nobody acts: 368 GPU-h slowed, 368 of them by single nodes")
    assert lines[4].split()[:8] == ["mine", "drain", "1", "1", "0", "1", "0", "0"] and "100%" in lines[4]
    assert "nothing; tells note 1" in lines[5] and " 0% " in lines[5]
    assert "Mon 05 Jan 01:02  drain      n1       gpu-slow-silent          of job      right" in text


def test_nobody_knows_what_is_right_in_a_recorded_week():
    made = replace(week(slow()), is_known=False)
    text = page([made], [compared(BOLD, made)])
    assert "troubles" not in text and text.splitlines()[4].split()[3:5] == ["?", "?"]


def test_the_document_adds_weeks_up():
    made = week(slow())
    twice = Compared([played(BOLD, made)] * 2, [nobody(made, HERE)] * 2)
    told = document([made, made], [twice])
    json.dumps(told, allow_nan=False)
    (mine,) = told["policies"]
    assert told["schema"] == "skewscope.replay/1" and told["nobody"]["of_nodes_gpu_hours"] == pytest.approx(
        2 * ALL_DAY, rel=0.01
    )
    assert mine["acts"] == {"drain": 2} and (mine["right"], mine["wrong"]) == (2, 0) and len(mine["deeds"]) == 2
    assert mine["net_gpu_hours"] == pytest.approx(mine["saved_gpu_hours"] - mine["cost_gpu_hours"])
    assert of_nodes(twice.baselines) == told["nobody"]["of_nodes_gpu_hours"]


def test_what_was_promised_is_near_what_came():
    one = played(BOLD, week(slow()))
    assert sum(deed.gain_gpu_hours for deed in one.deeds_of(*STRONG)) == pytest.approx(0.5 * 32 * 8 * 0.95 * 0.8)
