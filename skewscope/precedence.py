"""Which finding explains which: one cause, one culprit; what it drags along becomes its victim or its context.

The order is the explain-away order of the field: hard events, then rates of links, input, workload shape, and last the
rank that is slow for an unknown reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .contracts import SEVERITIES, Finding

EXPLAINED = {  # what each cause makes visible elsewhere
    "coll-late-rank": ("tp-straggler", "coll-slow-group", "step-shift", "step-spike", "pp-bubble-stall"),
    "data-loader-stall": ("coll-late-rank", "tp-straggler", "step-shift", "step-spike", "coll-slow-group"),
    "host-gc-pause": ("coll-late-rank", "step-spike", "data-sequence-skew"),
    "coll-slow-endpoint": ("comm-exposed", "coll-slow-link", "coll-slow-group", "step-shift", "pp-bubble-stall"),
    "coll-slow-link": ("comm-exposed", "coll-slow-group", "pp-bubble-stall"),
    "pp-stage-imbalance": ("pp-bubble-stall", "coll-late-rank"),
    "data-sequence-skew": ("step-spike", "coll-late-rank", "step-shift"),
    "coll-missing-rank": ("coll-hang", "step-spike"),
    "coll-desync": ("coll-hang", "coll-missing-rank"),
}


@dataclass(frozen=True)
class Explained:
    """Findings in the order to read them; `explains` maps each place to the places that it explains."""

    findings: tuple[Finding, ...]
    explains: dict[int, tuple[int, ...]]


def explain(found: Iterable[Finding]) -> Explained:
    """Return the findings sorted (culprits and severity first, then cost), with causes linked to what they explain."""
    everything = list(found)
    findings = [_demoted(finding, everything) for finding in everything]
    findings.sort(key=_order)
    links: dict[int, tuple[int, ...]] = {}
    for place, finding in enumerate(findings):
        if finding.role != "culprit":
            continue
        drawn = EXPLAINED.get(finding.condition, ())
        links[place] = tuple(
            other for other, victim in enumerate(findings) if victim.condition in drawn and victim.role != "culprit"
        )
    return Explained(tuple(_with_also_seen(findings, links)), links)


def _demoted(finding: Finding, found: list[Finding]) -> Finding:
    """Return the finding as context where another culprit about the same subject explains it."""
    if finding.role != "culprit":
        return finding
    for cause in found:
        same = cause.subject.id == finding.subject.id
        if cause.role == "culprit" and same and finding.condition in EXPLAINED.get(cause.condition, ()):
            return replace(finding, role="context")
    return finding


def _order(finding: Finding) -> tuple[int, float, str, str]:
    return SEVERITIES.index(finding.severity), -finding.lost_s, finding.condition, finding.subject.id


def _with_also_seen(findings: list[Finding], links: dict[int, tuple[int, ...]]) -> Iterable[Finding]:
    for place, finding in enumerate(findings):
        seen = sorted({findings[other].condition for other in links.get(place, ())})
        yield replace(finding, also_seen=tuple(seen)) if seen else finding
