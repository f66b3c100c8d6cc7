"""A rank computes wrong numbers while its peers compute right ones: its GPU may corrupt data in silence.

Why it hurts
    The loss becomes NaN or jumps, or the model trains on wrong gradients for days. All work since the last good
    checkpoint is lost, and no error tells which GPU it was.

How it is seen
    No exported metric holds the loss or gradients. The training program says it with `skewscope.mark`: marks that
    begin with nan, inf, loss, grad or checksum (or events called divergence), of a quarter of the ranks or fewer at one
    time. A checksum that differs, marks that come again, or poison that the driver saw on that GPU make it the culprit;
    once, or poison alone, is a suspicion (context).

Look-alikes
    All ranks with the same wrong value: data or the learning rate, which is told about the job. `gpu-ecc-uncorrectable`
    is corruption that the hardware noticed. A rank whose batch is bad has it once, and another rank the next time.

What to do
    Roll back to the last checkpoint before the first mark, keep the suspected GPU out of the next run, and run EUD, an
    all-reduce test and a bitwise repeat of some steps on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.impact import costs
from skewscope.subjects import Subject

from . import _wrong_numbers, _xids
from ._live_worlds import Fleet
from ._wrong_numbers import Mark

EVENTS, POISON = "skewscope_gpu_events_total", "nonfatal_poison"
PROVEN = re.compile(r"(?i)\bchecksum")
NAME = "gpu-sdc-suspect"


@dataclass(frozen=True)
class GpuSdcSuspect:
    """Thresholds: how few ranks are suspects, what is at once, how often it comes, poison."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events", "ranks")

    minority_ratio: float = 0.25  # as in RAS: so few are the odd ones
    ranks_count: int = 4  # design: below, there is no majority
    together_s: float = 60.0  # OWN: ranks notice within a step or two
    again_count: int = 2  # OWN: a bad batch goes to another rank the next time
    poison_count: float = 1.0  # OWN: any
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU or rank whose numbers are wrong, a note on the job where all are."""
        many = _wrong_numbers.ranks(tables)
        poisoned = self._poisoned(tables)
        times: dict[int, list[Mark]] = {}
        for group in self._at_once(_wrong_numbers.marks(tables)):
            ranks = {mark[1] for mark in group}
            if many < self.ranks_count:
                continue
            if len(ranks) > self.minority_ratio * many:
                yield self._of_job(tables, group, len(ranks), many)
                continue
            for rank in ranks:
                times.setdefault(rank, []).append(next(mark for mark in group if mark[1] == rank))
        for rank, marks in sorted(times.items()):
            subject = _wrong_numbers.subject(tables, rank, marks[0][2])
            yield self._finding(subject, marks, poisoned.pop(subject.id, 0.0))
        for who, count in poisoned.items():
            yield self._only_poison(tables, who, count)

    def _at_once(self, marks: Sequence[Mark]) -> Iterator[list[Mark]]:
        group: list[Mark] = []
        for mark in sorted(marks):
            if group and mark[0] - group[0][0] > self.together_s * 1e9:
                yield group
                group = []
            group.append(mark)
        if group:
            yield group

    def _poisoned(self, tables: Frames) -> dict[str, float]:
        told = _xids.appeared(tables, EVENTS, event=POISON)
        sums = np.nansum(told.values, axis=0)
        hit = np.flatnonzero(sums >= self.poison_count).tolist() if len(told) else []
        return {told.subject(column).id: float(sums[column]) for column in hit}

    def _finding(self, subject: Subject, marks: Sequence[Mark], poison: float) -> Finding:
        proven = any(PROVEN.search(mark[3]) for mark in marks) or poison > 0 or len(marks) >= self.again_count
        what = ", ".join(sorted({mark[3] for mark in marks}))
        more = f", and the driver saw poison {poison:.0f} times" if poison else ""
        return Finding(
            NAME, subject, "culprit" if proven else "context", "S1" if proven else "S2", 0.8 if proven else 0.4,
            Window(marks[0][0], marks[-1][0] + int(self.recent_s * 1e9)), 0.0, 0.0,
            (Evidence("wrong_numbers", float(len(marks)), 0.0, float(self.again_count), "count"),
             Evidence("poison", poison, 0.0, self.poison_count, "count")),
            f"{subject.id} computed wrong numbers {len(marks)} times while its peers did not ({what}){more}",
            "roll back to the checkpoint before, keep this GPU out of the next run and run EUD and a bitwise repeat",
        )  # fmt: skip

    def _of_job(self, tables: Frames, group: Sequence[Mark], count: int, many: int) -> Finding:
        jobs = [*costs(tables).jobs, "job"]
        return Finding(
            NAME, subjects.job(jobs[0]), "context", "S3", 0.8,
            Window(group[0][0], group[-1][0] + int(self.recent_s * 1e9)), 0.0, 0.0,
            (Evidence("ranks_with_wrong_numbers", count / many, 0.0, self.minority_ratio, "ratio"),),
            f"{count} of {many} ranks have the same wrong numbers ({group[0][3]}): data or learning rate, not a GPU",
            "look at the batch and the learning rate of that step",
        )  # fmt: skip

    def _only_poison(self, tables: Frames, who: str, count: float) -> Finding:
        node, _, slot = who.rpartition("/gpu")
        times = tables["windows"]["t_ns"]
        return Finding(
            NAME, subjects.gpu(node, slot), "context", "S3", 0.5, Window(int(times.min()), int(times.max())), 0.0, 0.0,
            (Evidence("poison", count, 0.0, self.poison_count, "count"),),
            f"the driver saw poisoned data on {who} {count:.0f} times: what used it may be wrong",
            "compare what its rank computes with a replica, and run EUD when its job ends",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: poison, which is all that metrics tell of it."""
        return Rule(
            "SkewscopeGpuSdcSuspect",
            f'increase({EVENTS}{{event="{POISON}"}}[{self.recent_s:g}s]) >= {self.poison_count:g}',
            0, "warning", "poisoned data on GPU {{ $labels.gpu }}",
            "the driver saw poisoned data on GPU {{ $labels.gpu }} of {{ $labels.node }}: numbers may be wrong",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, other marks, all ranks, too few ranks; one rank once, twice, a checksum, poison."""
        yield World("quiet", Fleet().tables())
        yield World("near-miss", _marked({5: "epoch-end", 6: "information"}).tables())
        yield World("few-ranks", Fleet(1, 2).event("mark", device="rank1", message="nan").tables())
        uncorrected = Fleet().put(EVENTS, 1.0, labels="event=double_bit_ecc", nodes=["n1"], devices=["gpu2"], since=10)
        yield World("noticed", uncorrected.tables())
        yield World("everybody", _marked(dict.fromkeys(range(8), "loss-nan")).tables(), frozenset({"llm"}))
        yield World("once", _marked({6: "nan"}).tables(), frozenset({"n1/gpu2"}))
        twice = _marked({6: "grad-nan"}).event("mark", node="n1", device="rank6", message="grad-nan", window=15)
        yield World("twice", twice.tables(), frozenset({"n1/gpu2"}))
        yield World("checksum", _marked({6: "checksum-differs"}).tables(), frozenset({"n1/gpu2"}))
        poison = Fleet().put(EVENTS, 1.0, labels=f"event={POISON}", nodes=["n1"], devices=["gpu2"], since=10, until=11)
        yield World("poison", poison.tables(), frozenset({"n1/gpu2"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: poison, memory errors, worn memory."""
        errors, worn = "skewscope_gpu_ecc_errors_total", "skewscope_gpu_sram_ecc_threshold_exceeded"
        return (
            Check("poison", "Did the driver see poisoned data?", EVENTS, "increase", ">= 1",
                  f'increase({EVENTS}{{event="{POISON}"}}[1d])', "hardware: keep the GPU out and run EUD", "memory",
                  {"event": POISON}),
            Check("memory", "Were there memory errors that could not be corrected?", errors, "increase", ">= 1",
                  f'increase({errors}{{severity="uncorrected"}}[1d])', "see `gpu-ecc-uncorrectable`", "worn",
                  {"severity": "uncorrected"}, ("poison",)),
            Check("worn", "Did errors of SRAM pass the driver's threshold?", worn, "last", ">= 1", worn,
                  "have the GPU replaced", "nothing that metrics tell: repeat some steps bitwise on another GPU", {},
                  ("memory",)),
        )  # fmt: skip


def _marked(texts: dict[int, str]) -> Fleet:
    fleet = Fleet()
    for rank, text in texts.items():
        fleet.event("mark", node=f"n{rank // 4}", device=f"rank{rank}", message=text)
    return fleet
