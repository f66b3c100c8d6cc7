"""Policies to compare with where nobody has written one yet: from looking on to acting boldly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..policy.settings import Policy

PRESETS: dict[str, dict[str, Any]] = {
    "observe": {"mode": "observe"},
    "approve": {"mode": "approve"},
    "cautious": {"mode": "act"},  # all defaults
    "bold": {
        "mode": "act",
        "budget": {"nodes_at_once": 6, "share_at_once": 0.1, "nodes_per_day": 12, "share_per_day": 0.2,
                   "nodes_per_rack": 2, "nodes_per_group": 6, "nodes_per_job": 2},
        "breaker": {"acts": 6, "out_share": 0.15}, "ladder": {"start": "exclude", "step_s": 120.0},
        "work": {"requeue": True, "evict": True}, "cool_down": {"node_s": 3600.0, "job_s": 900.0},
        "evidence": {"confidence": 0.7}, "hysteresis": {"enter_ratio": 1.1, "leave_ratio": 1.05},
        "economics": {"margin": 1.2},
    },
}  # fmt: skip
ABOUT = {
    "observe": "looks on", "approve": "a person says yes to each act", "cautious": "acts, all limits as they come",
    "bold": "acts early: takes nodes away and restarts jobs at once, six nodes at a time",
}  # fmt: skip


def policy(name: str) -> Policy:
    """Return a preset by its name, or the policy of a TOML file; raises UsageError.

    >>> policy("approve").mode("slurm")
    'approve'
    """
    if name in PRESETS:
        return Policy.parse(PRESETS[name], name)
    if name.endswith(".toml"):
        return Policy.load(Path(name))
    raise UsageError(f"{name}: is no policy file (.toml) and none of {', '.join(PRESETS)}")
