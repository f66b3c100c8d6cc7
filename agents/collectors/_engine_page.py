"""An engine's metrics page, reduced to what we have names for.

Only lines whose name is known are looked at: a page has thousands of lines, and a full parser costs more memory than
the rest of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skewscope.contracts import Sample
from skewscope.metrics.engine_names import PREFIXES, TOLD, WORST, known, who

MOST_BOUNDS = 24
_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")  # greedy: a label's value may hold a brace
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Key = tuple[str, tuple[str, str, str]]


def samples(page: str, replica: str) -> list[Sample]:
    """Return the known metrics of a page; `replica` tells this endpoint from others.

    >>> samples('vllm:num_requests_running{engine="0",model_name="m"} 3.0', "a:1")
    [('skewscope_serving_requests_running', ('vllm', 'm', 'a:1'), 3.0)]
    """
    plain: dict[Key, float] = {}
    buckets: dict[Key, dict[str, float]] = {}
    taken: dict[str, str] = {}
    for theirs, suffix, labels, value in _lines(page):
        ours = TOLD[theirs][1]
        if taken.setdefault(ours, theirs) != theirs:
            continue  # an engine that tells the same under its old and its new name
        whose = who(theirs, labels, replica)
        if suffix == "_bucket":
            bounds = buckets.setdefault((ours, whose), {})
            bound = labels.get("le", "")
            bounds[bound] = bounds.get(bound, 0.0) + value
        else:
            key = (ours + suffix, whose)
            plain[key] = max(plain.get(key, value), value) if ours in WORST else plain.get(key, 0.0) + value
    found: list[Sample] = [(name, whose, value) for (name, whose), value in plain.items()]
    for (name, whose), bounds in buckets.items():
        found += [(f"{name}_bucket", (*whose, bound), count) for bound, count in _thinned(bounds)]
    return found


def _lines(page: str) -> Iterator[tuple[str, str, dict[str, str], float]]:
    for line in page.split("\n"):
        if not line.startswith(PREFIXES):
            continue
        name, suffix = known(line.partition("{")[0].partition(" ")[0])
        if not name:
            continue
        match = _LINE.match(line)
        try:
            value = float(match[3]) if match else float("nan")
        except ValueError:
            continue
        if match and abs(value) < float("inf"):
            yield name, suffix, {key: _unescaped(text) for key, text in _LABEL.findall(match[2] or "")}, value


def _unescaped(text: str) -> str:
    return re.sub(r"\\[\\\"n]", lambda found: _ESCAPED[found[0]], text)


def _thinned(bounds: dict[str, float]) -> list[tuple[str, float]]:
    """Return at most 24 buckets: they are cumulative, so leaving some out is no error."""
    ordered = sorted((float(bound), bound) for bound in bounds if _is_number(bound))
    inner = [bound for value, bound in ordered if value != float("inf")]
    every = -(-len(inner) // MOST_BOUNDS) or 1
    kept = inner[every - 1 :: every]
    return [(bound, bounds[bound]) for bound in kept] + [
        ("+Inf", bounds[bound]) for value, bound in ordered if value == float("inf")
    ]


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
