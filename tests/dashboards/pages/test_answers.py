"""What people answered, on the Actions page; the file it comes from may hold anything."""

import dataclasses


def test_answers_are_listed_newest_first_and_odd_ones_do_no_harm(page, views, chosen):
    told = {"time_ns": 5 * 10**9, "person": "ann", "decision": "approve", "recommendation": "r1", "action": "reweight"}
    view = dataclasses.replace(views["compute-slow"], decisions=({**told, "reason": "seen"}, {"time_ns": "x"}))
    (made,) = [one for one in page("actions").blocks(view, chosen("")) if one.name == "answers"]
    assert made.rows == (("00:00:05Z", "ann", "approve", "r1", "reweight", "seen"), ("-",) * 6)
    assert made.verdict == "2 answers; the latest, approve of r1, is by ann."


def test_a_rescue_without_a_slower_step_is_not_said_to_save_no_time(block):
    said = block("actions", "action-r1", "hang").verdict
    assert "saves 0.018 GPU-hours, once" in said and "0 %" not in said
    assert "0 s" not in block("overview", "findings", "hang").verdict
