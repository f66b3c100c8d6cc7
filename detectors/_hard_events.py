"""What stops a job: XIDs and states of GPUs, judged by the policy, one finding for all that a host or rack had at once.

They are culprits without a price: nobody measures the steps that a dead job does not make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Window
from skewscope.signals.view import Signal, signal
from skewscope.subjects import Subject
from skewscope.xid_policy import ACTIONS, DRAINS, POLICY, RECOVERY, Policy, Verdict

from . import _crowds, _xids

Array = np.ndarray[Any, Any]
ASKED = "skewscope_gpu_recovery_action"
SPEAKS_WINDOWS = 5  # what a driver wants stands soon after the message
ENDING = ("restart_app", "restart_fabric", *DRAINS)  # somebody's work has ended, or must
FAILING = ("validate", "replace_when_idle")  # it will
ADVICE = {
    "none": "nothing to do about the GPU",
    "annotate": "note it on the node and watch whether it comes back",
    "notify_owner": "tell the owner of the program; the GPU stays in use",
    "restart_app": "restart the application; the GPU stays in use",
    "restart_fabric": "restart the fabric manager (or the IMEX domain), then the application",
    "reset_when_idle": "reset the GPU as soon as it is idle; nothing needs to be stopped for it",
    "replace_when_idle": "place no new job on it and have the GPU replaced when its job ends",
    "validate": "take the node out at the next occasion and run diagnostics (DCGM EUD) on this GPU",
    "drain_reset": "drain the node and reset the GPU, then validate it",
    "drain_reboot": "drain the node and reboot it (power-cycle if the GPU stays away), then validate it",
    "replace": "drain the node and have the GPU serviced",
}


@dataclass(frozen=True)
class Trouble:
    """One GPU (or host, where `device` is empty) in trouble: since when, what it means, and what shows it."""

    node: str
    device: str
    start_ns: int
    end_ns: int
    verdict: Verdict
    evidence: tuple[Evidence, ...]

    @property
    def subject(self) -> Subject:
        """Return the GPU, or the host where nobody says which."""
        if self.device.startswith("gpu"):
            return subjects.gpu(self.node, self.device[3:])
        return subjects.node(self.node or "unknown")


class Asked:
    """What drivers ask for before a GPU is used again."""

    def __init__(self, tables: Frames) -> None:
        whole = signal(tables, ASKED)
        keys = zip(whole.node.tolist(), whole.device.tolist(), strict=True)
        self._column = {key: at for at, key in enumerate(keys)}
        self._t_ns, self._window_ns = whole.t_ns, int(whole.window_s * 1e9)
        told = {name: signal(tables, ASKED, take="high", action=name) for name in RECOVERY} if self._column else {}
        self._held = {name: whole.aligned(one) > 0 for name, one in told.items() if len(one)}

    def of(self, node: str, device: str, start_ns: int, end_ns: int) -> str | None:
        """Return the gravest that was asked then or soon after, "none" where nothing was, None where nobody tells."""
        column = self._column.get((node, device))
        after = (self._t_ns > start_ns) & (self._t_ns <= end_ns + SPEAKS_WINDOWS * self._window_ns)
        if column is None or not after.any():
            return None
        held = [name for name, values in self._held.items() if values[after, column].any()]
        return max(held, key=lambda name: ACTIONS.index(RECOVERY[name]), default=None)


def of_xids(tables: Frames, condition: str, policy: Policy = POLICY, *, once: bool = True) -> list[Trouble]:
    """Return the GPUs with codes that a condition judges, each with its verdict.

    Not `once`: a code that counts only when it comes again is left out before, unless the driver wants a reset.
    """
    bursts = _xids.bursts(tables, policy.codes(condition), policy)
    by_code: dict[tuple[str, str, int], list[_xids.Burst]] = {}
    for burst in bursts:
        by_code.setdefault((burst.node, burst.device, burst.code), []).append(burst)
    asked = Asked(tables) if by_code else None
    found = [(mine[0].code, *_judged(mine, asked, policy)) for mine in by_code.values()]
    return [trouble for code, repeats, trouble in found
            if once or repeats >= policy.of(code).repeats_count or trouble.verdict.drain]  # fmt: skip


def of_states(
    tables: Frames, told: Signal, mask: Array, action: str, text: str, signal_name: str, *, threshold: float = 1.0,
) -> list[Trouble]:  # fmt: skip
    """Return the series of a signal that are in a bad state in `mask` [windows, series].

    `text` is what it means; its `{value}` is the sum of a counter's growth or the greatest value of a gauge, as the
    signal's values are in these windows. What ends nobody's work is not made graver by what the driver asks for.
    """
    found: list[Trouble] = []
    asked = Asked(tables) if mask.any() and action in DRAINS else None
    for column in np.flatnonzero(mask.any(axis=0)).tolist():
        node, device, window = str(told.node[column]), str(told.device[column]), told.window(mask[:, column])
        some = told.values[mask[:, column], column]
        value = float(some.sum() if signal_name.endswith("_total") else some.max())
        recovery = asked.of(node, device, window.start_ns, window.end_ns) if asked and device else None
        verdict = POLICY.weighed(action, text.format(value=f"{value:g}"), recovery)
        evidence = (Evidence(signal_name, value, 0.0, threshold, "count"),)
        found.append(Trouble(node, device, window.start_ns, window.end_ns, verdict, evidence))
    return found


def findings(
    condition: str, tables: Frames, troubles: Iterable[Trouble], *, lasts_s: float, alone: bool = False
) -> Iterator[Finding]:
    """Yield one finding per GPU, or per host or rack where most GPUs had it at once (never if `alone`).

    `lasts_s` is how long an event speaks for the time after it.
    """
    margin_ns = int(2e9 * _xids.window_s(tables))
    one_each = list(_with_hosts(list(_joined(troubles)), margin_ns))
    spans = [(one.start_ns - margin_ns, one.end_ns + margin_ns) for one in one_each]
    sizes = _xids.gpus(tables) if one_each else {}
    shared = _crowds.crowds([one.node if one.device else "" for one in one_each], spans, sizes)
    if alone:
        shared = [_crowds.Crowd((place,)) for place in range(len(one_each))]
    by_subject: dict[str, tuple[Subject, list[Trouble]]] = {}
    for crowd in shared:
        members = [one_each[place] for place in crowd.members]
        subject = crowd.subject or members[0].subject
        by_subject.setdefault(subject.id, (subject, []))[1].extend(members)
    for subject, members in by_subject.values():
        yield _finding(condition, subject, members, lasts_s)


def alert(condition: str, recent_s: float, policy: Policy = POLICY) -> str:
    """Return PromQL that is true where a code that calls for more than a note came in the last `recent_s`."""
    codes = "|".join(
        str(code) for code in policy.codes(condition) if policy.of(code).action not in ("none", "notify_owner")
    )
    both = " or ".join(f'{metric}{{xid=~"{codes}"}}' for metric in _xids.TIMES)
    return f"time() - ({both}) < {recent_s:g}"


def _judged(mine: Sequence[_xids.Burst], asked: Asked | None, policy: Policy) -> tuple[int, Trouble]:
    """Return (bursts that count, trouble) of one code on one GPU, from its bursts in the order of time."""
    first, last = mine[0], mine[-1]
    since_ns = last.end_ns - int(policy.of(first.code).window_s * 1e9)
    repeats = sum(burst.start_ns >= since_ns for burst in mine)
    recovery = asked.of(first.node, first.device, first.start_ns, last.end_ns) if asked else None
    verdict = policy.verdict(first.code, bursts=repeats, recovery=recovery)
    evidence = Evidence(f"xid_{first.code}", float(sum(burst.count for burst in mine)), 0.0, 1.0, "count")
    return repeats, Trouble(first.node, first.device, first.start_ns, last.end_ns, verdict, (evidence,))


def _joined(troubles: Iterable[Trouble]) -> Iterator[Trouble]:
    """Yield one trouble per GPU: the worst verdict, all evidence."""
    by_gpu: dict[tuple[str, str], list[Trouble]] = {}
    for one in troubles:
        by_gpu.setdefault((one.node, one.device), []).append(one)
    for mine in by_gpu.values():
        worst = max(mine, key=_gravity)
        yield replace(
            worst, start_ns=min(one.start_ns for one in mine), end_ns=max(one.end_ns for one in mine),
            evidence=tuple({item.signal: item for one in mine for item in one.evidence}.values()),
        )  # fmt: skip


def _with_hosts(troubles: Sequence[Trouble], margin_ns: int) -> Iterator[Trouble]:
    """Yield the troubles; what a host tells while one or two of its GPUs have theirs is about these."""
    told: list[Trouble] = []
    for one in troubles:
        mates = [gpu for gpu in troubles if gpu.node == one.node and gpu.device and _overlap(gpu, one, margin_ns)]
        if one.device or not 0 < len(mates) < _crowds.WHOLE_COUNT:
            told.append(one)
    about = [one for one in troubles if one not in told]
    for one in told:
        for host in about if one.device else ():
            if host.node == one.node and _overlap(one, host, margin_ns):
                graver = max(one.verdict, host.verdict, key=lambda verdict: ACTIONS.index(verdict.action))
                verdict = replace(graver, why=f"{one.verdict.why}; {host.verdict.why}")
                one = replace(one, verdict=verdict, evidence=(*one.evidence, *host.evidence))
        yield one


def _overlap(one: Trouble, other: Trouble, margin_ns: int) -> bool:
    return one.start_ns <= other.end_ns + margin_ns and other.start_ns <= one.end_ns + margin_ns


def _finding(condition: str, subject: Subject, members: Sequence[Trouble], lasts_s: float) -> Finding:
    worst = max(members, key=_gravity)
    action = worst.verdict.action
    count = sum(bool(one.device) for one in members)
    where = f"{count} GPUs of {subject.id}" if count > 1 else subject.id
    counts = ", ".join(f"{item.signal} {item.value:g}" for item in worst.evidence)
    return Finding(
        condition=condition, subject=subject, role="culprit" if action in (*ENDING, *FAILING) else "context",
        severity=_severity(action), confidence=0.97,
        window=Window(min(one.start_ns for one in members),
                      max(one.end_ns for one in members) + int(lasts_s * 1e9)),
        lost_s=0.0, lost_share=0.0, evidence=worst.evidence, summary=f"{where}: {worst.verdict.why} ({counts})",
        advice=ADVICE[action],
    )  # fmt: skip


def _severity(action: str) -> str:
    if action in ENDING:
        return "S1"
    if action in FAILING:
        return "S2"
    return "S3" if action == "reset_when_idle" else "S4"


def _gravity(one: Trouble) -> int:
    return ACTIONS.index(one.verdict.action)
