"""Rows of W&B's exports: JSON lines, a JSON list, or CSV; one row per time, a column per scalar."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._cut_json import mended
from ._lines import ended, texts
from ._scalar_names import known
from ._telemetry_file import moment_ns
from ._tfevents import Scalar

TIMES, RUNTIMES = ("_timestamp", "timestamp", "Timestamp"), ("_runtime", "Relative Time (Process)")
STEPS = ("_step", "Step")
SYSTEM = re.compile(rb'["\s,]system[./](?:gpu|cpu|memory|network|disk|proc)')
OWN = re.compile(rb'"?_(?:timestamp|runtime|step)"?\s*[:,\n]')
RELATIVE = re.compile(rb"Relative Time|\bStep\b")
SNIFFED = 1 << 14
END = 1 << 63  # of whole numbers
LINE = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass
class Rows:
    """Scalars of a file; `dated` tells whether times count from 1970."""

    scalars: list[Scalar] = field(default_factory=list)
    dated: bool = True
    damage: str = ""


def surety(head: bytes) -> float:
    """Return 0..1: how surely `head` begins an export of W&B."""
    text = head[:SNIFFED]
    first = text.lstrip()[:1]
    is_json, header = first in (b"{", b"["), b"," + text.split(b"\n", 1)[0] + b"\n"
    if not OWN.search(text) and (is_json or not RELATIVE.search(header)):
        return 0.0
    if SYSTEM.search(text if is_json else header):
        return 0.92
    names = re.findall(rb'"([^"\n]{1,200})"\s*:', text) if is_json else header.split(b",")
    lengths = any(known(name.decode("utf-8", "replace").strip('" \r')).phase for name in names)
    return 0.75 if lengths and b"_step" in text and b"_timestamp" in text else 0.0


def read(content: bytes) -> Rows:
    """Return the scalars of a file. Raises Unreadable where it has no rows."""
    found = Rows()
    form = {b"[": _listed, b"{": _lines}.get(content.lstrip()[:1], _table)
    for row in form(content, found):
        wall, dated = _time(row)
        if wall < 0:
            continue
        found.dated &= dated
        step = next((_number(row[name]) for name in STEPS if name in row), -1.0)
        for tag, value in row.items():
            number = _number(value)
            if number == number and tag not in (*TIMES, *RUNTIMES, *STEPS) and not tag.endswith(("__MIN", "__MAX")):
                found.scalars.append(Scalar(tag, int(step) if 0 <= step < 2**53 else -1, wall, number))
    return found


def _lines(content: bytes, found: Rows) -> Iterator[dict[str, Any]]:
    bad = 0
    for line in content.split(b"\n"):
        if line.strip():
            try:
                yield LINE(line)
            except (msgspec.DecodeError, RecursionError):
                bad += 1
    if bad:
        found.damage = f"{bad} lines are cut or no JSON"


def _listed(content: bytes, found: Rows) -> Iterable[dict[str, Any]]:
    try:
        rows = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        found.damage = f"the JSON is cut or damaged ({str(error)[:100]})"
        try:
            rows = msgspec.json.decode(mended(content))
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable(found.damage, COPY_AGAIN) from None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _table(content: bytes, found: Rows) -> Iterator[dict[str, Any]]:
    bad = 0
    content, found.damage = ended(content, "")
    rows = csv.reader(texts(content))
    try:
        heads = [head.strip() for head in next(rows, [])]
        for row in rows:
            if len(row) == len(heads):
                yield dict(zip(heads, row, strict=True))
            elif row:
                bad += 1
    except csv.Error as error:
        raise Unreadable(f"damaged CSV: {error}", COPY_AGAIN) from None
    if bad:
        found.damage = f"{bad} lines have another number of cells than the head"


def _time(row: dict[str, Any]) -> tuple[float, bool]:
    """Return seconds since 1970 and True, else since the start of the run and False; -1 where there is neither."""
    for name in TIMES:
        value = row.get(name)
        if isinstance(value, str) and (moment := moment_ns(value)) >= 0:
            return moment / 1e9, True
        number = _number(value)
        if number > 0:
            return (number / 1e3 if number > 1e11 else number), True
    for name in RUNTIMES:
        number = _number(row.get(name))
        if number >= 0:
            return number, False
    return -1.0, True


def _number(value: object) -> float:
    """Return a number, NaN for anything else."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return float("nan")
    if isinstance(value, int) and abs(value) >= END:
        return float("nan")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
