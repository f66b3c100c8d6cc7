"""Says numbers and names the way people read them: seconds, shares, windows, and names without control characters."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..contracts import ROLES

UNKNOWN = "-"
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SIZED = {"hertz": "Hz", "bytes": "B", "bytes/s": "B/s", "bytes_per_s": "B/s"}  # units that take a prefix
BARE = ("", "ratio", "number")


def seconds(value: float | None) -> str:
    """Return a duration in s with three digits and the unit that fits.

    >>> seconds(1.2), seconds(0.0352), seconds(None)
    ('1.2 s', '35.2 ms', '-')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    if size >= 0.9995 or size == 0:
        return f"{_digits(value)} s"
    if size >= 0.9995e-3:
        return f"{_digits(value * 1e3)} ms"
    return f"{_digits(value * 1e6)} us"


def share(value: float | None) -> str:
    """Return a share 0..1 in percent.

    >>> share(0.304), share(0.004), share(-1e-9)
    ('30 %', '0.4 %', '0.0 %')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    percent = 100 * value
    said = f"{percent:.1f} %" if 0 < abs(percent) < 1 else f"{percent:.0f} %"
    return said.removeprefix("-") if float(said[:-2]) == 0 else said


def hours(value: float | None) -> str:
    """Return GPU-hours.

    >>> hours(12.531), hours(0.00042)
    ('12.5', '<0.001')
    """
    if value is not None and 0 < value < 0.001:
        return "<0.001"
    return UNKNOWN if value is None or not math.isfinite(value) else _digits(value)


def ratio(value: float | None) -> str:
    """Return a multiple, 1 = equal.

    >>> ratio(1.531)
    '1.53x'
    """
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.2f}x"


def number(value: float | None) -> str:
    """Return a bare number with three digits.

    >>> number(1234567.0), number(0.5)
    ('1.23e+06', '0.5')
    """
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3g}"


def prefixed(value: float) -> str:
    """Return a number with three digits and the prefix that fits, ready for its unit.

    >>> prefixed(2.5e9) + "B/s", prefixed(12) + "B"
    ('2.5 GB/s', '12 B')
    """
    for size, sign in PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {sign}"
    return f"{value:.3g} "


def quantity(value: float | None, unit: str) -> str:
    """Return a number of evidence with its unit, as `contracts.Evidence` names it.

    >>> quantity(1.24e9, "hertz"), quantity(0.049, "s"), quantity(2e9, "bytes/s"), quantity(0.57, "ratio")
    ('1.24 GHz', '49 ms', '2 GB/s', '0.57')
    >>> quantity(3.0, "ranks"), quantity(None, "s")
    ('3 ranks', '-')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if unit == "s":
        return seconds(value)
    if unit in SIZED:
        return f"{prefixed(value)}{SIZED[unit]}"
    return number(value) if unit in BARE else f"{number(value)} {unit}"


def price(cost: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a finding's cost per step, share of the step and GPU-hours; a finding without a price gets dashes.

    >>> price({"seconds_per_step": 0.0, "share": 0.0, "gpu_hours": 0.0})
    ('-', '-', '-')
    """
    each, part, total = cost["seconds_per_step"], cost["share"], cost["gpu_hours"]
    return seconds(each or None), share(part or None), hours(total or None)


def culprits_first(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a report's findings for people: whom to act on first, then what follows from it, then context."""
    return sorted(findings, key=lambda found: ROLES.index(found["role"]))


def aside(document: Mapping[str, Any]) -> list[str]:
    """Return what a report adds without a verdict: context that no culprit explains, and warnings."""
    explained = {name for found in document["findings"] for name in found["explains"]}
    context = [found for found in document["findings"] if found["role"] == "context" and found["id"] not in explained]
    return [*(found.get("summary") or found["condition"] for found in context), *document.get("warnings", [])]


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def clean(text: object) -> str:
    """Return text that is safe on a terminal: control, direction and broken characters become '?'.

    >>> clean("node" + chr(27) + "[31m1")
    'node?[31m1'
    """
    return "".join("?" if unicodedata.category(sign) in ("Cc", "Cf", "Cs") else sign for sign in str(text))


def window(span: Mapping[str, Any]) -> str:
    """Return a report's window in steps, or in UTC where steps are unknown.

    >>> window({"first_step": 10, "last_step": 43, "start_ns": -1, "end_ns": -1})
    'steps 10-43'
    """
    first, last = span["first_step"], span["last_step"]
    if first is not None and first >= 0:
        return f"step {first}" if first == last else f"steps {first}-{last}"
    if span["start_ns"] is not None and span["start_ns"] > 0:
        return f"{clock(span['start_ns'])} to {clock(span['end_ns'])}"
    return "whole recording"


def clock(time_ns: int) -> str:
    """Return a time of day in UTC.

    >>> clock(0)
    '00:00:00Z'
    """
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{time_ns} ns"


def who(subject: Mapping[str, Any]) -> str:
    """Return whom a finding concerns, as people say it.

    >>> who({"kind": "rank", "id": "job/rank7", "rank": 7, "peer": None, "node": "n3", "stage": None, "layer": None})
    'rank 7 on n3'
    """
    kind, rank, peer, stage = subject["kind"], subject["rank"], subject["peer"], subject["stage"]
    said = clean(subject["id"])
    if kind == "rank" and rank is not None:
        said = f"rank {rank}"
    elif kind == "link" and rank is not None and peer is not None:
        said = f"link rank {rank} -> rank {peer}"
    elif kind == "group":
        said = f"group {said.partition('/group:')[2] or said}"
    elif kind == "stage" and stage is not None:
        said = f"stage {stage}"
    elif kind in ("node", "rack"):
        said = f"{kind} {said}"
    elif kind == "job":
        said = "whole job"
    node = clean(subject["node"] or "")
    return f"{said} on {node}" if node and kind not in ("node", "rack", "job") else said


def replayed(answer: Mapping[str, Any]) -> str:
    """Return what a recommendation saves by the recorded rounds, and what must hold; "" where none were replayed.

    >>> replayed({"saved_s": 0.0}), replayed({})
    ('replayed: no remedy beside the repair itself saves 2 % of the step (skewscope plan advise)', '')
    """
    if "saved_s" not in answer:
        return ""
    if not answer["saved_s"]:
        return "replayed: no remedy beside the repair itself saves 2 % of the step (skewscope plan advise)"
    ends = f"{seconds(answer['saved_low_s'])} to {seconds(answer['saved_high_s'])}"
    return f"replayed: {answer['action']} saves {seconds(answer['saved_s'])} a step ({ends}), if {answer['needs']}"
