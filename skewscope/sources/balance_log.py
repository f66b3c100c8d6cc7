"""Logs of vLLM, vLLM-Ascend, SGLang and Megatron-LM: what they say of the balance of experts, and of rearrangements.

The numbers are each engine's own and follow different formulas, which `definition` names (`skewscope schema
balance_reports`). Times without a zone are read as UTC; vLLM's lines have no year, which the file's own date tells.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ..moe.checks import window_beyond_interval
from ._balance_lines import BEFORE_CHECK, Report, Told
from ._kernel_log_times import with_years
from ._lines import Lines
from ._telemetry_file import changed_ns, moment_ns

Array = np.ndarray[Any, Any]

SIGNS = re.compile(
    rb"EPLB step:.{0,300} balancedness=|\[Expert Balancedness\] forward_pass_id=|Expert hotness imbalance, current|"
    rb"\biteration +\d+/.{0,2000}load_balancing_loss"
)
ENGINES = re.compile(
    rb"^(?:\([\w .=-]+\) )?(?:INFO|WARNING|ERROR|DEBUG) \d\d-\d\d \d\d:\d\d:\d\d \[[\w./]+:\d+\] |"
    rb"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [A-Z]{2}\d+)*\] (?:server_args=|Load weight|Prefill batch|Decode batch)",
    re.MULTILINE,
)
WITH_YEAR = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?)")
WITHOUT_YEAR = re.compile(r"\b(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\b")
MOST_LINES = 1 << 21
TOLD = 2  # examples of lines that contradict themselves
MEND = (
    "switch it on: vLLM `log_balancedness` in --eplb-config, SGLang --expert-balancedness-report-mode server_log, "
    "Megatron-LM an auxiliary loss"
)


class BalanceLog:
    """Reads such logs."""

    format: ClassVar[str] = "balance-log"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; a log of an engine gets a little, for the lines may come late or be switched off."""
        if b"\0" in head:
            return 0.0
        return 0.95 if SIGNS.search(head) else 0.35 if ENGINES.search(head) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `balance_reports` and `events`; raises Unreadable where no line tells of balance."""
        told, times, lines = Told(), _Times(), Lines(path, ended=True)
        for _, raw in lines:
            if not any(sign in raw for sign in BEFORE_CHECK):
                continue
            line = raw.decode("utf-8", "replace")
            if told.take(line, len(times.texts)):
                times.texts.append(line)
            if len(times.texts) > MOST_LINES:
                raise Unreadable(f"more than {MOST_LINES:,} lines of balance: split the file")
        if not told.reports and not told.moves:
            raise Unreadable(
                "a log without a line of expert balance" + (f" ({lines.damage})" if lines.damage else ""), MEND
            )
        t_ns = times.all_ns(changed_ns(path))
        reading = Reading(str(path), self.format, events=len(told.reports) + len(told.moves))
        sound = [(at, report) for at, report in told.reports if 0 < report.ratio < 1e6]
        if sound:
            reading.batches.append(("balance_reports", _reports(sound, t_ns, self.format)))
        if told.moves:
            reading.batches.append(("events", {
                "t_ns": t_ns[[at for at, _ in told.moves]], "event": "moe-rebalance",
                "message": [message for _, message in told.moves],
            }))  # fmt: skip
        reading.warnings = _warnings(told, len(told.reports) - len(sound))
        if lines.damage:
            reading.status, reading.error = "partial", lines.damage
        return reading


class _Times:
    """The times of lines, from their heads."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def all_ns(self, written_ns: int) -> Array:
        """Return the time of each line, -1 where it tells none."""
        found = np.full(len(self.texts), -1, dtype=np.int64)
        moments, places = [], []
        for at, text in enumerate(self.texts):
            whole = WITH_YEAR.search(text[:200])
            if whole:
                found[at] = moment_ns(whole[1])
            elif (moment := _moment(text[:200])) is not None:
                moments.append(moment)
                places.append(at)
        found[places] = with_years(moments, written_ns)
        return found


def _moment(text: str) -> datetime | None:
    """Return the time in a text such as "INFO 11-21 02:00:01", in the year 2000, or None.

    >>> _moment("INFO 11-21 02:00:01 [eplb_state.py:636]").day
    21
    """
    hit = WITHOUT_YEAR.search(text)
    try:
        month, day, hour, minute, second = (int(part) for part in hit.groups()) if hit else (0,) * 5
        return datetime(2000, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _reports(found: list[tuple[int, Report]], t_ns: Array, source: str) -> dict[str, Any]:
    return {
        "job": "job", "step": np.array([report.step for _, report in found]),
        "layer": np.array([report.layer for _, report in found]), "phase": [report.phase for _, report in found],
        "definition": [report.definition for _, report in found],
        "balance_ratio": np.array([report.ratio for _, report in found]),
        "mean_tokens": np.array([report.mean_tokens for _, report in found]),
        "max_tokens": np.array([report.max_tokens for _, report in found]), "t_ns": t_ns[[at for at, _ in found]],
        "source": source,
    }  # fmt: skip


def _warnings(told: Told, left_out: int) -> list[str]:
    made = window_beyond_interval(told.window_steps, told.interval_steps)
    old = Counter(report.definition for _, report in told.reports)["vllm-old"]
    if old:
        made.append(
            f"{old} lines of a vLLM that does not name the step: some of those reduced over layers instead of ranks, "
            "so distrust their balancedness; recompute it from counts"
        )
    if told.disagree:
        more = f" and {len(told.disagree) - TOLD} more" if len(told.disagree) > TOLD else ""
        made.append(f"lines that contradict themselves: {'; '.join(told.disagree[:TOLD])}{more}")
    if len(told.models) > 1:
        made.append(f"lines of {len(told.models)} models in one log ({', '.join(sorted(told.models)[:3])})")
    if left_out:
        made.append(f"{left_out} numbers that cannot be a balance are left out")
    return made
