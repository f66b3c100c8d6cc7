"""Console logs of Megatron-LM and its kin: iterations with their length, and how long saving a checkpoint took.

An iteration's line comes at its end and tells the mean length since the line before; its time is taken as UTC. Savings
come as the timer `save-checkpoint` (the slowest rank counts) or as a sentence ("saved checkpoint ... in 12.3 s"); a
saving belongs to the iteration before it and lengthens it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended, texts
from ._step_names import meaning
from ._step_rows import Lines, batches

ITERATION = re.compile(
    r"(?:\[(?P<when>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?)\]\s*)?iteration\s+(?P<step>\d{1,15})\s*/\s*\d+\s*\|"
    r".*?elapsed time per iteration \((?P<unit>ms|s)\):\s*(?P<length>[\d.]+)"
)
TIMER = re.compile(r"^\s*save-checkpoint\s*\.*:\s*\(?\s*(?:[\d.]+\s*,\s*)?(?P<ms>[\d.]+)\s*\)?\s*$")
SENTENCE = re.compile(r"sav\w*\b.{0,80}?checkpoint.{0,120}?\bin\s*(?P<s>\d+(?:\.\d+)?)\s*(?:s\b|sec)", re.I)
COLUMNS = ("step", "time", "step_ms", "checkpoint_ms")


class MegatronLog:
    """Reads what Megatron-LM prints on its last rank."""

    format: ClassVar[str] = "megatron-log"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` is a log with iterations of Megatron."""
        if b"elapsed time per iteration" not in head:
            return 0.0
        return 0.9 if any(ITERATION.search(line) for line in texts(head)) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `steps`; raises Unreadable without one iteration."""
        content, damage = ended(*_bytes.whole(path))
        lines = Lines()
        for row in _rows(texts(content)):
            lines.add(meaning(COLUMNS), row)
        reading = Reading(str(path), self.format, events=len(lines.rows))
        reading.batches = batches(lines, reading) if lines.rows else []
        if not reading.batches:
            raise Unreadable("not one iteration with its length" + (f" ({damage})" if damage else ""))
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield each iteration with what was saved after it, in ms."""
    row: dict[str, Any] | None = None
    for line in lines:
        found = ITERATION.search(line)
        if found:
            if row is not None:
                yield row
            length_ms = _number(found["length"]) * (1e3 if found["unit"] == "s" else 1.0)
            row = {"step": int(found["step"]), "step_ms": length_ms, "checkpoint_ms": 0.0}
            row["time"] = _time_s(found["when"]) - length_ms / 1e3
        elif row is not None and (saved_ms := _saved_ms(line)) > row["checkpoint_ms"]:
            row["step_ms"] += saved_ms - row["checkpoint_ms"]  # the timer and the sentence tell of the same saving
            row["checkpoint_ms"] = saved_ms
    if row is not None:
        yield row


def _saved_ms(line: str) -> float:
    """Return how long a saving took that a line tells of, 0 for none.

    >>> _saved_ms("    save-checkpoint ....: (4361.61, 4361.72)"), _saved_ms("Saved checkpoint to /c in 12.5 seconds")
    (4361.72, 12500.0)
    """
    timer, sentence = TIMER.match(line), SENTENCE.search(line)
    if timer:
        return _number(timer["ms"])
    return _number(sentence["s"]) * 1e3 if sentence else 0.0


def _time_s(text: str | None) -> float:
    """Return the seconds since the epoch of a line's time, NaN where it has none."""
    try:
        told = datetime.fromisoformat(text or "")
    except ValueError:
        return float("nan")
    return told.replace(tzinfo=UTC).timestamp()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
