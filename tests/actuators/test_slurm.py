"""The Slurm actuator on a real Slurm of eight nodes; what somebody else did there stays in every test."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.actuators.slurm import Slurm
from skewscope.errors import SkewscopeError

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
F = SimpleNamespace(**run_path(str(HERE / "_fleets.py")))
FOREIGN = ("n6", "n7", "n8")
KEPT = ("state_flags", "reason", "comment", "extra", "weight", "features", "active_features")
NODE_VERBS = ("note", "avoid", "drain", "quarantine")


@pytest.fixture(scope="module")
def cluster():
    yield from C.running()


@pytest.fixture(scope="module")
def foreign(cluster):
    """Let somebody else drain n8, reserve n7 and note something about n6."""
    cluster.scontrol("update", "NodeName=n8", "State=DRAIN", "Reason=NHC: 2 uncorrectable errors")
    cluster.scontrol("create", "reservation", "ReservationName=upgrade", "StartTime=now", "Duration=60", "Nodes=n7",
                     "Users=daemon", "Flags=maint,ignore_jobs")  # fmt: skip
    cluster.scontrol("update", "NodeName=n6", "Comment=rack 7", 'Extra={"owner": "jo"}')
    return seen(cluster, *FOREIGN)


def seen(cluster, *names: str) -> dict:
    """Return all that people may have set on nodes, and the reservations."""
    told = {one["name"]: one for one in cluster.nodes()}
    nodes = {name: {key: told[name][key] for key in KEPT} for name in names}
    for node in nodes.values():  # other flags come and go by themselves
        node["state_flags"] = "DRAIN" in node["state_flags"]
    return nodes | {"reservations": cluster.run("scontrol", "-o", "show", "reservation")}


@pytest.fixture
def slurm(cluster, foreign):
    """Return the actuator; whatever a test does, what is somebody else's must be as before."""
    yield Slurm(conf=str(cluster.conf), requeue_wait_s=10)
    assert seen(cluster, *FOREIGN) == foreign


def done(slurm, request) -> dict:
    """Carry a request out; return its record as an audit log would hold it."""
    command = slurm.command(request, slurm.look())
    assert not command.refused, command.refused
    assert slurm.apply(command, dry_run=False).result == "done"
    return F.record(command)


def taken_back(slurm, record: dict) -> str:
    outcome = slurm.apply(slurm.undo(record, slurm.look()), dry_run=False)
    return outcome.result + outcome.detail


@pytest.mark.parametrize("verb", NODE_VERBS)
def test_an_act_is_done_once_and_taken_back_to_the_exact_former_state(cluster, slurm, verb):
    before = seen(cluster, "n3")
    request = F.request(verb)
    command = slurm.command(request, slurm.look())
    assert slurm.apply(command).detail == "dry run: nothing was sent"
    assert seen(cluster, "n3") == before
    assert [slurm.apply(command, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    after = seen(cluster, "n3")
    fleet, record = slurm.look(), F.record(command)
    assert (slurm.holds(record, fleet), slurm.command(request, fleet).nothing) == (True, True)
    assert (fleet.nodes["n3"].owner, fleet.nodes["n3"].schedulable) == ("skewscope", verb in ("note", "avoid"))
    back = slurm.undo(record, fleet)
    assert slurm.apply(back).result == "done"
    assert seen(cluster, "n3") == after != before
    assert [slurm.apply(back, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    assert seen(cluster, "n3") == before
    assert slurm.holds(record, slurm.look()) is False


def test_what_is_somebody_elses_is_refused(slurm):
    fleet = slurm.look()
    assert {name: fleet.nodes[name].owner for name in FOREIGN} == {
        "n6": "", "n7": "reservation upgrade", "n8": "NHC: 2 uncorrectable errors"
    }  # fmt: skip
    for name in FOREIGN[1:]:
        for verb in ("avoid", "drain", "quarantine"):
            command = slurm.command(F.request(verb, name), fleet)
            assert command.refused and slurm.apply(command, dry_run=False).result == "refused"


@pytest.mark.parametrize("name", FOREIGN)
def test_a_note_beside_somebody_elses_is_taken_back_to_the_letter(cluster, slurm, name):
    record = done(slurm, F.request("note", name))
    assert cluster.node("n6")["comment"] == "rack 7"
    assert taken_back(slurm, record) == "done"


def test_a_state_that_changed_meanwhile_is_a_conflict(cluster, slurm):
    command = slurm.command(F.request("drain", "n2"), slurm.look())
    cluster.scontrol("update", "NodeName=n2", "State=DRAIN", "Reason=Jo swaps the fan")
    try:
        outcome = slurm.apply(command, dry_run=False)
        assert outcome.result == "conflict" and "Jo swaps the fan" in outcome.detail
        assert cluster.node("n2")["reason"] == "Jo swaps the fan"
    finally:
        cluster.scontrol("update", "NodeName=n2", "State=UNDRAIN")


def test_a_drain_that_somebody_took_over_is_not_taken_back(cluster, slurm):
    record = done(slurm, F.request("drain", "n2"))
    cluster.scontrol("update", "NodeName=n2", "State=DRAIN", "Reason=Jo swaps the fan")
    try:
        back = slurm.undo(record, slurm.look())
        assert "not ours any more" in back.refused and slurm.apply(back, dry_run=False).result == "refused"
        assert not slurm.holds(record, slurm.look())
    finally:
        cluster.scontrol("update", "NodeName=n2", "State=UNDRAIN")


@pytest.mark.parametrize("how", ["reconfigure", "restart"])
def test_soft_marks_are_lost_with_a_new_configuration_and_can_be_set_again(cluster, slurm, how):
    before = seen(cluster, "n4")
    records = {verb: done(slurm, F.request(verb, "n4", act=verb)) for verb in ("note", "avoid", "drain")}
    if how == "restart":
        C.until(lambda: "NOT_RESPONDING" not in cluster.node("n4")["state_flags"])
        cluster.restart_controller()
    else:
        cluster.scontrol("reconfigure")
    C.until(lambda: slurm.holds(records["avoid"], slurm.look()) is False)
    fleet = slurm.look()
    assert [slurm.holds(records[verb], fleet) for verb in ("note", "drain")] == [True, True]
    again = done(slurm, F.request("avoid", "n4", act="avoid"))
    assert again["undo"] == records["avoid"]["undo"] and slurm.holds(records["avoid"], slurm.look())
    assert [taken_back(slurm, record) for record in records.values()] == ["done"] * 3
    assert seen(cluster, "n4") == before


def test_the_scheduler_obeys(cluster, slurm):
    """An avoided node comes last, a quarantined one not at all; racks are the leaf switches."""
    assert {node.rack for node in slurm.look().nodes.values()} == {"leaf1", "leaf2"}
    records = [done(slurm, F.request("avoid", "n1")), done(slurm, F.request("quarantine", "n2", act="a2"))]
    number = cluster.submit("sleep 60", "-N3", "--exclusive")
    cluster.wait_for(number, "RUNNING")
    fleet = slurm.look()
    assert not {"n1", "n2", *FOREIGN[1:]} & set(fleet.jobs[number].nodes)
    taken = {node.name for node in fleet.nodes.values() if not node.idle}
    assert taken == set(fleet.jobs[number].nodes) and fleet.jobs[number].user == cluster.user
    cluster.run("scancel", number)
    assert [taken_back(slurm, record) for record in records] == ["done", "done"]


def test_a_controller_that_is_away_is_waited_for(cluster, slurm, tmp_path):
    text = cluster.conf.read_text().replace("SlurmctldPort=", "SlurmctldPort=1\nMessageTimeout=2\n#")
    (tmp_path / "slurm.conf").write_text(text)
    away = Slurm(conf=str(tmp_path / "slurm.conf"), timeout_s=0.5)
    with pytest.raises(SkewscopeError):
        away.look()
    command = slurm.command(F.request("drain", "n2"), slurm.look())
    assert away.apply(command, dry_run=False).result in ("waiting", "failed")
    assert not slurm.look().nodes["n2"].native["drained"]


def test_programs_that_are_not_there_are_told(tmp_path):
    with pytest.raises(SkewscopeError, match="not found"):
        Slurm(bin=str(tmp_path)).look()
