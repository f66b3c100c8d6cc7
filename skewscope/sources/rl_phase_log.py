"""Phases of reinforcement learning as its trainers log them: `timing_s/gen`, `timing_s/update_actor` and the like.

verl prints a line per step on its console (`step:3 - timing_s/gen:12.1 - ... - timing_s/step:40.2`), or JSON lines
(`{"step": 3, "data": {"timing_s/gen": 12.1, ...}}`); others write the same keys flat, with `timing/` before them. The
log is the driver's: it tells of the whole job, not of ranks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended
from ._step_names import meaning
from ._step_rows import Lines, batches

KEY = re.compile(r"(?:timing_s|timing)/(\w+)$")
STEP = re.compile(r"(?:^|[\s)])step:(\d{1,15}) - ")
PAIR = re.compile(r"((?:timing_s|timing)/\w+):(?:np\.float\d+\()?(-?[\d.]+(?:e[-+]?\d+)?)")
NAMES = {
    "save_checkpoint": "checkpoint", "testing": "eval", "old_log_prob": "forward", "ref": "forward",
    "total_step_time": "step", "step_time": "step", "update_weights": "sync",
}  # fmt: skip


class RlPhaseLog:
    """Reads logs of verl and its kin."""

    format: ClassVar[str] = "rl-phase-log"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` has steps with their phases."""
        if b"timing_s/" not in head and b'"timing/' not in head:
            return 0.0
        return 0.95 if any(True for _ in _rows(head)) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `steps`; raises Unreadable without one step and its length."""
        content, damage = ended(*_bytes.whole(path))
        lines = Lines()
        for row in _rows(content):
            lines.add(meaning(tuple(row)), row)
        reading = Reading(str(path), self.format, events=len(lines.rows))
        reading.batches = batches(lines, reading) if lines.rows else []
        if not reading.batches:
            raise Unreadable(
                "not one step with its length in seconds, timing_s/step" + (f" ({damage})" if damage else "")
            )
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _rows(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        told = _object(line) if line.lstrip().startswith(b"{") else _console(line)
        if told and "step_s" in told:
            yield told


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    data = found.get("data")
    return _named(found.get("step", found.get("training/global_step")), data if isinstance(data, dict) else found)


def _console(line: bytes) -> dict[str, Any]:
    text = line.decode("utf-8", "replace")
    step = STEP.search(text)
    return _named(int(step[1]), dict(PAIR.findall(text))) if step else {}


def _named(step: Any, told: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - as JSON has it
    """Return a step's seconds by the names that step logs have, in one order.

    >>> _named(3, {"timing_s/step": 4.5, "timing_s/gen": 3.0, "timing_s/testing": 1.0, "loss": 0.1})
    {'step': 3, 'gen_s': 3.0, 'step_s': 4.5, 'eval_s': 1.0}
    """
    found = {match[1]: value for name, value in told.items() if (match := KEY.search(str(name)))}
    seconds: dict[str, Any] = {}
    for name in sorted(found):
        seconds.setdefault(f"{NAMES.get(name, name)}_s", found[name])
    return {"step": step, **seconds} if seconds else {}
