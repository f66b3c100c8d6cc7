"""One job out of what was read: other jobs, second copies and contradictions are put aside, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import Coded
from ._gather_read import PER_RANK, Draft, Span, give_rank

Claim = tuple[str, str, int]  # format, table, rank
Members = dict[str, frozenset[int]]


@dataclass
class Job:
    """The files that may be of one job."""

    world_size: int = -1
    drafts: list[Draft] = field(default_factory=list)
    marks: dict[Claim, set[str]] = field(default_factory=dict)  # fingerprints of each claim
    why: str = ""

    def fits(self, other: Job) -> bool:
        """Return whether the files of `other`, from another folder, can be of this job too."""
        if -1 not in (self.world_size, other.world_size) and self.world_size != other.world_size:
            return False
        return all(marks <= self.marks.get(claim, marks) for claim, marks in other.marks.items())

    def take(self, other: Job) -> None:
        """Add the files of `other`."""
        self.world_size = max(self.world_size, other.world_size)
        self.drafts += other.drafts
        for claim, marks in other.marks.items():
            self.marks.setdefault(claim, set()).update(marks)


def one_job(drafts: Sequence[Draft]) -> list[Draft]:
    """Return the drafts of the job with most files (ties: the first folder); the others are refused in place."""
    readable = [draft for draft in drafts if draft.readable]
    jobs: list[Job] = []
    for unit in _units(readable):
        home = next((job for job in jobs if job.fits(unit)), None)
        if home is None:
            jobs.append(home := Job())
        home.take(unit)
    jobs = [part for job in jobs for part in _by_members(job)]
    if not jobs:
        return []
    kept = max(jobs, key=lambda job: len(job.drafts))
    for job in jobs:
        if job is not kept:
            _refuse(job, kept)
    return _single_copies(_with_ranks(kept.drafts))


def _units(drafts: Sequence[Draft]) -> list[Job]:
    """Return one job per folder and world size; files that do not tell the size go with most of their folder."""
    folders: dict[str, dict[int, list[Draft]]] = {}
    for draft in drafts:
        folders.setdefault(draft.folder, {}).setdefault(draft.reading.world_size, []).append(draft)
    made = []
    for sizes in folders.values():
        silent = sizes.pop(-1, [])
        chief = max(sizes, key=lambda size: len(sizes[size]), default=-1)
        sizes.setdefault(chief, []).extend(silent)
        for size, members in sizes.items():
            unit = Job(size, sorted(members, key=lambda draft: draft.path))
            for draft in unit.drafts:
                for claim in _claims(draft):
                    unit.marks.setdefault(claim, set()).add(draft.reading.fingerprint)
            made.append(unit)
    return made


def _claims(draft: Draft) -> dict[Claim, Span]:
    return {
        (draft.reading.format, table, rank): span
        for (table, rank), span in draft.holds.items()
        if rank >= 0 or draft.rank < 0
    }


def declared(draft: Draft) -> Members:
    """Return the communicators whose members a file lists in full."""
    found: dict[str, set[int]] = {}
    sizes: dict[str, int] = {}
    for table, columns in draft.reading.batches:
        if table != "groups":
            continue
        names, ranks, size = _texts(columns["group"]), np.asarray(columns["rank"]), columns.get("group_size", -1)
        count = max(len(names), ranks.size)
        for name, rank, declared_size in zip(
            names * (count if len(names) == 1 else 1), np.broadcast_to(ranks, count).tolist(),
            np.broadcast_to(np.asarray(size), count).tolist(), strict=True,
        ):  # fmt: skip
            found.setdefault(name, set()).add(rank)
            sizes[name] = max(sizes.get(name, -1), declared_size)
    return {name: frozenset(ranks) for name, ranks in found.items() if len(ranks) == sizes[name]}


def _texts(column: Any) -> list[str]:  # noqa: ANN401 - Coded, list or one name
    if isinstance(column, Coded):
        return [column.values[code] for code in column.codes]
    return [column] if isinstance(column, str) else list(column)


def _by_members(job: Job) -> list[Job]:
    """Return the parts of a job whose communicators do not contradict each other, usually the whole."""
    parts: list[tuple[dict[str, set[frozenset[int]]], Job]] = []
    silent: list[Draft] = []
    for draft in job.drafts:
        told = declared(draft)
        if not told:
            silent.append(draft)
            continue
        home = next((part for part in parts if not _contradicts(part[0], told)), None)
        if home is None:
            parts.append(home := ({}, Job(job.world_size, why="its process groups contradict those of the kept job")))
        home[1].drafts.append(draft)
        for name, members in told.items():
            home[0].setdefault(name, set()).add(members)
    if len(parts) <= 1:
        return [job]
    chief = max((part for _, part in parts), key=lambda part: len(part.drafts))
    chief.drafts = sorted(chief.drafts + silent, key=lambda draft: draft.path)
    return [part for _, part in parts]


def _contradicts(known: Mapping[str, set[frozenset[int]]], told: Members) -> bool:
    """Return whether a communicator has other members here than there: same name, neither equal nor apart."""
    return any(members != other and members & other for name, members in told.items() for other in known.get(name, ()))


def _refuse(job: Job, kept: Job) -> None:
    example = kept.drafts[0].path
    if job.world_size != kept.world_size and -1 not in (job.world_size, kept.world_size):
        why = f"world size {job.world_size}, kept job has {kept.world_size}"
    else:
        why = job.why or "another folder with the same ranks"
    for draft in job.drafts:
        draft.elsewhere = True
        draft.refuse(f"belongs to another job ({why}; e.g. {example}): analyse it on its own")


def _with_ranks(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts with a rank for the one file of a format that tells none; more such files are refused."""
    known = {draft.reading.format for draft in drafts for table, rank in draft.holds if rank >= 0 and table in PER_RANK}
    kept = []
    for draft in drafts:
        if not any(rank < 0 and table in PER_RANK for table, rank in draft.holds):
            kept.append(draft)
        elif draft.reading.format in known:
            draft.refuse("neither content nor name tells its rank: put rankN into the file's name")
        else:
            known.add(draft.reading.format)
            draft.reading.warnings.append("neither content nor name tells the rank: taken for rank 0")
            give_rank(draft, 0)
            kept.append(draft)
    return kept


def _single_copies(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts without second copies and without files that hold the same time of the same rank otherwise."""
    owner: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        key = (draft.reading.format, draft.reading.fingerprint)
        first = owner.get(key)
        if first is None:
            owner[key] = draft
            continue
        if _has_stacks(draft) > _has_stacks(first):
            owner[key], first, draft = draft, draft, first
        draft.refuse(f"same recording as {first.path}{_of(first.rank)}: remove one")
    spans: dict[Claim, list[tuple[Span, Draft]]] = {}
    kept = []
    for draft in sorted((draft for draft in drafts if draft.readable), key=lambda draft: draft.reading.status != "ok"):
        claims = _claims(draft)
        clash = next((pair for claim, span in claims.items() for pair in [_clash(spans, claim, span)] if pair), None)
        if clash:
            rank, other = clash
            draft.refuse(f"holds the same time{_of(rank)} as {other.path}, with other content: remove one of them")
            continue
        for claim, span in claims.items():
            spans.setdefault(claim, []).append((span, draft))
        kept.append(draft)
    return kept


def _clash(spans: Mapping[Claim, list[tuple[Span, Draft]]], claim: Claim, span: Span) -> tuple[int, Draft] | None:
    for other, draft in spans.get(claim, ()):
        if min(*other, *span) >= 0 and span[0] < other[1] and other[0] < span[1]:
            return claim[2], draft
    return None


def _of(rank: int) -> str:
    return f" (rank {rank})" if rank >= 0 else ""


def _has_stacks(draft: Draft) -> bool:
    """Return whether calls carry their stacks: of two copies that one says more."""
    stacks = (columns.get("stack") for table, columns in draft.reading.batches if table == "collectives")
    return any(isinstance(stack, Coded) and any(stack.values) for stack in stacks)
