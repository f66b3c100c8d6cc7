"""What a bench got wrong, one by one, in words: claims that are not right, and faults that nothing claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def wrong(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each wrong claim of a `skewscope.bench/1` document.

    >>> one = {"condition": "nic-slow", "claimed": "n1/mlx5_0", "true": "", "scenario": "healthy", "seed": 7}
    >>> wrong({"wrong": [one]})
    ['Wrong: nic-slow at n1/mlx5_0 (healthy, seed 7)']
    """
    found = []
    for one in document["wrong"]:
        place = f", it is at {one['true']}" if one["true"] else ""
        found.append(f"Wrong: {one['condition']} at {one['claimed']}{place} ({one['scenario']}, seed {one['seed']})")
    return found


def missed(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each fault that nothing claimed, with what it costs beside the others of its run.

    >>> one = {"condition": "nic-slow", "true": "n1/mlx5_0", "lost_share": 0.014, "seen": True, "scenario": "two"}
    >>> missed({"missed": [one | {"seed": 7}]})
    ['Missed: nic-slow at n1/mlx5_0, 1.4% of the step, named as context (two, seed 7)']
    """
    return [
        f"Missed: {one['condition']} at {one['true']}, {one['lost_share']:.1%} of the step"
        f"{', named as context' if one['seen'] else ''} ({one['scenario']}, seed {one['seed']})"
        for one in document["missed"]
    ]
