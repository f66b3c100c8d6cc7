"""What is to be done and what was done, on the Actions and the Incidents page."""

import dataclasses
import json
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import load

world = run_path(str(Path(__file__).parents[1] / "_act_world.py"))
Link = load("dashboards._page").Link
EVIL = "<img src=x onerror=alert(1)>"
DRAIN, EXCLUDE = "c0ffee12.drain", "c0ffee13.exclude"


def texts(row):
    return [cell.text if isinstance(cell, Link) else cell for cell in row]


def with_acts(view, **changes):
    return dataclasses.replace(view, id=f"{view.id}-changed", acts=world["acts"](**changes))


def answered(view, *told):
    """Return a view with answers to its proposals: (person, answer, act), the oldest first."""
    marks = {one["act"]: one["hash"] for one in view.acts.waiting}
    made = [
        {"time_ns": world["NOW_NS"], "person": person, "decision": answer, "act": act, "seen": marks[act],
         "seconds": 3600, "action": "drain n006", "reason": "seen"}
        for person, answer, act in reversed(told)
    ]  # fmt: skip
    return dataclasses.replace(view, id=f"{view.id}-answered", decisions=tuple(made))


def named(blocks):
    return {one.name: one for one in blocks}


def test_what_waits_comes_first_with_what_would_be_sent_and_why(page, views, chosen):
    first, exclude, drain = page("actions").blocks(views["acting"], chosen(""))[:3]
    assert first.verdict == (
        "2 proposals wait for an answer; exclude gpu-b-17 is the first to expire, at 2023-11-14 22:33:20Z."
    )
    assert texts(first.rows[1]) == [
        DRAIN, "drain", "n006", "slurm", "gpu-hw-slowdown", "45", "2.5", "2023-11-14 22:43:20Z",
        "a person must approve",
    ]  # fmt: skip
    assert (exclude.title, drain.title) == ("exclude gpu-b-17 on kubernetes?", "drain n006 on slurm?")
    assert "would save 45 GPU-hours and cost 2.5" in drain.verdict
    assert drain.lines[:2] == ("- State: ALLOCATED", "+ State: ALLOCATED+DRAIN")
    rows = dict(texts(row) for row in drain.rows)
    assert rows["seen in"] == "5 of 5 windows" and rows["compared"] == "240 steps, 63 peers"
    assert rows["approval"] == "wants the yes of 1 person"
    assert [form.action for form in drain.forms] == ["approve", "snooze", "reject"]
    assert drain.forms[0].fields == {"act": DRAIN, "seen": world["told"]()[-2]["hash"]}


def test_a_dry_run_says_that_nothing_is_changed(page, views, chosen):
    waiting = [{**one, "dry_run": True} for one in world["document"]()["waiting"]]
    blocks = page("actions").blocks(with_acts(views["acting"], waiting=waiting), chosen(""))
    assert blocks[1].note.endswith("Dry run: nothing is changed, even if approved.")


@pytest.mark.parametrize(
    ("told", "said", "forms"),
    [
        ([("ann", "approve", DRAIN)], "approved by ann, the engine takes it up", 3),
        ([("ann", "approve", EXCLUDE)], "approved by ann, one more person must approve", 3),
        ([("ann", "approve", EXCLUDE)] * 2, "approved by ann, one more person must approve", 3),
        ([("ann", "approve", EXCLUDE), ("bob", "approve", EXCLUDE)], "approved by ann, bob, the engine takes it up", 3),
        ([("ann", "reject", DRAIN)], "rejected by ann", 0),
        ([("ann", "snooze", DRAIN)], "snoozed by ann until 2023-11-14 23:13:20Z", 0),
    ],
)
def test_answers_stand_with_the_proposal_and_end_it(page, views, chosen, told, said, forms):
    blocks = page("actions").blocks(answered(views["acting"], *told), chosen(""))
    one = named(blocks)["waits-" + told[0][2].replace(".", "-")]
    assert one.verdict.endswith(f"; {said}.") and len(one.forms) == forms
    waits = [block.name for block in blocks if block.name.startswith("waits-")]
    assert forms or waits[-1] == one.name  # what is answered comes last
    assert told[0][2] in [texts(row)[3] for row in named(blocks)["answers"].rows]


def test_an_answer_to_another_proposal_of_the_same_name_does_not_count(page, views, chosen):
    view = answered(views["acting"], ("ann", "reject", DRAIN))
    waiting = [{**one, "hash": "f" * 64} for one in world["document"]()["waiting"]]
    blocks = page("actions").blocks(with_acts(view, waiting=waiting), chosen(""))
    assert len(named(blocks)["waits-c0ffee12-drain"].forms) == 3


def test_guards_that_hold_an_act_back_are_named(block):
    one = block("actions", "held", "acting")
    assert one.verdict == "1 act is held back; budget.at_once speaks against 1 of them."
    assert [texts(row)[4:6] for row in one.rows] == [
        ["budget.at_once", "1 of 1 nodes is fenced now: n004"],
        ["cool_down.node_s", "n007 was returned 2 h ago, 6 h are kept"],
    ]


def test_what_was_held_and_then_done_is_held_no_more(page, views, chosen):
    say = world["Told"]()
    say("held", "", {"scheduler": "slurm", "incident": "i1", "target": "n1"}, why=world["ASKS"])
    held = with_acts(views["acting"], records=say.records)
    assert "held" in named(page("actions").blocks(held, chosen("")))
    say("done", "i1.drain", {**world["SLURM"], "incident": "i1", "target": "n1"})
    done = with_acts(views["acting"], records=say.records)
    assert "held" not in named(page("actions").blocks(done, chosen("")))


def test_budget_modes_and_breaker_are_told(page, views, chosen, block):
    one = block("actions", "limits", "acting")
    assert one.rows == (
        ("kubernetes", "observe", "yes", "0 of 1", "0 of 1", "0", "the server answers 503"),
        ("slurm", "approve", "no", "1 of 1, spent", "1 of 2", "0", "yes"),
    )  # fmt: skip
    assert one.verdict == "The breaker is closed: the safe-guards decide. The budget of slurm is spent."
    changed = with_acts(views["acting"], breaker="3 acts in 30 min", mine=False)
    open_ = named(page("actions").blocks(changed, chosen("")))["limits"]
    assert open_.verdict.startswith("The breaker is open, 3 acts in 30 min: nothing new is done")
    assert "reset-breaker" in open_.note and open_.verdict.endswith("this one looks on.")


@pytest.mark.parametrize(
    ("query", "acts"),
    [
        ("", 7), ("?show=standing", ["beef02.drain"]), ("?show=undone", ["beef01.drain"]),
        ("?show=not-done", ["beef03.avoid"]), ("?show=looked-on", ["beef05.note", "beef04.drain"]),
        ("?node=n006", [DRAIN]), ("?show=standing&node=n006", []), ("?show=none", 7),
    ],
)  # fmt: skip
def test_the_log_is_filtered(block, query, acts):
    rows = block("actions", "acts", "acting", query).rows
    assert len(rows) == acts if isinstance(acts, int) else [texts(row)[1] for row in rows] == acts


def test_the_log_says_who_and_how_to_undo(block):
    one = block("actions", "acts", "acting")
    assert one.verdict.startswith("7 acts, 1 of them on the cluster now; the newest, exclude gpu-b-17, is: waits")
    rows = {texts(row)[1]: texts(row) for row in one.rows}
    assert rows["beef01.drain"][-2:] == ["ann", "-"] and rows["beef01.drain"][5] == "undone"
    assert rows["beef02.drain"][-1] == "skewscope undo beef02.drain"
    assert rows["beef05.note"][5] == "would be done, dry run"


def test_the_life_of_an_act_comes_first_when_asked_for(page, views, chosen):
    href = next(cell for cell in named(page("actions").blocks(views["acting"], chosen("")))["acts"].rows[-1]
                if isinstance(cell, Link)).href  # fmt: skip
    one = page("actions").blocks(views["acting"], chosen(href.partition("?")[2]))[0]
    assert (one.name, one.title) == ("life", "Act beef01.drain") and one.lines
    assert [row[1] for row in one.rows] == [
        "proposed", "approved", "intended", "done", "proved", "tested", "undoing", "undone",
    ]  # fmt: skip
    assert one.rows[4][4] == "16 % of the step was saved, 18 % was predicted" and one.note == ""
    stands = page("actions").blocks(views["acting"], chosen("?show=act%2Fbeef02.drain"))[0]
    assert stands.note.startswith("Take it back: skewscope undo beef02.drain (with --apply; ")


def test_predicted_and_realised_stand_side_by_side(block):
    one = block("actions", "proof", "acting")
    assert one.verdict == (
        "2 acts were measured afterwards: 11 % of the step was saved on average, 58 % of what was predicted."
    )
    assert [texts(row)[1:] for row in one.rows] == [
        ["drain n004", "18 %", "5 %", "28 %", "2 s", "1.9 s", "less"],
        ["drain n002", "18 %", "16 %", "89 %", "2 s", "1.68 s", "realised"],
    ]
    assert [list(trace.x) for trace in one.figure.data] == [[18.0, 18.0], pytest.approx([5.0, 16.0])]
    assert one.note == "So much of a promise counts by now: gpu-hw-slowdown 80 %, nic-link-down 40 %."


def test_an_act_that_could_not_be_measured_is_no_bar(page, views, chosen):
    say = world["Told"]()
    for name in ("a", "b"):
        say("done", name, world["SLURM"])
        more = {"observed": world["observed"](2.0, 1.8)} if name == "a" else {"detail": "no step times to compare"}
        say("proved", "", {"finding": "gpu-hw-slowdown", "predicted": world["SLURM"]["predicted"]}, of=name, **more)
    one = named(page("actions").blocks(with_acts(views["acting"], records=say.records), chosen("")))["proof"]
    assert one.verdict.endswith("56 % of what was predicted. 1 could not be measured.") and len(one.rows) == 2
    assert [len(trace.x) for trace in one.figure.data] == [1, 1]
    none = with_acts(views["acting"], records=say.records[2:])
    one = named(page("actions").blocks(none, chosen("")))["proof"]
    assert one.figure is None and one.verdict.startswith("1 act could not be measured")


def test_incidents_show_what_was_done_and_what_it_brought(block):
    one = block("incidents", "done", "acting")
    rows = {texts(row)[1]: texts(row) for row in one.rows}
    assert rows["beef02"][2:6] == ["nic-link-down", "beef02.drain", "drain", "n004"]
    assert rows["beef02"][6:] == [
        "stands", "fail, 2023-11-14 21:44:20Z", "5 % of the step was saved, 18 % was predicted.",
    ]  # fmt: skip
    assert one.verdict.startswith("7 acts for 7 incidents; the newest, exclude gpu-b-17, is: waits for an answer.")
    assert block("incidents", "done", "acting", "?node=n004").verdict.endswith(
        "5 % of the step was saved, 18 % was predicted."
    )
    line = block("incidents", "timeline", "acting").figure
    marks = {trace.name: len(trace.x) for trace in line.data if trace.type == "scatter"}
    assert {"act": 2, "act taken back": 1, "re-test": 2}.items() <= marks.items()


def test_without_an_engine_the_pages_are_as_they_were(page, views, chosen):
    for name in ("actions", "incidents"):
        names = set(named(page(name).blocks(views["compute-slow"], chosen(""))))
        assert not names & {"waits", "acts", "limits", "done", "held"}


def test_an_engine_that_did_nothing_says_so(page, views, chosen):
    idle = dataclasses.replace(views["empty"], acts=load("dashboards._act_records").Acts())
    said = {one.name: one.verdict for one in page("actions").blocks(idle, chosen(""))}
    assert said["waits"] == "No proposal waits for an answer."
    assert said["acts"] == "Nothing was done to the cluster, and nothing was to be done."


def test_names_of_others_never_become_markup_or_commands(page, views, chosen):
    text = json.dumps(world["document"]()).replace("n00", EVIL).replace("gpu-b", EVIL).replace("beef", f"{EVIL};")
    acts = load("dashboards._act_records").acts_of(json.loads(text), "x")
    hostile = dataclasses.replace(views["acting"], id="evil", acts=acts)
    for name in ("actions", "incidents"):
        blocks = page(name).blocks(hostile, chosen(""))
        assert all("<img" not in one.figure.to_json() for one in blocks if one.figure is not None)
    assert not any("undo <img" in cell for row in named(page("actions").blocks(hostile, chosen("")))["acts"].rows
                   for cell in texts(row))  # fmt: skip
