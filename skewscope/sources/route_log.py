"""Route logs: JSON lines of `type` "route" with the experts of one token in one layer, as a patch of vLLM writes them.

A line of `type` "meta" before them names the model. Such logs have no steps: every 1,024 tokens of a layer are taken
for one. The engine's warm-up run is logged too; its tokens are all the same and are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ._expert_picks import MOST_PICKS, WINDOW_TOKENS, Picks
from ._lines import Lines

MOST_TOKENS = 1 << 24  # routes of one file that are kept until its end


class Line(msgspec.Struct):
    """One line of either type."""

    type: str = ""
    layer: int = -1
    topk_ids: list[int] = []
    req_id: str | int = ""
    token_idx: int = -1
    model_id: str = ""


Key = tuple[str | int, int]


class RouteLog:
    """Reads `moe_routes.jsonl` and the like."""

    format: ClassVar[str] = "route-log"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a route log."""
        return 0.95 if head.lstrip().startswith(b"{") and b'"topk_ids"' in head and b'"route"' in head else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads`, and `expert_pairs` where several layers are logged; raises Unreadable."""
        routes: dict[int, list[tuple[Key, list[int]]]] = {}
        bad: list[int] = []
        model, count = "", 0
        lines = Lines(path)
        for number, line in lines:
            told = _line(line)
            if told is None:
                bad.append(number)
            elif told.type == "route":
                routes.setdefault(told.layer, []).append(((told.req_id, told.token_idx), told.topk_ids))
                count += 1
            model = told.model_id if told is not None and told.model_id else model
            if count > MOST_TOKENS:
                raise Unreadable(f"more than {MOST_TOKENS:,} routes: split the file")
        if not routes:
            raise Unreadable("not one whole line of type route", "copy the file again")
        picks = _counted(routes)
        reading = Reading(str(path), self.format, events=count)
        reading.batches, reading.warnings = picks.batches(source=self.format)
        reading.warnings.append(f"the log has no steps: every {WINDOW_TOKENS:,} tokens are taken for one")
        if model:
            reading.warnings.append(f"routes of {model}")
        if lines.damage or bad:
            told_bad = f"{len(bad)} lines are torn and left out, the first is line {(bad or [0])[0]}"
            reading.status, reading.error = "partial", lines.damage or told_bad
        return reading


def _line(line: bytes) -> Line | None:
    """Return a line, None where it is torn or names what cannot be picks."""
    try:
        told = msgspec.json.decode(line, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if told.type != "route":
        return told
    ids = told.topk_ids
    sound = 0 < len(ids) <= MOST_PICKS and told.layer >= 0 and 0 <= min(ids) and max(ids) < 1 << 31
    return told if sound else None


def _counted(routes: dict[int, list[tuple[Key, list[int]]]]) -> Picks:
    picks = Picks()
    before: tuple[int, dict[Key, list[int]]] | None = None
    for layer in sorted(routes):
        rows = routes[layer]
        kept = picks.add_run(layer, [ids for _, ids in rows])
        mine = {key: one for (key, one), keep in zip(rows, kept.tolist(), strict=True) if keep}
        if before is not None:
            _pair(picks, before, (layer, mine))
        before = (layer, mine)
    return picks


def _pair(picks: Picks, one: tuple[int, dict[Key, list[int]]], other: tuple[int, dict[Key, list[int]]]) -> None:
    """Count the pairs of tokens that both layers logged with as many picks."""
    keys = [key for key in one[1] if key in other[1]]
    widths = {len(side[1][key]) for side in (one, other) for key in keys}
    if keys and len(widths) == 1:
        left, right = (np.array([side[1][key] for key in keys], dtype=np.int64) for side in (one, other))
        picks.pair(one[0], left, other[0], right)
