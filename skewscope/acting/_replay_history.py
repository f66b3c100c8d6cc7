"""A recorded week: what `watch` kept of incidents, made into one that can be played again.

The records say which node was blamed, when, and what it cost a job. What they do not say is guessed on the careful
side: a job has as many nodes as its ranks need, `spares` more stand idle, and what was found is taken to be true. So a
replay shows what a policy would have done, and what it would have saved if the findings were right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..policy.sections import HARD_CONDITIONS
from ..simulate.week import HOUR_NS, Machine, Trouble, Week, Work
from .cases import NODES, ranks_of

NAMES = ("history.1.jsonl", "history.jsonl", ".history.1.jsonl", ".history.jsonl")  # of --state, then of --store
SCHEMA = "skewscope.incident/1"
BEFORE_NS = HOUR_NS // 2  # a job ran for so long before its first incident, and runs on after its last
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Guess:
    """What a history does not tell: nodes of the cluster (0: those that are named and needed), GPUs of one, spares."""

    nodes: int = 0
    gpus_per_node: int = 8
    spares: int = 2


def recorded(places: Sequence[Path], guess: Guess | None = None) -> Week:
    """Return the week that files of incidents, or folders of `watch` (--state, --store), hold.

    Raises UsageError where there is no incident in them.
    """
    guess = guess or Guess()
    changes: dict[str, list[Document]] = {}
    for told in documents(places):
        changes.setdefault(told["id"], []).append(told)
    if not changes:
        shown = ", ".join(map(str, places))
        raise UsageError(f"{shown}: no {SCHEMA} in it; `skewscope watch --state DIR` keeps them in DIR/{NAMES[1]}")
    every = [_ordered(one) for one in changes.values()]
    last_ns = max(int(one[-1]["changed_ns"]) for one in every) + BEFORE_NS
    works = {work.id: work for work in _works(every, guess, last_ns)}
    troubles = [_trouble(one, works, last_ns) for one in every]
    start_ns = min(one.start_ns for one in works.values()) if works else min(one.onset_ns for one in troubles)
    machines = _machines(every, works.values(), guess)
    lost = sum(float(one[-1]["cost"].get("gpu_hours") or 0.0) for one in every)
    about = f"{len(every)} recorded incidents in {(last_ns - start_ns) / HOUR_NS / 24:.1f} days, {lost:.0f} GPU-h lost"
    ordered = tuple(sorted(troubles, key=lambda one: (one.onset_ns, one.id)))
    return Week(start_ns, last_ns, machines, tuple(works.values()), ordered, (), about, is_known=False)


def _ordered(changes: Sequence[Document]) -> list[Document]:
    """Return the changes of one incident by time, each once: two folders may hold the same."""
    by_time = {int(told["changed_ns"]): told for told in changes}
    return [by_time[time_ns] for time_ns in sorted(by_time)]


def documents(places: Iterable[Path]) -> Iterator[Document]:
    """Yield the incidents of files and folders, line by line; lines of other things, or half written, are passed over.

    Raises UsageError for a place that cannot be read.
    """
    for place in places:
        files = [place / name for name in NAMES if (place / name).exists()] if place.is_dir() else [place]
        for file in files:
            try:
                lines = file.read_text("utf-8", "replace").splitlines()
            except OSError as error:
                raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from None
            yield from (told for told in map(_decoded, lines) if told is not None)


def _decoded(line: str) -> Document | None:
    try:
        told = json.loads(line)
        whole = told["schema"] == SCHEMA and told["cost"] and told["subject"] and int(told["changed_ns"]) >= 0
    except (ValueError, KeyError, TypeError):
        return None
    return dict(told) if whole else None


def _node(told: Document) -> str:
    """Return the node that an incident blames, "" where it blames none."""
    subject = told["subject"]
    return str(subject.get("node") or "") if subject["kind"] in NODES else ""


def _ranks(changes: Sequence[Document]) -> int:
    return max(ranks_of(one["cost"].get("lost_gpus"), one["cost"]["share"]) for one in changes)


def _works(every: Sequence[Sequence[Document]], guess: Guess, last_ns: int) -> Iterator[Work]:
    """Yield the jobs that incidents name, from a while before the first of them to a while after the last."""
    jobs: dict[str, list[Sequence[Document]]] = {}
    for changes in every:
        if changes[0].get("job"):
            jobs.setdefault(str(changes[0]["job"]), []).append(changes)
    for name, some in sorted(jobs.items()):
        named = tuple(sorted({_node(one[0]) for one in some} - {""}))
        ranks = max((_ranks(one) for one in some), default=0) or guess.gpus_per_node * max(len(named), 1)
        start_ns = min(int(one[0]["opened_ns"]) for one in some) - BEFORE_NS
        end_ns = min(max(_end_ns(one, last_ns) for one in some) + BEFORE_NS, last_ns)
        nodes = max(math.ceil(ranks / guess.gpus_per_node), len(named), 1)
        yield Work(name, name, nodes, ranks, start_ns, end_ns, on=named)


def _end_ns(changes: Sequence[Document], last_ns: int) -> int:
    closed_ns = changes[-1].get("closed_ns")
    return int(closed_ns) if closed_ns is not None else last_ns


def _trouble(changes: Sequence[Document], works: Mapping[str, Work], last_ns: int) -> Trouble:
    worst = max(changes, key=lambda told: float(told["cost"]["share"]))
    node, subject = _node(worst), worst["subject"]
    hard = worst["condition"] in HARD_CONDITIONS
    levels = tuple((int(one["changed_ns"]), _share(one)) for one in changes)
    slot = str(subject["id"]).rpartition("/gpu")[2] if subject["kind"] == "gpu" else ""
    job = str(changes[0].get("job") or "")
    return Trouble(
        str(worst["id"]), ("hard" if hard else "slow") if node else "job", str(worst["condition"]),
        int(changes[0]["opened_ns"]), _end_ns(changes, last_ns), _share(worst), _share(worst), (node,) if node else (),
        str(subject["id"]) if subject["kind"] == "rack" else "", int(slot) if slot.isdigit() else -1,
        job if job in works else "", confidence=float(worst["confidence"]), severity=str(worst["severity"]),
        levels=levels,
    )  # fmt: skip


def _share(told: Document) -> float:
    """Return what an incident cost of a step from this change on."""
    return 0.0 if told["state"] == "closed" else min(1.0, max(0.0, float(told["cost"]["share"])))


def _machines(every: Sequence[Sequence[Document]], works: Iterable[Work], guess: Guess) -> tuple[Machine, ...]:
    named = sorted({_node(one) for changes in every for one in changes} - {""})
    wanted = max(_most_at_once(list(works)) + guess.spares, len(named) + guess.spares, guess.nodes)
    return tuple(Machine(name) for name in (*named, *(f"other-{at}" for at in range(wanted - len(named)))))


def _most_at_once(works: Sequence[Work]) -> int:
    """Return how many nodes jobs held at the same time at most."""
    return max(
        (sum(one.nodes for one in works if one.start_ns <= at.start_ns < one.end_ns) for at in works), default=0
    )  # fmt: skip
