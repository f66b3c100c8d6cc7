"""Which finding is right about which fault.

A finding is *right* about a fault when it names the fault's condition and its subject is right: the same subject, or a
subject of a kind that is natural to the condition (the kinds of which the condition's own worlds speak) and that is the
place of the fault: its host, a GPU or adapter that it strikes, the GPU of one of its ranks, any of them on a host that
is faulty as a whole, one of its ranks, a link from or to one of them, the rail or the rack (by name, or as `n2..n3`
from the first to the last host) that holds exactly what it strikes, the whole job that runs there. A host named for a
faulty GPU is not right where the condition speaks of GPUs.

Only culprits are claims, and where a fault costs next to nothing (less than 0.5 % of the step) so is a finding of its
condition and place that says so by its role: context is then the right answer. A claim that is not right is a *symptom*
where the order of causes (`precedence`) says that the fault's condition makes it visible and it concerns the fault: its
host, ranks or victims, or what has no place of its own (a job, group, stage, link, rack). Every other claim is *wrong*.
The truth must be cut to what had begun: whatever is claimed before the onset is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..contracts import Finding
from ..precedence import EXPLAINED
from ..subjects import Subject
from .truth import Fault, Truth

RIGHT, SYMPTOM, WRONG, NO_CLAIM = "right", "symptom", "wrong", ""
RAIL = "rail"  # subjects as rail/mlx5_1 or rail/gpu1: what has this number on all hosts
PLACELESS = ("job", "group", "stage", "link", "rack", "replica", "layer", "expert")
Natural = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Scored:
    """`outcomes` and `about` (the place of the fault, -1 for none) of each finding, in order.

    For each fault: `first` is the place of the first right claim (-1: not found), `seen` tells whether a finding is
    right that claims nothing, and `blamed` names the condition of the first claim that concerns it ("" for none).
    """

    outcomes: tuple[str, ...]
    about: tuple[int, ...]
    first: tuple[int, ...]
    seen: tuple[bool, ...]
    blamed: tuple[str, ...]


def score(found: Sequence[Finding], truth: Truth, natural: Natural | None = None) -> Scored:
    """Return which findings are right, by the rule above; `natural` maps conditions to kinds of subjects.

    Findings stand in the order in which a report shows them, so that the first claim is the root cause it names.
    """
    pairs = [_about(one, truth.faults, natural or {}) for one in found]
    outcomes, about = tuple(outcome for outcome, _ in pairs), tuple(place for _, place in pairs)
    first = tuple(
        next((n for n, pair in enumerate(pairs) if pair == (RIGHT, place)), -1) for place in range(len(truth.faults))
    )
    seen = tuple(
        any(is_right(one, fault, natural or {}) for one in found if one.role != "culprit") for fault in truth.faults
    )
    blamed = tuple(_blamed(found, pairs, place, fault) for place, fault in enumerate(truth.faults))
    return Scored(outcomes, about, first, seen, blamed)


def is_right(found: Finding, fault: Fault, natural: Natural) -> bool:
    """Return whether a finding names the fault's condition and place, whatever its role."""
    if found.condition != fault.condition:
        return False
    kinds = natural.get(fault.condition, ())
    return found.subject.id == fault.subject or (found.subject.kind in kinds and is_place(found.subject, fault))


def is_place(subject: Subject, fault: Fault) -> bool:
    """Return whether a subject is where the fault is."""
    if subject.id == fault.subject:
        return True
    if subject.kind == "node":
        return bool(fault.node) and subject.id == fault.node
    if subject.kind in ("rank", "link"):
        return _has_rank(subject, fault)
    if subject.kind == "job":
        return subject.id == fault.job or fault.subject.startswith(f"{subject.id}/")
    return _is_hardware(subject, fault)


def _is_hardware(subject: Subject, fault: Fault) -> bool:
    hosts = sorted({device.partition("/")[0] for device in fault.devices})
    rail, _, name = subject.id.partition("/")
    if rail == RAIL:
        return {_slot(device) for device in fault.devices} == {_slot(name)}
    if subject.kind == "rack":
        whole = fault.rack if fault.subject == fault.rack else ""
        return subject.id in {whole, f"{hosts[0]}..{hosts[-1]}" if len(hosts) > 1 else ""} - {""}
    if subject.kind not in ("gpu", "nic"):
        return False
    whole = fault.node if fault.subject == fault.node else ""
    own = subject.id in fault.devices or bool(whole and subject.node == whole)
    return own or (subject.kind == "gpu" and _has_rank(subject, fault))


def _slot(device: str) -> str:
    """Return the number at the end of a device's name, which is that of its rail.

    >>> _slot("n1/mlx5_3"), _slot("gpu12")
    ('3', '12')
    """
    return device[len(device.rstrip("0123456789")) :]


def concerns(subject: Subject, fault: Fault) -> bool:
    """Return whether a subject is where the fault is, or suffers from it, or has no place of its own."""
    if subject.kind in PLACELESS or is_place(subject, fault) or (fault.node and subject.node == fault.node):
        return True
    return subject.id in fault.victims or (subject.rank >= 0 and str(subject.rank) in fault.victims)


def _has_rank(subject: Subject, fault: Fault) -> bool:
    return subject.rank in fault.ranks or (subject.kind == "link" and subject.peer in fault.ranks)


def _about(found: Finding, faults: Sequence[Fault], natural: Natural) -> tuple[str, int]:
    if found.role != "culprit":
        harmless = (n for n, fault in enumerate(faults) if fault.is_harmless and is_right(found, fault, natural))
        place = next(harmless, -1)
        return (RIGHT, place) if place >= 0 else (NO_CLAIM, -1)
    for place, fault in enumerate(faults):
        if is_right(found, fault, natural):
            return RIGHT, place
    for place, fault in enumerate(faults):
        if found.condition in EXPLAINED.get(fault.condition, ()) and concerns(found.subject, fault):
            return SYMPTOM, place
    return WRONG, -1


def _blamed(found: Sequence[Finding], pairs: Sequence[tuple[str, int]], place: int, fault: Fault) -> str:
    for one, (outcome, about) in zip(found, pairs, strict=True):
        of_other = outcome == RIGHT and about != place
        if outcome and not of_other and (about == place or concerns(one.subject, fault)):
            return one.condition
    return ""
