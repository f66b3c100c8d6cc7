from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.decide import decide
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
JOB, NOW_NS, SLURM, ago, around, case, decided, done, fleet, policy, record, wide = (
    WORLD[name] for name in "JOB NOW_NS SLURM ago around case decided done fleet policy record wide".split()
)


def only(told, one, **more):
    (decision,) = decided(told, one, **more)
    return decision


def guards(decision):
    return {said.guard for said in decision.why}


def test_by_default_it_only_looks_on():
    decision = only(WORLD["Policy"](), case())
    assert decision.verdict == "observe" and decision.request.verb == "note"
    assert decision.request.reason == "skewscope:c0ffee n3 is slow"


def test_it_acts_where_the_policy_says_so():
    decision = only(policy(), case())
    assert decision.verdict == "act" and decision.request.target == "n3" and decision.request.job == "train"
    assert decision.gain_gpu_hours == pytest.approx(25 * 8 * 0.95 * 0.8) and decision.cost_gpu_hours == 0


def test_a_person_is_asked_and_the_yes_is_taken():
    told = policy(mode="approve")
    asked = only(told, case())
    assert asked.verdict == "ask" and asked.why[0].text == "wants the yes of 1 person"
    lines = [record("proposed", asked.request.act, 60, verb="note", expires_ns=NOW_NS + 9)]
    assert only(told, case(), ledger=Ledger.of(lines)).request == asked.request, "the same proposal"
    lines.append(record("approved", asked.request.act, 9, verb="note", actor="ann"))
    answered = only(told, case(), ledger=Ledger.of(lines))
    assert answered.verdict == "act" and answered.request == asked.request
    held = only(told, case(confidence=0.1), ledger=Ledger.of(lines))
    assert held.verdict == "hold" and guards(held) == {"evidence"}, "a yes does not outweigh the guards"
    assert only(policy(mode="approve", approval={"free_verbs": ["note"]}), case()).verdict == "act"


@pytest.mark.parametrize(
    ("one", "guard"),
    [
        (case(healthy=True), "healthy"), (case(role="victim"), "role"), (case(role="context"), "role"),
        (case(node="", subject="r07"), "subject"),
    ],
)  # fmt: skip
def test_where_no_node_is_at_fault_none_is_touched(one, guard):
    decision = only(policy(), one)
    assert decision.verdict == "leave" and decision.request is None and guards(decision) == {guard}


def test_a_storm_touches_no_node():
    cases = [case(f"i{at}", f"n{at}", job="", opened_ns=ago(300)) for at in range(3)]
    assert {one.verdict for one in decided(wide(), *cases)} == {"leave"}
    assert {one.verdict for one in decided(wide(), *cases[:2])} == {"act"}


def test_a_hint_may_answer_what_no_node_is_at_fault_of():
    one = case(node="", subject="train/layer3", hint={"experts": {"3": [1, 0]}})
    assert only(policy(), one).verdict == "leave"
    decision = only(policy(), one, verbs=("advise",))
    assert decision.verdict == "act" and decision.request.params == {"hint": {"experts": {"3": [1, 0]}}}
    assert decision.request.target == "train"


def test_all_that_speaks_against_it_is_said_at_once():
    decision = only(policy(), case(confidence=0.5, share=0.05, doubt="clocks"), fleet=fleet(n3={"owner": "anna"}),
                    around=around(stopped="/run/stop exists", alarms=({"severity": "critical"},)))  # fmt: skip
    assert decision.verdict == "hold"
    assert guards(decision) == {"calendar", "quality", "alarms", "evidence", "hysteresis", "ownership"}


def test_what_waiting_costs_decides_who_comes_first():
    cheap, dear = case("a", "n5", lost_gpus=5.0, opened_ns=ago(9999)), case("b", "n9", job="", lost_gpus=30.0)
    told = policy(ladder={"start": "drain"})
    first, second = decided(told, cheap, dear)
    assert (first.case.incident, first.verdict) == ("b", "act")
    assert second.verdict == "hold" and guards(second) == {"budget"}, "what is granted counts at once"


def test_what_is_only_observed_takes_its_place_in_the_budget_too():
    first, second = decided(
        policy(mode="observe", ladder={"start": "drain"}), case(), case("b", "n9", job="", lost_gpus=1.0)
    )
    assert (first.verdict, second.verdict) == ("observe", "hold")


def test_it_is_a_function_of_what_it_is_given():
    cases = [case("a", "n5"), case("b", "n9"), case("c", "n100", healthy=True)]
    cases.append(case("d", "n101", lost_gpus=float("nan")))
    parts = {"fleet": fleet(), "ledger": Ledger.of(done("x", 9999, target="n50")), "around": around()}
    assert decide(policy(), SLURM, cases, **parts) == decide(policy(), SLURM, cases[::-1], **parts)


def test_a_restart_is_priced():
    told = policy(ladder={"start": "exclude"}, work={"requeue": True})
    decision = only(told, case(), around=around(since_checkpoint_s={JOB: 60.0}))
    assert decision.verdict == "act" and decision.request.params == {"requeue": True}
    assert decision.cost_gpu_hours == pytest.approx(64 * 660 / 3600)
    late = only(told, case(), around=around(since_checkpoint_s={JOB: 60.0}, remaining_s={JOB: 900.0}))
    assert late.verdict == "hold" and guards(late) == {"economics"}


def test_untrusted_text_is_plain_wherever_it_is_told():
    bad = 'x"; rm -rf / \n$(boom) \u202e\x1b[2J'
    told = case(job=bad, summary=bad, subject=bad)
    asked = only(policy(), told)
    held = only(policy(), told, fleet=fleet(n3={"owner": bad, "reason": bad, "native": {}}))
    left = only(policy(), case(node="", subject=bad))
    for text in (asked.request.reason, *(said.text for said in (*held.why, *left.why))):
        assert text.isascii() and text.isprintable() and not set(text) & set("\"'`$\\|&!")
    assert "ownership" in guards(held)
