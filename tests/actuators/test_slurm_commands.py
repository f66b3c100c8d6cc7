"""What would be sent to Slurm, and taken back: pure, so no Slurm is needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.acts import ALLOWED, Outcome
from skewscope.actuators._slurm_state import Reservation
from skewscope.actuators.slurm import Slurm
from skewscope.errors import UsageError

F = SimpleNamespace(**run_path(str(Path(__file__).parent / "slurm" / "_fleets.py")))
SLURM = Slurm()
NODE_VERBS = ("note", "avoid", "drain", "quarantine")
HOSTILE = ("n3; reboot", "$(reboot)", "n3\nState=DOWN", "n[1-9]", "ALL", "-n", "--help", 'n"3', "n3,n4", "", "n 3",
           "nœud", "N3", "../n3", "n3\x00")  # fmt: skip


def words(command) -> list[tuple[str, ...]]:
    return [step.words for step in command.steps]


@pytest.mark.parametrize("verb", SLURM.verbs)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_node_that_slurm_does_not_list_is_refused(verb, name):
    if verb == "requeue" and not name:
        return
    command = SLURM.command(F.request(verb, name), F.made())
    assert "lists no node" in command.refused and not command.steps
    assert set(command.refused) <= ALLOWED
    assert SLURM.apply(command, dry_run=False).result == "refused"


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from(NODE_VERBS), st.text(max_size=300))
def test_no_text_reaches_slurm_as_it_is(why, incident, verb, act):
    command = SLURM.command(F.request(verb, why=why, incident=incident, act=act), F.made())
    assert command.steps and not command.refused
    for step in command.steps:
        for word in step.words:
            name, _, value = word.partition("=")
            assert name != "Extra" or json.loads(value)["skewscope"].keys() == {"act", "incident"}
            assert set(word) <= ALLOWED | (set('{}"') if name == "Extra" else set())
            assert name != "Reason" or value.startswith("skewscope:")
            assert name != "ReservationName" or value.replace("_", "").isalnum()


WORDS = {"Weight": "weight", "AvailableFeatures": "features", "ActiveFeatures": "active_features",
         "Comment": "comment", "Extra": "extra", "Reason": "reason"}  # fmt: skip
FEATURE_LISTS = st.lists(st.sampled_from(["h100", "ib", "rack1", "big"]), unique=True).map(",".join)
OBJECTS = st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text(), max_size=3).map(json.dumps)
FIELDS = {
    "weight": st.integers(1, 5000), "features": FEATURE_LISTS, "active_features": FEATURE_LISTS,
    "comment": st.just("") | st.text(min_size=1), "extra": st.just("") | st.text(min_size=1) | OBJECTS,
}  # fmt: skip


class Yard:
    """One node as Slurm would have it after commands: `told` is its document, `reserved` its reservations."""

    def __init__(self, told: dict) -> None:
        self.told, self.reserved = told, []

    def fleet(self):
        return F.made(self.told, reserved=tuple(Reservation(name, ("n3",), ("MAINT",)) for name in self.reserved))

    def send(self, command) -> None:
        for step in command.steps:
            values = dict(word.split("=", 1) for word in step.words if "=" in word)
            if name := values.get("ReservationName"):
                self.reserved = [*self.reserved, name] if "create" in step.words else []
            if state := values.get("State"):
                self.told |= {"state_flags": ["DRAIN"] if state == "DRAIN" else [], "reason": ""}
            known = {WORDS[key]: value for key, value in values.items() if key in WORDS}
            self.told |= known | ({"weight": int(known["weight"])} if "weight" in known else {})


@settings(deadline=None)
@given(st.fixed_dictionaries(FIELDS), st.fixed_dictionaries({}, optional=FIELDS), st.sampled_from(NODE_VERBS))
def test_whatever_stood_there_and_whatever_others_write_meanwhile_stays(former, edits, verb):
    yard = Yard(F.node("n3", **former))
    command = SLURM.command(F.request(verb), yard.fleet())
    if command.refused:
        assert verb == "note" and not command.steps
        return
    yard.send(command)
    assert SLURM.holds(F.record(command), yard.fleet())
    yard.told |= edits
    yard.send(SLURM.undo(F.record(command), yard.fleet()))
    assert (yard.told, yard.reserved) == (F.node("n3", **former | edits), [])
    assert SLURM.undo(F.record(command), yard.fleet()).nothing


@pytest.mark.parametrize("verb", ["ticket", "advise"])
def test_other_verbs_are_refused(verb):
    assert f"no way to {verb}" in SLURM.command(F.request(verb), F.made()).refused


@pytest.mark.parametrize("verb", ["avoid", "drain", "quarantine"])
@pytest.mark.parametrize(
    "fields", [{"state_flags": ["DRAIN"], "reason": "NHC: ecc"}, {"state": "down", "reason": "Not responding"}]
)
def test_a_node_of_somebody_else_is_refused(verb, fields):
    command = SLURM.command(F.request(verb), F.made(F.node("n3", **fields)))
    assert fields["reason"] in command.refused and not command.steps


def test_a_node_in_somebody_elses_reservation_is_not_reserved():
    fleet = F.made(F.node("n3"), reserved=(Reservation("physics", ("n3",), ()),))
    assert "reservation physics" in SLURM.command(F.request("quarantine"), fleet).refused
    assert not SLURM.command(F.request("drain"), fleet).refused


def test_a_note_leaves_others_texts():
    command = SLURM.command(F.request("note"), F.made(F.node("n3", comment="rack 7", extra='{"owner": "jo"}')))
    assert (command.after["comment"], json.loads(command.after["extra"])["owner"]) == ("rack 7", "jo")
    assert len(command.steps[0].words) == 4 and command.steps[0].words[-1].startswith("Extra=")
    full = SLURM.command(F.request("note"), F.made(F.node("n3", comment="rack 7", extra="mended by jo")))
    assert "somebody else's text" in full.refused


def undone(command, fleet):
    return SLURM.undo(F.record(command), fleet)


def test_an_own_part_of_the_note_is_taken_back_from_what_others_wrote_since():
    before = F.made(F.node("n3", extra='{"owner":"jo"}'))
    command = SLURM.command(F.request("note"), before)
    extra = json.dumps(json.loads(command.after["extra"]) | {"ticket": 7})
    back = undone(command, F.made(F.node("n3", comment="Jo was here", extra=extra)))
    assert back.after == {"comment": "Jo was here", "extra": '{"owner":"jo","ticket":7}'}
    untouched = F.made(F.node("n3", comment="Jo was here", extra="mine"))
    assert undone(command, untouched).nothing


def test_features_that_were_added_since_stay():
    command = SLURM.command(F.request("avoid"), F.made())
    assert command.after["features"] == "h100,rack1,skewscope_avoid"
    now = F.made(F.node("n3", weight=50, features="h100,skewscope_avoid,ib", active_features="h100,skewscope_avoid"))
    back = undone(command, now)
    assert back.after == {"weight": 50, "features": "h100,ib", "active_features": "h100"}
    assert words(back)[0][2:] == ("NodeName=n3", "AvailableFeatures=h100,ib", "ActiveFeatures=h100")


def test_a_weight_alone_can_be_used():
    slurm = Slurm(avoid_feature="")
    command = slurm.command(F.request("avoid"), F.made())
    assert words(command) == [("scontrol", "update", "NodeName=n3", "Weight=10010")]
    assert slurm.command(F.request("avoid"), F.made(F.node("n3", weight=10010))).nothing


@pytest.mark.parametrize(
    ("fields", "refused", "nothing", "holds"),
    [
        ({"state_flags": ["DRAIN"], "reason": "OURS"}, "", False, True),
        ({"state_flags": ["DRAIN"], "reason": "OURS, and a fan is broken"}, "not ours any more", False, False),
        ({"state_flags": ["DRAIN"], "reason": "skewscope:other rank 9"}, "not ours any more", False, False),
        ({}, "", True, False),
    ],
)
def test_a_drain_is_taken_back_only_while_it_is_ours(fields, refused, nothing, holds):
    command = SLURM.command(F.request("drain"), F.made())
    fields = {key: value.replace("OURS", command.after["reason"]) if key == "reason" else value
              for key, value in fields.items()}  # fmt: skip
    fleet = F.made(F.node("n3", **fields))
    back = undone(command, fleet)
    assert (refused in back.refused, back.nothing, SLURM.holds(F.record(command), fleet)) == (True, nothing, holds)
    assert bool(back.steps) == (not refused and not nothing)


def test_a_test_that_was_cut_short_is_a_fence_and_taken_back_too():
    command = SLURM.command(F.request("drain"), F.made())
    fleet = F.made(F.node("n3"), reserved=(Reservation("skewscope_test_c0ffee_a1", ("n3",), ("MAINT",)),))
    assert SLURM.holds(F.record(command), fleet)
    back = undone(command, fleet)
    assert words(back) == [("scontrol", "delete", "ReservationName=skewscope_test_c0ffee_a1")]
    assert (back.before["reservations"], back.after["reservations"]) == (["skewscope_test_c0ffee_a1"], [])


@pytest.mark.parametrize(
    "record", [{}, {"undo": {}}, {"undo": {"verb": "drain"}}, {"undo": {"verb": "rm", "now": {"x": 1}}}]
)
def test_a_record_that_says_too_little_is_refused(record):
    assert "does not say" in SLURM.undo(record, F.made()).refused
    assert SLURM.holds(record, F.made()) is None


def test_a_node_that_is_gone_holds_nothing_and_needs_nothing():
    command = SLURM.command(F.request("drain"), F.made())
    gone = F.made(F.node("n9"))
    assert (undone(command, gone).nothing, SLURM.holds(F.record(command), gone)) == (True, None)


def test_a_waiting_job_gets_one_more_node_to_keep_off():
    fleet = F.made(jobs=(F.job(7, job_state="PENDING", nodes="", excluded_nodes="n[8-9]"),))
    command = SLURM.command(F.request("exclude", job="7"), fleet)
    assert words(command) == [("scontrol", "update", "JobId=7", "ExcNodeList=n[8-9],n3")]
    assert (command.before, command.after) == ({"excluded_nodes": "n8,n9"}, {"excluded_nodes": "n3,n8,n9"})
    later = F.made(jobs=(F.job(7, job_state="PENDING", nodes="", excluded_nodes="n[3,8-9]"),))
    assert words(undone(command, later)) == [("scontrol", "update", "JobId=7", "ExcNodeList=n[8-9]")]
    more = F.made(jobs=(F.job(7, job_state="PENDING", nodes="", excluded_nodes="n[3,8]"),))
    assert words(undone(command, more)) == [("scontrol", "update", "JobId=7", "ExcNodeList=n8")]
    assert [SLURM.holds(F.record(command), one) for one in (fleet, later, more)] == [False, True, False]


@pytest.mark.parametrize(
    ("fields", "params", "refused"),
    [
        ({}, {}, "runs: which nodes"),
        ({"requeue": False}, {"requeue": True}, "cannot be requeued"),
        ({"batch_flag": False}, {"requeue": True}, "cannot be requeued"),
        ({"required_nodes": "n[3-4]"}, {"requeue": True}, "asks for n3 by name"),
        ({"job_state": "COMPLETING"}, {"requeue": True}, "is ending"),
        ({"job_state": "COMPLETED", "nodes": ""}, {"requeue": True}, "is over"),
    ],
)
def test_a_job_that_cannot_be_moved_is_left(fields, params, refused):
    command = SLURM.command(F.request("exclude", job="7", params=params), F.made(jobs=(F.job(7, **fields),)))
    assert refused in command.refused and not command.steps


def test_a_job_is_found_by_number_name_or_node():
    fleet = F.made(jobs=(F.job(7, name="llm"), F.job(8, name="llm", nodes="n4"), F.job(9, name="moe", nodes="n4")))
    found = {job: SLURM.command(F.request("requeue", job=job), fleet) for job in ("7", "moe", "", "llm", "gone", "7;9")}
    assert [words(found[job])[0][2:] for job in ("7", "moe", "")] == [("7",), ("9",), ("7",)]
    assert all("give the number" in found[job].refused for job in ("llm", "gone", "7;9"))


def test_a_restart_cannot_be_taken_back():
    fleet = F.made(jobs=(F.job(7),))
    command = SLURM.command(F.request("requeue", job="7"), fleet)
    assert (command.before, command.after) == ({"restarts": 0}, {"restarts": 1})
    assert "cannot be taken back" in undone(command, F.made(jobs=(F.job(7, restart_cnt=1),))).refused
    later = F.made(jobs=(F.job(7, restart_cnt=1),))
    assert [SLURM.holds(F.record(command), one) for one in (fleet, later, F.made())] == [False, True, None]


def test_an_exclusion_ends_with_its_job():
    fleet = F.made(jobs=(F.job(7),))
    command = SLURM.command(F.request("exclude", job="7", params={"requeue": True}), fleet)
    running = F.made(jobs=(F.job(7, excluded_nodes="n3", restart_cnt=1, nodes="n4"),))
    over = F.made(jobs=(F.job(7, excluded_nodes="n3", restart_cnt=1, job_state="COMPLETED"),))
    assert [SLURM.holds(F.record(command), one) for one in (fleet, running, over, F.made())] == [
        False,
        True,
        False,
        False,
    ]
    assert "only while it waits" in undone(command, running).refused
    assert undone(command, over).nothing and undone(command, F.made()).nothing
    assert SLURM.holds(F.record(command), replace(F.made(), complete=False)) is None


@pytest.mark.parametrize("verb", NODE_VERBS)
def test_what_is_so_already_is_not_sent(verb):
    request = F.request(verb)
    state = {
        "note": {"comment": request.reason, "extra": SLURM.command(request, F.made()).after.get("extra", "")},
        "avoid": {"weight": 10010, "features": "h100,skewscope_avoid", "active_features": "skewscope_avoid,h100"},
        "drain": {"state_flags": ["DRAIN"], "reason": "skewscope:other rank 1"},
        "quarantine": {},
    }[verb]
    reserved = (Reservation("skewscope_other_a0", ("n3",), ("MAINT",)),) if verb == "quarantine" else ()
    command = SLURM.command(request, F.made(F.node("n3", **state), reserved=reserved))
    assert command.nothing and not command.steps
    assert SLURM.apply(command, dry_run=False) == Outcome("nothing")


@pytest.mark.parametrize(
    "settings",
    [{"avoid_feature": "a,b"}, {"reservation_users": "jo; x"}, {"avoid_weight": 0}, {"quarantine_s": 1},
     {"timeout_s": 0}, {"rest_url": "ftp://x"}, {"rest_url": "http://x", "rest_version": "v0.0.38"},
     {"rest_url": "http://x", "rest_version": "newest"}],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_told(settings):
    with pytest.raises(UsageError):
        Slurm(**settings)
