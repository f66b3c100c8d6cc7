"""Findings as slices: all of them on one track of the job, and each culprit's on a track of its ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Finding
from ..subjects import Subject
from ._trace_tracks import Process, Slices

MOST_RANKS = 64  # a finding about more is told on the job's track alone
Span = tuple[int, int]


class Findings:
    """The findings of an analysis, in a trace that lasts from `span[0]` to `span[1]`, ns."""

    def __init__(self, found: Sequence[Finding], tables: Mapping[str, pd.DataFrame], span: Span) -> None:
        self._found, self._span = found, span
        self._steps = tables["step_times"]
        ranks = tables["ranks"]
        self._node = {int(rank): str(node) for rank, node in zip(ranks["rank"], ranks["node"], strict=True)}
        self._gpu = {int(rank): int(gpu) for rank, gpu in zip(ranks["rank"], ranks["gpu"], strict=True)}
        self._stage = {int(rank): int(stage) for rank, stage in zip(ranks["rank"], ranks["pp"], strict=True)}
        self._groups = tables["groups"]
        self._by_rank: dict[int, list[Finding]] = {}
        for finding in found:
            mine = self._ranks(finding.subject)
            for rank in mine if len(mine) <= MOST_RANKS else ():
                self._by_rank.setdefault(rank, []).append(finding)

    def add_all(self, job: Process) -> None:
        """Write the track of the job."""
        self._write(job, "findings", self._found)

    def add_of(self, rank: int, process: Process) -> None:
        """Write the track of one rank, where anything was found about it."""
        self._write(process, "findings about it", self._by_rank.get(rank, ()))

    def _write(self, process: Process, track: str, found: Sequence[Finding]) -> None:
        if not found:
            return
        spans = [self._window(finding) for finding in found]
        names = [f"{finding.condition}: {finding.subject.id}" for finding in found]
        codes = np.arange(len(found))
        args: dict[str, Any] = {name: (codes, texts) for name, texts in _texts(found).items()}
        args |= {name: np.array([getattr(finding, name) for finding in found], dtype=float)
                 for name in ("confidence", "lost_s", "lost_share", "lost_once_s")}  # fmt: skip
        start, end = (np.array([span[at] for span in spans], dtype=np.int64) for at in (0, 1))
        process.add(track, Slices("findings", start, end, codes, names, args))

    def _window(self, finding: Finding) -> Span:
        """Return when a finding holds: by its times, else by its steps, else always; at least a microsecond."""
        window = finding.window
        start, end = window.start_ns, window.end_ns
        if start < 0 and window.first_step >= 0:
            mine = self._steps[self._steps["step"].between(window.first_step, window.last_step).to_numpy()]
            if len(mine):
                start = int(mine["start_ns"].min())
                end = int((mine["start_ns"] + mine["duration_ns"].fillna(0)).max())
        start = max(start, self._span[0]) if start >= 0 else self._span[0]
        end = min(end, self._span[1]) if end >= 0 else self._span[1]
        start = min(start, self._span[1])
        return start, max(end, start + 1000)

    def _ranks(self, subject: Subject) -> list[int]:
        """Return the ranks that a finding is about, none for what is of no rank."""
        if subject.rank >= 0:
            return [rank for rank in dict.fromkeys((subject.rank, subject.peer)) if rank >= 0]
        if subject.kind == "gpu":
            index = subject.id.rpartition("/gpu")[2]
            return [rank for rank, node in self._node.items()
                    if node == subject.node and str(self._gpu[rank]) == index]  # fmt: skip
        if subject.kind == "stage":
            return [rank for rank, stage in self._stage.items() if stage == subject.stage]
        if subject.kind == "group":
            name = subject.id.partition("/group:")[2]
            return sorted({int(rank) for rank in self._groups.loc[(self._groups["group"] == name).to_numpy(), "rank"]})
        return [rank for rank, node in self._node.items() if node and node == subject.node]


def _texts(found: Sequence[Finding]) -> dict[str, list[str]]:
    made = {name: [str(getattr(finding, name)) for finding in found]
            for name in ("condition", "role", "severity", "summary", "advice")}  # fmt: skip
    made["subject"] = [finding.subject.id for finding in found]
    made["evidence"] = ["; ".join(_evidence(finding)) for finding in found]
    return made


def _evidence(finding: Finding) -> list[str]:
    lines = []
    for one in finding.evidence:
        told = f"{one.signal} = {one.value:.4g} {one.unit}".rstrip()
        told += f", usual {one.baseline:.4g}" if one.baseline is not None else ""
        lines.append(told + (f", line at {one.threshold:.4g}" if one.threshold is not None else ""))
    return lines
