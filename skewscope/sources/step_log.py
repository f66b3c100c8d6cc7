"""Step logs: JSON lines or CSV, one line per step, with the step's length and perhaps its phases.

Units are taken from the names of the columns (`step_ms`, `forward_s`), times of day also from their size. Phases are
laid end to end from the start of the step, in the order of the columns. Lines whose length is missing, zero, negative
or not finite are left out and counted.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended, texts
from ._step_names import Meaning, meaning
from ._step_rows import Lines, batches

SNIFFED_LINES = 5


class StepLog:
    """Reads `steps_rankN.jsonl` and the like."""

    format: ClassVar[str] = "step-log"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely the first lines are steps with their lengths."""
        lines = [line for line in head.split(b"\n")[:SNIFFED_LINES] if line.strip()]
        if not lines:
            return 0.0
        for line in lines:
            found = _object(line)
            if found is not None and meaning(tuple(found)).known:
                return 0.9
        return 0.8 if meaning(_header(lines[0])).known else 0.0

    def read(self, path: Path) -> Reading:
        """Return `steps` (and `samples` of network counters); raises Unreadable without one usable step."""
        content, damage = _bytes.whole(path)
        is_json = content.lstrip().startswith(b"{") or _object(content.split(b"\n", 1)[0]) is not None
        if not is_json:
            content, damage = ended(content, damage)
        lines = _json_lines(content) if is_json else _csv_lines(content)
        if not len(lines.rows):
            raise Unreadable("not one line with a step and its length" + (f" ({damage})" if damage else ""))
        reading = Reading(str(path), self.format, events=len(lines.rows))
        reading.batches = batches(lines, reading)
        if not reading.batches:
            raise Unreadable(reading.warnings[0])
        if damage or lines.torn:
            reading.status, reading.error = "partial", damage or _torn(lines.torn)
        return reading


def _torn(torn: list[int]) -> str:
    if len(torn) == 1:
        return f"line {torn[0]} is torn and left out"
    return f"{len(torn)} lines are torn and left out, the first is line {torn[0]}"


def _json_lines(content: bytes) -> Lines:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    lines = Lines()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            again = _object(line)
            if again is None:
                lines.torn.append(number)
                continue
            found = again
        what = meaning(tuple(found))
        if what.known:
            lines.add(what, found)
    return lines


def _csv_lines(content: bytes) -> Lines:
    lines = Lines()
    rows = csv.reader(texts(content))
    try:
        header = next(rows, [])
        what: Meaning = meaning(tuple(header))
        for number, row in enumerate(rows, start=2):
            if len(row) == len(header):
                lines.add(what, dict(zip(header, row, strict=True)))
            elif row:
                lines.torn.append(number)
    except csv.Error as error:
        raise Unreadable(f"damaged CSV: {error}") from None
    return lines


def _object(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line, also with NaN in it, which strict JSON forbids."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _header(line: bytes) -> tuple[str, ...]:
    return tuple(part.strip().strip('"') for part in line.decode("utf-8", "replace").split(","))
