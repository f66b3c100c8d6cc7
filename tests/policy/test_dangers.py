import pytest

from skewscope.policy.dangers import dangers
from skewscope.policy.settings import Policy


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"mode": "act"}, "mode"),
        ({"mode": "approve"}, "calendar.stop_file"),
        ({"schedulers": {"slurm": {"mode": "act", "dry_run": False}}}, "schedulers.slurm"),
        ({"schedulers": {"slurm": {"dry_run": False, "groups": {"gpu": {"mode": "act"}}}}}, "schedulers.slurm"),
        ({"budget": {"count_foreign": False}}, "budget.count_foreign"),
        ({"budget": {"share_per_day": 0.2}}, "budget.share_per_day"),
        ({"budget": {"nodes_per_job": 3}}, "budget.nodes_per_job"),
        ({"breaker": {"acts": 11}}, "breaker"),
        ({"storm": {"nodes": 6}}, "storm.nodes"),
        ({"capacity": {"spare_nodes": 0}}, "capacity.spare_nodes"),
        ({"economics": {"margin": 0.5}}, "economics.margin"),
        ({"evidence": {"steps": 10}}, "evidence"),
        ({"hysteresis": {"leave_ratio": 1.19}}, "hysteresis"),
        ({"cool_down": {"node_s": 60}}, "cool_down"),
        ({"quality": {"stale_s": 3600}}, "quality"),
        ({"alarms": {"block": []}}, "alarms.block"),
        ({"rate": {"per_s": 100}}, "rate.per_s"),
        ({"retest": {"required": False}}, "retest.required"),
        ({"ladder": {"start": "drain"}}, "ladder"),
        ({"ladder": {"starts": {"S1": "exclude"}}}, "ladder"),
        ({"ladder": {"step_s": 10}}, "ladder.step_s"),
        ({"work": {"requeue": True}}, "work.requeue"),
        ({"work": {"evict": True}}, "work.evict"),
        ({"approval": {"free_verbs": ["drain"]}}, "approval.free_verbs"),
        ({"approval": {"expires_s": 100_000}}, "approval.expires_s"),
    ],
)
def test_what_is_dangerous_is_told(given, key):
    assert key in [told.partition(":")[0] for told in dangers(Policy.parse(given))]


def test_a_careful_policy_is_not_scolded():
    given = {"calendar": {"stop_file": "/run/stop"}, "schedulers": {"slurm": {"mode": "approve", "dry_run": False}}}
    assert dangers(Policy.parse(given)) == []
