from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.actuators._slurm_hostlist import MOST, expand
from skewscope.actuators._slurm_state import Reservation

F = SimpleNamespace(**run_path(str(Path(__file__).parent / "slurm" / "_fleets.py")))


def shortened(prefix: str, numbers: list[int], width: int) -> str:
    """Return a host list of single numbers and ranges, as Slurm shortens it."""
    parts, rest = [], sorted(set(numbers))
    while rest:
        last = 1
        while last < len(rest) and rest[last] == rest[0] + last:
            last += 1
        low, high = f"{rest[0]:0{width}}", f"{rest[last - 1]:0{width}}"
        parts.append(low if last == 1 else f"{low}-{high}")
        rest = rest[last:]
    return f"{prefix}[{','.join(parts)}]"


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 5))
def test_a_host_list_stands_for_its_names(numbers, width):
    expected = [f"gpu-{number:0{width}}" for number in sorted(set(numbers))]
    assert list(expand(shortened("gpu-", numbers, width))) == expected


@pytest.mark.parametrize("text", ["n[1-", "n[1-2-3]", "n[a-b]", f"n[1-{MOST + 1}]", "n[1-999]m[1-999]", "n[]"])
def test_what_is_no_host_list_is_refused(text):
    if text == "n[1-":
        assert expand(text) == ("n[1-",)  # a plain name, which no node bears
        return
    with pytest.raises(ValueError, match="host list|one list"):
        expand(text)


@pytest.mark.parametrize(
    ("fields", "schedulable", "owner", "idle"),
    [
        ({}, True, "", True),
        ({"state": "mixed", "state_flags": ["DRAIN"], "reason": "NHC: ecc"}, False, "NHC: ecc", False),
        ({"state_flags": ["DRAIN"], "reason": "skewscope:i1 slow"}, False, "skewscope", True),
        ({"state": ["IDLE", "DRAIN"], "reason": "skewscope:i1 slow"}, False, "skewscope", True),
        ({"state": "down", "reason": "Not responding"}, False, "Not responding", False),
        ({"state": "down"}, False, "slurm", False),
        ({"state": "unknown"}, False, "", False),
        ({"state_flags": ["COMPLETING"]}, True, "", False),
        ({"state_flags": ["NOT_RESPONDING"]}, False, "", True),
        ({"state_flags": ["MAINTENANCE", "RESERVED"]}, False, "", True),
        ({"comment": "skewscope:i1 slow"}, True, "skewscope", True),
        ({"comment": "rack 7"}, True, "", True),
        ({"features": ["h100", "skewscope_avoid"], "active_features": ["h100"]}, True, "skewscope", True),
        ({"state_flags": ["DRAIN"], "reason": 'it\'s "bad" $x', "comment": "skewscope:i"}, False, "it_s _bad_ _x", 1),
    ],
)  # fmt: skip
def test_a_node_is_told_in_the_words_of_every_version(fields, schedulable, owner, idle):
    node = F.made(F.node("n3", **fields)).nodes["n3"]
    assert (node.schedulable, node.owner, node.idle) == (schedulable, owner, idle)
    assert node.groups == ("batch",)


@pytest.mark.parametrize(
    ("name", "flags", "schedulable", "owner"),
    [
        ("upgrade", ("MAINT", "SPEC_NODES"), True, "reservation upgrade"),
        ("physics", ("SPEC_NODES",), True, ""),
        ("skewscope_i1_a1", ("MAINT",), False, "skewscope"),
    ],
)
def test_a_reservation_is_a_fence_where_it_is_for_maintenance(name, flags, schedulable, owner):
    node = F.made(F.node("n3"), reserved=(Reservation(name, ("n3",), flags),)).nodes["n3"]
    assert (node.schedulable, node.owner, node.reservation) == (schedulable, owner, name)


@pytest.mark.parametrize(
    ("told", "state"),
    [("PENDING", "pending"), (["PENDING"], "pending"), ("RUNNING", "running"), (["RUNNING", "CONFIGURING"], "running"),
     ("COMPLETING", "ending"), (["PENDING", "COMPLETING"], "ending"), ("COMPLETED", "over"), (["FAILED"], "over"),
     (["CANCELLED", "COMPLETING"], "ending"), ("NODE_FAIL", "over")],
)  # fmt: skip
def test_a_job_is_told_in_the_words_of_every_version(told, state):
    fields = {"job_state": told, "node_count": {"set": True, "infinite": False, "number": 2}, "job_id": 7,
              "restart_cnt": {"set": True, "number": 1}, "name": "x\n$(y)"}  # fmt: skip
    job = F.made(F.node("n3"), jobs=(F.job(7, **fields),)).jobs["7"]
    assert (job.state, job.wants_nodes, job.native["restarts"], job.name) == (state, 2, 1, "x\n$(y)")
    assert job.nodes == (("n3", "n4") if state in ("running", "ending") else ())


def test_jobs_are_told_at_their_nodes():
    fleet = F.made(F.node("n3"), F.node("n9"), jobs=(F.job(7), F.job(8, job_state="PENDING", nodes="")))
    assert (fleet.nodes["n3"].jobs, fleet.nodes["n9"].jobs) == (("7",), ())
    assert not fleet.nodes["n3"].idle


@pytest.mark.parametrize("fields", [{"requeue": False}, {"batch_flag": False}])
def test_a_job_may_not_always_restart(fields):
    assert F.made(jobs=(F.job(7),)).jobs["7"].may_restart
    assert not F.made(jobs=(F.job(7, **fields),)).jobs["7"].may_restart
