"""The sections of a policy file: each key with its default, what it does, and between which numbers it must lie.

A key stands here once: the loader checks it, `skewscope policy init` writes it, `skewscope policy check` explains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODES = ("observe", "approve", "act")  # the most cautious first
HARD_CONDITIONS = (
    "gpu-off-bus", "gpu-gsp-timeout", "gpu-ecc-uncorrectable", "gpu-row-remap", "nvlink-down", "nic-link-down",
    "nic-driver-fault", "rdma-retry-exhausted", "host-process-stuck",
)  # fmt: skip


def key(default: Any, does: str, *, least: float = 0.0, most: float = math.inf, one_of: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
    """Return the field of one key: its default, what it does, the numbers or words that it takes."""
    told = {"does": does, "least": least, "most": most, "one_of": one_of}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=told)
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class DryRun:
    """Guard 2: every step is gone through, and the scheduler is asked to check it, but nothing changes."""

    first_days: float = key(7.0, "days after the first line of the audit in which every act is only a dry run")


@dataclass(frozen=True)
class Budget:
    """Guards 3 and 4: how many nodes may be out; of a number and a share the smaller holds, a share is one at least."""

    nodes_at_once: int = key(1, "nodes of one scheduler that may be out at the same time")
    share_at_once: float = key(0.02, "the same as a share of all its nodes", most=1)
    nodes_per_day: int = key(2, "nodes that may be fenced within 24 hours")
    share_per_day: float = key(0.02, "the same as a share of all nodes", most=1)
    nodes_per_rack: int = key(1, "nodes of one rack that may be out at the same time")
    nodes_per_group: int = key(1, "nodes of one partition or node pool that may be out at the same time")
    nodes_per_job: int = key(1, "nodes of one job that may be out at the same time")
    count_foreign: bool = key(
        True, "nodes that others drained, or that are down, count as out: raise the limits by as many as usually are"
    )


@dataclass(frozen=True)
class Breaker:
    """Guard 5: opens when much happens at once, stays open until a person resets it; it never keeps a node out."""

    acts: int = key(3, "so many fences and restarts within window_s open it", least=1)
    failures: int = key(3, "so many failed acts within window_s open it", least=1)
    window_s: float = key(1800.0, "seconds that are looked back", least=1)
    out_share: float = key(0.05, "more than this share of all nodes out, by whomever, opens it", most=1)
    out_nodes: int = key(2, "so many nodes may be out in any case, that a small cluster can act at all")


@dataclass(frozen=True)
class Storm:
    """Guard 6: many nodes bad at once have a shared cause; no node is touched then."""

    nodes: int = key(3, "so many nodes bad within window_s are a storm", least=2)
    window_s: float = key(900.0, "seconds between the first and the last of them", least=1)


@dataclass(frozen=True)
class Evidence:
    """Guard 7: how well a thing must be known."""

    windows: int = key(4, "windows that must have shown it, of the last of_windows", least=1, most=5)
    of_windows: int = key(5, "windows that are looked back; no more than 5 are remembered", least=1, most=5)
    steps: int = key(50, "steps that must have been compared")
    peers: int = key(4, "ranks that must have been compared with")
    confidence: float = key(0.8, "confidence that is needed", most=1)
    hard: tuple[str, ...] = key(HARD_CONDITIONS, "what is broken, not slow: needs no steps, peers and no ratio")


@dataclass(frozen=True)
class Hysteresis:
    """Guard 8: two thresholds of the step time, as it is over as it could be, and a minimum hold."""

    enter_ratio: float = key(1.20, "from here on a node is acted upon", least=1)
    leave_ratio: float = key(1.10, "below, it is over; between the two nothing begins and nothing ends", least=1)
    hold_s: float = key(600.0, "seconds that an act stands at least")


@dataclass(frozen=True)
class CoolDown:
    """Guards 9 and 10: how long a node and a job are left alone after an act for another incident."""

    node_s: float = key(21_600.0, "seconds in which a node is not touched again")
    job_s: float = key(3600.0, "seconds in which a job's nodes are not touched again")
    factor: float = key(2.0, "each further fence of a node within days_back stretches node_s by it", least=1)
    most_s: float = key(604_800.0, "the longest that node_s is stretched to")
    retry_s: float = key(600.0, "seconds after an act that failed or was refused")
    offender_fences: int = key(3, "so many fences of one node within days_back: from then on only a ticket", least=1)
    days_back: float = key(7.0, "days in which repeats are counted")


@dataclass(frozen=True)
class Ownership:
    """Guards 11 and 12: only what bears our prefix is ever ours; state is read anew right before writing."""

    protected: tuple[str, ...] = key((), "names of nodes that are never touched, with * and ?")
    protected_jobs: tuple[str, ...] = key((), "ids, names or users of jobs whose nodes are never touched, with * and ?")
    pause_label: str = key("skewscope.io/pause", "a node with this label, annotation, feature or comment is left alone")


@dataclass(frozen=True)
class Work:
    """Guards 13 and 14: running work ends or reaches a checkpoint; disruption budgets are waited for, always."""

    requeue: bool = key(False, "with exclude, restart the job at once; else the next restart leaves the node out")
    evict: bool = key(False, "with drain, move pods away; else they end by themselves")
    wait_checkpoint: bool = key(True, "a restart waits for a fresh checkpoint where that costs less than lost work")
    fresh_s: float = key(300.0, "a checkpoint is fresh for so many seconds")
    longest_wait_s: float = key(3600.0, "seconds after the incident opened in which a checkpoint is waited for")


@dataclass(frozen=True)
class Retest:
    """Guard 15: back into service only after a test of speed, and only what we fenced."""

    required: bool = key(True, "a fence is taken back only after a passed test")
    after_s: float = key(600.0, "seconds that a node rests before its first test")
    again_s: float = key(3600.0, "seconds between two tests")
    tries: int = key(3, "failed tests after which a person is called", least=1)
    timeout_s: float = key(900.0, "seconds that a test may take", least=1)
    words: tuple[str, ...] = key(("skewscope", "retest", "--json", "-"), "the program that is run on the node")
    references: str = key("", "file or folder with results of healthy nodes, of `skewscope retest --keep`")


@dataclass(frozen=True)
class Ladder:
    """Guard 16: the gentlest first, a stronger one only while the trouble stands."""

    verbs: tuple[str, ...] = key(
        ("note", "avoid", "exclude", "drain", "ticket"), "rungs; there are note avoid exclude drain quarantine ticket"
    )
    start: str = key("note", "the first rung")
    starts: Mapping[str, str] = key({}, 'other first rungs by condition or severity: { "gpu-off-bus" = "drain" }')
    step_s: float = key(600.0, "seconds before the next rung")


@dataclass(frozen=True)
class Approval:
    """Guard 17: in mode approve a person says yes, before the proposal expires."""

    expires_s: float = key(1800.0, "seconds after which a proposal, or a yes to it, is void", least=1)
    again_s: float = key(3600.0, "seconds after an expired proposal before it is made again")
    two_persons_above: int = key(2, "where more nodes than this would be out, two persons must say yes")
    free_verbs: tuple[str, ...] = key((), "verbs that need nobody's yes in mode approve")


@dataclass(frozen=True)
class Calendar:
    """Guard 18: maintenance windows, frozen times, the kill switch."""

    windows: tuple[str, ...] = key((), 'acts only then, as "Mon-Fri 08:00-18:00"; none: always')
    freezes: tuple[str, ...] = key((), 'never then, as "2026-12-20 00:00/2027-01-02 08:00" or "Sat-Sun 00:00-24:00"')
    timezone: str = key("UTC", "the time zone of both")
    stop_file: str = key("", "the kill switch: while this file exists, nothing is done at all")


@dataclass(frozen=True)
class Alarms:
    """Guard 19: nothing is done while other alarms burn. Values are patterns with * and ?."""

    block: tuple[Mapping[str, str], ...] = key(({"severity": "critical"},), "labels of alarms that hold everything")
    ignore: tuple[Mapping[str, str], ...] = key(({"alertname": "Skewscope*"},), "labels of those that do not")
    same_node_counts: bool = key(False, "an alarm of the very node that is to be acted upon counts too")


@dataclass(frozen=True)
class Quality:
    """Guard 20: without trusted, fresh data nothing is done."""

    stale_s: float = key(120.0, "seconds after which a finding is stale", least=1)
    fleet_stale_s: float = key(60.0, "seconds after which what the scheduler said is stale", least=1)
    skew_s: float = key(5.0, "seconds that data may lie in the future")


@dataclass(frozen=True)
class Capacity:
    """Guard 21: a job must find nodes again."""

    spare_nodes: int = key(1, "free nodes that must be there for each node taken from a job")
    same_group: bool = key(True, "they must be of one partition or node pool with it")


@dataclass(frozen=True)
class Rate:
    """Guard 24: how often a scheduler is asked; for how long, each scheduler's own settings say."""

    per_s: float = key(5.0, "requests a second at most", least=0.01)


@dataclass(frozen=True)
class Reconcile:
    """Guard 26: soft marks that a restart of the scheduler lost are set again."""

    every_s: float = key(60.0, "seconds between two looks", least=1)


@dataclass(frozen=True)
class Watcher:
    """Guard 27: people hear of acting that got stuck; `skewscope rules` writes alerts for the rest of it."""

    fenced_s: float = key(86_400.0, "seconds after which a person is called for a node that is still fenced", least=1)


@dataclass(frozen=True)
class Economics:
    """What waiting costs against what acting costs, in GPU-hours."""

    horizon_s: float = key(28_800.0, "seconds over which waiting is priced, at most until the job's end", least=1)
    restart_s: float = key(600.0, "seconds that a restart of a job takes")
    since_checkpoint_s: float = key(1800.0, "seconds of lost work where nothing is known of checkpoints")
    margin: float = key(2.0, "the gain must be so many times the cost", least=0)
    trust: float = key(0.8, "the share of gains that came true, where nothing is known yet", most=1)
