"""An engine's metrics page, reduced to what we have names for.

Only lines whose name is known are looked at: a page has thousands of lines, and a full parser costs more memory than
the rest of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skewscope.contracts import Sample

from ._engine_names import HISTOGRAMS, SUMMARIES, TOLD, WORST

MOST_BOUNDS = 24
_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")  # greedy: a label's value may hold a brace
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SUFFIXES = ("_bucket", "_sum", "_count")
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
        engine, ours = TOLD[theirs]
        if taken.setdefault(ours, theirs) != theirs:
            continue  # an engine that tells the same under its old and its new name
        who = (engine, _model(labels), _replica(labels, replica))
        if suffix == "_bucket":
            bounds = buckets.setdefault((ours, who), {})
            bound = labels.get("le", "")
            bounds[bound] = bounds.get(bound, 0.0) + value
        else:
            key = (ours + suffix, who)
            plain[key] = max(plain.get(key, value), value) if ours in WORST else plain.get(key, 0.0) + value
    found: list[Sample] = [(name, who, value) for (name, who), value in plain.items()]
    for (name, who), bounds in buckets.items():
        found += [(f"{name}_bucket", (*who, bound), count) for bound, count in _thinned(bounds)]
    return found


def _lines(page: str) -> Iterator[tuple[str, str, dict[str, str], float]]:
    for line in page.split("\n"):
        name, suffix = _known(line)
        if not name:
            continue
        match = _LINE.match(line)
        try:
            value = float(match[3]) if match else float("nan")
        except ValueError:
            continue
        if match and abs(value) < float("inf"):
            yield name, suffix, {key: _unescaped(text) for key, text in _LABEL.findall(match[2] or "")}, value


def _known(line: str) -> tuple[str, str]:
    """Return the engine's name and the suffix of a line that we have a name for, else two empty strings."""
    if not line.startswith(("vllm:", "sglang:", "trtllm", "inference_extension_flow_control_", "dynamo_frontend_")):
        return "", ""
    name = line.partition("{")[0].partition(" ")[0]
    if name in TOLD:
        return ("", "") if TOLD[name][1] in HISTOGRAMS | SUMMARIES else (name, "")
    for suffix in _SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in TOLD:
            whole = TOLD[base][1] in HISTOGRAMS or (TOLD[base][1] in SUMMARIES and suffix != "_bucket")
            return (base, suffix) if whole else ("", "")
    # A counter of the text format may stand without its ending.
    return (f"{name}_total", "") if f"{name}_total" in TOLD else ("", "")


def _unescaped(text: str) -> str:
    return re.sub(r"\\[\\\"n]", lambda found: _ESCAPED[found[0]], text)


def _model(labels: dict[str, str]) -> str:
    return labels.get("model_name") or labels.get("model") or ""


def _replica(labels: dict[str, str], endpoint: str) -> str:
    """Return endpoint, and the engine behind it where several answer on one page."""
    part = labels.get("engine") or labels.get("dp_rank") or ""
    return f"{endpoint}/{part}" if part not in ("", "0") else endpoint


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
