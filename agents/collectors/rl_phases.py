"""Phases of reinforcement learning, from what trainers write about each step of a rank.

A training program appends one line of JSON a step to a file of its own in the folder `rl` of the spool, whose name ends
with .jsonl: {"job": "grpo", "rank": 3, "gpu": 3, "generation_busy_s": 2.1, "generation_idle_s": 0.4,
"training_busy_s": 3.0, "training_idle_s": 0.0, "answer_median_s": 1.1, "answer_max_s": 2.1}. Busy is while the rank
works in the phase that its job is in, idle while only others do. What is left out is not told; lines that
are none are left.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._tail import Tail

FOLDER, ENDING = "rl", ".jsonl"
MOST_FILES, MOST_RANKS, MOST_LINES, MOST_LETTERS = 64, 256, 4096, 64
QUIET_S = 1800.0  # a rank that says nothing for so long has ended
SECONDS, ANSWER = "skewscope_rl_seconds_total", "skewscope_rl_answer_seconds"
PHASES, STATES, STATISTICS = ("generation", "training"), ("busy", "idle"), ("median", "max")
Who = tuple[str, str, str]


class RlPhases:
    """Follows all logs of the folder."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    comes_and_goes: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = (SECONDS, ANSWER)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = f"{place.spool}/{FOLDER}"
        self._logs: dict[str, Tail] = {}
        self._seconds: dict[Who, dict[tuple[str, str], float]] = {}
        self._answers: dict[Who, dict[str, float]] = {}
        self._heard_s: dict[Who, float] = {}
        self._first_look = True

    def collect(self) -> Iterable[Sample]:
        """Return what the ranks told so far; raises NoData where none tells."""
        now_s = self._place.clock_s()
        self._follow()
        for path in list(self._logs):
            self._read(path, now_s)
        for who in [who for who, heard_s in self._heard_s.items() if now_s - heard_s > QUIET_S]:
            for kept in (self._heard_s, self._seconds, self._answers):
                kept.pop(who, None)
        if not self._heard_s:
            raise NoData(f"no log of phases in {self._folder}")
        return [*self._samples()]

    def _follow(self) -> None:
        there = _inodes(self._folder)
        for path in [path for path, log in self._logs.items() if there.get(path) != log.inode]:
            self._logs.pop(path).close()
        for path in there:
            if path not in self._logs:
                try:
                    self._logs[path] = Tail(path, from_end=self._first_look)
                except OSError:
                    continue
        self._first_look = False

    def _read(self, path: str, now_s: float) -> None:
        try:
            lines = self._logs[path].lines(MOST_LINES)
        except OSError:
            self._logs.pop(path).close()
            return
        for line in lines:
            told = _parsed(line)
            who = _who(told)
            if who is not None and (who in self._heard_s or len(self._heard_s) < MOST_RANKS):
                self._add(who, told, now_s)

    def _add(self, who: Who, told: dict[str, Any], now_s: float) -> None:
        self._heard_s[who] = now_s
        seconds = self._seconds.setdefault(who, {})
        for phase in PHASES:
            for state in STATES:
                more_s = _number(told.get(f"{phase}_{state}_s"))
                if more_s is not None:
                    seconds[phase, state] = seconds.get((phase, state), 0.0) + more_s
        answers = ((one, _number(told.get(f"answer_{one}_s"))) for one in STATISTICS)
        self._answers[who] = {one: value_s for one, value_s in answers if value_s is not None}

    def _samples(self) -> Iterable[Sample]:
        for who in sorted(self._heard_s):
            for named, value_s in self._seconds[who].items():
                yield SECONDS, (*who, *named), value_s
            for statistic, value_s in self._answers[who].items():
                yield ANSWER, (*who, statistic), value_s


def _inodes(folder: str) -> dict[str, int]:
    """Return path -> inode of the logs of the folder, the first by name."""
    try:
        with os.scandir(folder) as entries:
            found = {one.path: one.inode() for one in entries if one.name.endswith(ENDING)}
    except OSError:
        return {}
    return dict(sorted(found.items())[:MOST_FILES])


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _who(told: dict[str, Any]) -> Who | None:
    """Return job, rank and GPU of a line, None where it does not say a job and a rank.

    >>> _who({"job": "grpo", "rank": 3}), _who({"job": "grpo", "rank": "3"})
    (('grpo', '3', ''), None)
    """
    job, rank, gpu = told.get("job"), told.get("rank"), told.get("gpu")
    good = isinstance(job, str) and 0 < len(job) <= MOST_LETTERS and job.isprintable()
    if not good or not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        return None
    return str(job), str(rank), str(gpu) if isinstance(gpu, int) and gpu >= 0 else ""


def _number(value: object) -> float | None:
    """Return seconds, None for what is none.

    >>> _number(2), _number(-1.0), _number("2")
    (2.0, None, None)
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if good else None  # type: ignore[arg-type]
