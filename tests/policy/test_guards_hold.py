"""Over random pasts no safe-guard is ever broken; the judge reads only the audit, and is shown to bite."""

from collections import Counter
from pathlib import Path
from random import Random
from runpy import run_path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.policy.settings import Policy

History = run_path(str(Path(__file__).with_name("_history.py")))["History"]
LARGE = {
    "nodes_at_once": 4, "share_at_once": 0.5, "nodes_per_day": 8, "share_per_day": 0.5, "nodes_per_rack": 2,
    "nodes_per_group": 4, "nodes_per_job": 2,
}  # fmt: skip
WIDE = {**LARGE, "nodes_at_once": 9, "nodes_per_rack": 9, "nodes_per_job": 9}
TOLERANT = {"acts": 99, "failures": 99, "out_share": 1.0, "out_nodes": 99}
RESTLESS = {"node_s": 0, "job_s": 0, "most_s": 0}
DRAIN = {"start": "drain"}
POLICIES = (
    {},
    {"budget": LARGE, "breaker": {"out_share": 0.3, "out_nodes": 6}},
    {"ladder": DRAIN, "budget": LARGE, "breaker": {"acts": 6, "out_share": 0.5, "out_nodes": 6}},
    {"cool_down": {"node_s": 1800, "job_s": 600, "factor": 1.5}, "ladder": {"step_s": 300}, "budget": LARGE},
    {"mode": "approve", "budget": LARGE, "breaker": {"out_share": 0.3, "out_nodes": 6}},
    {"mode": "observe"},
)
HAPPENS = (
    "intended", "done", "failed", "recovered", "undone", "undo-failed", "tested", "breaker", "proposed", "approved",
    "rejected", "leave", "hold", "return drop",
)  # fmt: skip


@given(st.integers(0, 10**9), st.sampled_from(POLICIES))
@settings(max_examples=60, deadline=None)
def test_no_guard_is_ever_broken(seed, told):
    policy = Policy.parse({"mode": "act", **told})
    history = History(Random(seed), policy, policy).run(40)
    assert not history.broke
    if policy.default_mode == "observe":
        assert not any(line["phase"] == "intended" for line in history.lines)


@pytest.fixture(scope="module")
def seen():
    total = Counter()
    for seed in range(30):
        policy = Policy.parse({"mode": "act", **POLICIES[seed % 5]})
        total += History(Random(seed), policy, policy).run(60).seen
    return total


@pytest.mark.parametrize("what", HAPPENS)
def test_much_happens_in_these_pasts(seen, what):
    assert seen[what] >= 2


@pytest.mark.parametrize(
    ("says", "loose"),
    [
        ("too many at once", {"ladder": DRAIN, "budget": LARGE}),
        ("too many in a day", {"ladder": DRAIN, "budget": LARGE}),
        ("too many of a rack", {"ladder": DRAIN, "budget": WIDE}),
        ("too many of a group", {"ladder": DRAIN, "budget": WIDE}),
        ("too many of a job", {"ladder": DRAIN, "budget": WIDE}),
        ("a node that rests", {"ladder": DRAIN, "cool_down": RESTLESS}),
        ("a job that rests", {"ladder": DRAIN, "cool_down": RESTLESS, "budget": WIDE}),
        ("a repeat offender", {"ladder": DRAIN, "cool_down": {**RESTLESS, "offender_fences": 99}, "budget": WIDE,
                               "breaker": TOLERANT, "retest": {"required": False}, "hysteresis": {"hold_s": 0}}),
        ("an open breaker", {"ladder": DRAIN, "budget": WIDE, "breaker": TOLERANT}),
        ("too many nodes out", {"ladder": DRAIN, "budget": WIDE, "breaker": TOLERANT}),
        ("a storm", {"storm": {"nodes": 99}}),
        ("thin evidence", {"evidence": {"steps": 0, "peers": 0, "confidence": 0.1, "windows": 1}}),
        ("not slow enough", {"hysteresis": {"enter_ratio": 1.0, "leave_ratio": 1.0}}),
        ("stale data", {"quality": {"stale_s": 9999}}),
        ("alarms burn", {"alarms": {"block": []}}),
        ("a rung without time for the one below", {"ladder": {"step_s": 1}}),
        ("a first rung that is not the gentlest", {"ladder": DRAIN}),
        ("undid without a passed test", {"ladder": DRAIN, "retest": {"required": False}}),
        ("undid too soon", {"hysteresis": {"hold_s": 0}}),
        ("no node to stand in", {"ladder": DRAIN, "capacity": {"spare_nodes": 0}, "budget": WIDE}),
        ("without the yes", {"strict": "approve"}),
        ("the mode is to look on", {"strict": "observe"}),
    ],
)  # fmt: skip
def test_the_judge_bites_where_a_limit_is_loosened(says, loose):
    told = dict(loose)
    strict = Policy.parse({"mode": told.pop("strict", "act")})
    policy = Policy.parse({"mode": "act", **told})
    for seed in range(200):
        if any(says in text for text in History(Random(seed), policy, strict).run(60).broke):
            return
    pytest.fail(f"nobody noticed: {says}")
