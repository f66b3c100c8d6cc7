"""Cases for the policy out of what the analysis says: incidents of a running fleet, or the findings of a report."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..policy.cases import Case
from .hints import of_finding

NODES = ("rank", "gpu", "node", "nic")  # kinds of subjects that blame one node
LOOKS = 5  # windows, or parts of a report, that are looked back
LOOK_STEPS = 10
WINDOW_S = 30.0
SECOND_NS = 10**9
Document = Mapping[str, Any]


@dataclass
class Sightings:
    """Whether each incident was seen in the latest windows, of which `LOOKS` are counted."""

    _seen: dict[str, deque[bool]] = field(default_factory=dict)

    def note(self, seen: Mapping[str, bool]) -> None:
        """Take one window in: the live incidents, and whether each was seen; all others are forgotten."""
        self._seen = {name: self._seen.get(name) or deque(maxlen=LOOKS) for name in seen}
        for name, one in seen.items():
            self._seen[name].append(one)

    def counts(self, incident: str) -> tuple[int, int]:
        """Return in how many of the latest windows it was seen, and how many these are.

        >>> sightings = Sightings()
        >>> for seen in (True, False, True):
        ...     sightings.note({"a": seen})
        >>> sightings.counts("a")
        (2, 3)
        """
        seen = self._seen.get(incident, ())
        return sum(seen), len(seen)


@dataclass(frozen=True)
class Known:
    """What is known of an incident besides its document: see `Case`."""

    seen_ns: int
    seen_count: int
    of_count: int
    ranks: int = 0
    step_s: float = float("nan")
    healthy: bool = False
    doubt: str = ""


def of_incident(told: Document, known: Known) -> Case:
    """Return the case of a `skewscope.incident/1` document."""
    finding: Document = next(iter(told["findings"]), {"role": "culprit", "window": {}})
    cost = told["cost"]
    ranks = known.ranks or ranks_of(cost.get("lost_gpus"), cost["share"])
    return Case(
        told["id"], told["condition"], told["subject"]["id"], **_place(told["subject"]), job=told.get("job") or "",
        ranks=ranks, severity=told["severity"], role=finding["role"], confidence=told["confidence"],
        share=cost["share"], lost_gpus=cost.get("lost_gpus") or 0.0, opened_ns=told["opened_ns"],
        seen_ns=known.seen_ns, seen_count=known.seen_count, of_count=known.of_count,
        steps=steps_of(finding["window"], known.step_s), peers=ranks - 1 if ranks > 0 else -1,
        healthy=known.healthy or told["state"] == "closed", doubt=known.doubt, summary=told["summary"],
        hint=of_finding(finding, ranks) if told["findings"] else {},
    )  # fmt: skip


def ranks_of(lost_gpus: float | None, share: float) -> int:
    """Return the ranks of a job of which a share of all GPUs is lost, 0 where that is not known.

    >>> ranks_of(16.0, 0.25), ranks_of(None, 0.25)
    (64, 0)
    """
    return round(lost_gpus / share) if lost_gpus and share > 0 else 0


def steps_of(window: Document, step_s: float = float("nan")) -> int:
    """Return how many steps a finding's window holds, by their numbers or by the time of one; -1 where nobody knows.

    >>> steps_of({"first_step": 10, "last_step": 43, "start_ns": None, "end_ns": None})
    34
    >>> steps_of({"first_step": None, "last_step": None, "start_ns": 0, "end_ns": 150 * 10**9}, 0.5)
    300
    """
    first, last = window.get("first_step"), window.get("last_step")
    if first is not None and last is not None and last > first >= 0:
        return int(last - first) + 1
    start, end = window.get("start_ns"), window.get("end_ns")
    if start is None or end is None or not step_s > 0:
        return -1
    return int((end - start) / SECOND_NS / step_s)


def _place(subject: Document) -> dict[str, Any]:
    """Return the node, GPU and rack that a subject blames; a link, a group or an expert blames no node."""
    kind, name = subject["kind"], subject["id"]
    if kind not in NODES:
        return {"rack": name if kind == "rack" else ""}
    slot = name.rpartition("/gpu")[2] if kind == "gpu" else ""
    return {"node": subject.get("node") or "", "gpu": int(slot) if slot.isdigit() else -1}


def of_report(report: Document, seen_ns: int, *, job: str = "", findings: Sequence[str] = ()) -> list[Case]:
    """Return the cases of the culprits of a `skewscope.report/1`, known as of `seen_ns`.

    `job` is the scheduler's name of the job; without it the name in the recording is taken. `findings` are the ids of
    those that are wanted, all where none is given.
    """
    whole = report["job"]
    cases = []
    for finding in report["findings"]:
        if finding["role"] != "culprit" or (findings and finding["id"] not in findings):
            continue
        seen, of = parts(finding["window"], whole)
        cost, subject = finding["cost"], finding["subject"]
        name = job or _job(subject)
        cases.append(Case(
            incident_id(finding, name), finding["condition"], subject["id"], **_place(subject), job=name,
            ranks=whole["ranks"], severity=finding["severity"], confidence=finding["confidence"],
            share=cost["share"], lost_gpus=cost["share"] * whole["ranks"], opened_ns=seen_ns, seen_ns=seen_ns,
            seen_count=seen, of_count=of, steps=_steps(finding["window"], whole), peers=whole["ranks"] - 1,
            doubt=_doubt(report["inputs"], subject), summary=_summary(finding),
            hint=of_finding(finding, whole["ranks"]),
        ))  # fmt: skip
    return cases


def parts(window: Document, whole: Document) -> tuple[int, int]:
    """Return in how many of the last five looks of a recording a finding was seen, and of how many that can be said.

    A look is ten steps or 30 s, in a short recording a fifth of it.

    >>> parts({"first_step": 50, "last_step": 99}, {"steps": 100})
    (5, 5)
    >>> parts({"start_ns": 0, "end_ns": 10}, {"start_ns": 0, "end_ns": 100})
    (1, 5)
    """
    for begin, end, span, longest in _spans(window, whole):
        if span > 0:
            length = min(longest, span / LOOKS)
            lows = [span - length * (LOOKS - part) for part in range(LOOKS)]
            return sum(begin < low + length and end >= low for low in lows), LOOKS
    return 0, 0


def _spans(window: Document, whole: Document) -> Iterator[tuple[float, float, float, float]]:
    """Yield begin and end from the start of the whole, its length, and that of a look: in steps, then in time."""
    first, last, steps = window.get("first_step"), window.get("last_step"), whole.get("steps")
    if steps and first is not None and last is not None and last >= 0:
        shift = max(0, last - steps + 1)  # recordings may begin at any step
        yield first - shift, last - shift, steps, LOOK_STEPS
    start, end = window.get("start_ns"), window.get("end_ns")
    begin, over = whole.get("start_ns"), whole.get("end_ns")
    if start is not None and end is not None and begin is not None and over is not None:
        yield float(start - begin), float(end - begin), float(over - begin), WINDOW_S * SECOND_NS


def _steps(window: Document, whole: Document) -> int:
    known = steps_of(window)
    return known if known > 0 else int(whole.get("steps") or -1)


def _job(subject: Document) -> str:
    return str(subject["id"]).partition("/")[0] if subject["kind"] == "rank" else ""


def incident_id(finding: Document, job: str) -> str:
    """Return the name of an incident that a finding of a report is: the same for the same trouble at the same place."""
    text = f"{finding['condition']}|{finding['subject']['id']}|{job}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _doubt(inputs: Sequence[Document], subject: Document) -> str:
    rank = subject.get("rank")
    for one in inputs:
        if one["status"] != "ok" and rank is not None and one.get("rank") == rank:
            return f"the recording of rank {rank} is {one['status']}"
    return ""


def _summary(finding: Document) -> str:
    share = finding["cost"]["share"]
    return f"{finding['subject']['id']}: {finding['condition']}, costs {share:.0%} of each step"
