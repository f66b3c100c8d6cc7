"""A node that we drained is tested by a program, on a real Slurm; nobody else's work gets in, and it stays drained."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.actuators import _slurm_retest
from skewscope.actuators.slurm import Slurm
from skewscope.errors import SkewscopeError

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
F = SimpleNamespace(**run_path(str(HERE / "_fleets.py")))
RESERVATION = "skewscope_test_c0ffee_a1"


@pytest.fixture(scope="module")
def cluster():
    yield from C.running()


@pytest.fixture
def slurm(cluster):
    return Slurm(conf=str(cluster.conf))


@pytest.fixture(scope="module")
def nodes():
    """Return the nodes one after the other: on the last one something may still be ending."""
    return itertools.cycle(C.NODES)


@pytest.fixture
def record(cluster, slurm, nodes):
    """Return the record of a drain of a node; afterwards it is as it was."""
    name = next(nodes)
    command = slurm.command(F.request("drain", name), slurm.look())
    assert slurm.apply(command, dry_run=False).result == "done"
    yield F.record(command)
    cluster.run("scancel", "--user", cluster.user)
    cluster.run("scontrol", "delete", f"ReservationName={RESERVATION}", check=False)
    cluster.run("scontrol", "update", f"NodeName={name}", "State=UNDRAIN", check=False)


def drained_as(cluster, record) -> bool:
    node = cluster.node(record["target"])
    free = cluster.run("scontrol", "-o", "show", "reservation") == "No reservations in the system"
    return free and "DRAIN" in node["state_flags"] and node["reason"] == record["undo"]["now"]["reason"]


def test_a_program_runs_alone_on_the_whole_node(cluster, slurm, record):
    waiting = cluster.submit("sleep 60", f"--nodelist={record['target']}")
    words = (
        "sh",
        "-c",
        'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"; squeue --noheader --nodelist="$SLURMD_NODENAME" --format=%j',
    )
    told = slurm.test(record, words, 20.0).splitlines()
    assert told == [f"{record['target']} 0,1,2,3,4,5,6,7", RESERVATION]
    assert cluster.job(waiting)["JobState"] == "PENDING"
    assert drained_as(cluster, record)
    assert slurm.apply(slurm.undo(record, slurm.look()), dry_run=False).result == "done"
    cluster.wait_for(waiting, "RUNNING")


def test_what_a_failing_program_wrote_counts_too(cluster, slurm, record):
    assert slurm.test(record, ("sh", "-c", "echo slow; exit 1"), 20.0) == "slow"
    assert drained_as(cluster, record)


def test_a_program_that_says_nothing_has_failed(cluster, slurm, record):
    with pytest.raises(SkewscopeError, match="srun"):
        slurm.test(record, ("false",), 20.0)
    assert drained_as(cluster, record)


def test_arguments_are_no_shell(cluster, slurm, record):
    told = slurm.test(record, ("echo", "$(reboot)", "a; b", "-n", "--nodes=8", "'"), 20.0)
    assert told == "$(reboot) a; b -n --nodes=8 '"


def test_a_program_that_does_not_end_is_ended(cluster, slurm, record):
    made = _slurm_retest.of(record, slurm.look(), slurm._road, slurm._wishes, ())
    with pytest.raises(SkewscopeError, match="no answer within"):
        replace(made, start_s=0.0).run(("sleep", "600"), 2.0)
    assert drained_as(cluster, record)
    C.until(lambda: not cluster.run("squeue", "-h", f"--name={RESERVATION}"))


def test_somebody_who_drains_it_meanwhile_is_respected(cluster, slurm, record):
    slurm.test(
        record, ("scontrol", "update", f"NodeName={record['target']}", "State=DRAIN", "Reason=Jo swaps the fan"), 20.0
    )
    assert cluster.node(record["target"])["reason"] == "Jo swaps the fan"
    with pytest.raises(SkewscopeError, match="not fenced by us|not ours"):
        slurm.test(record, ("true",), 20.0)


def test_a_test_that_was_cut_short_leaves_a_fence_and_can_be_run_again(cluster, slurm, record):
    cluster.scontrol("create", "reservation", f"ReservationName={RESERVATION}", "StartTime=now", "Duration=60",
                     f"Nodes={record['target']}", f"Users={cluster.user}", "Flags=maint,ignore_jobs")  # fmt: skip
    cluster.scontrol("update", f"NodeName={record['target']}", "State=UNDRAIN")
    fleet = slurm.look()
    assert (slurm.holds(record, fleet), fleet.nodes[record["target"]].schedulable) == (True, False)
    assert slurm.test(record, ("echo", "well"), 20.0) == "well"
    assert drained_as(cluster, record)


def test_a_node_where_work_still_runs_is_not_tested(cluster, slurm, record):
    cluster.scontrol("update", f"NodeName={record['target']}", "State=UNDRAIN")
    number = cluster.submit("sleep 60", f"--nodelist={record['target']}")
    cluster.wait_for(number, "RUNNING")
    cluster.scontrol(
        "update", f"NodeName={record['target']}", "State=DRAIN", f"Reason={record['undo']['now']['reason']}"
    )
    with pytest.raises(SkewscopeError, match=f"job {number} still runs"):
        slurm.test(record, ("true",), 20.0)


@pytest.mark.parametrize("other", [{"target": "n7"}, {"target": "n9"}, {"undo": {}}])
def test_only_what_we_drained_is_tested(slurm, record, other):
    with pytest.raises(SkewscopeError, match="not fenced by us|not ours"):
        slurm.test(record | other, ("true",), 20.0)


@pytest.mark.parametrize("verb", ["quarantine", "exclude"])
def test_a_node_is_tested_in_its_quarantine_or_in_service(cluster, slurm, nodes, verb):
    name = next(nodes)
    number = cluster.submit("true", "--hold")
    done = slurm.command(F.request(verb, name, job=number if verb == "exclude" else ""), slurm.look())
    assert slurm.apply(done, dry_run=False).result == "done"
    before = cluster.scontrol("-o", "show", "reservation")
    assert slurm.test(F.record(done), ("sh", "-c", "echo $SLURM_JOB_RESERVATION"), 20.0).startswith("skewscope_")
    assert cluster.scontrol("-o", "show", "reservation") == before
    assert not cluster.node(name)["reason"]
    assert slurm.apply(slurm.undo(F.record(done), slurm.look()), dry_run=False).result == "done"
    cluster.run("scancel", number)
