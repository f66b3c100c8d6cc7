"""Steps and phases from profiler marks, and which step a moment belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._kineto_columns import Array, ordinal, outermost
from ._kineto_names import phase, step_number
from ._kineto_rows import Rows


@dataclass(frozen=True)
class Steps:
    """Marked steps in order of time: `number`, `start`, `end` of shape [steps]."""

    number: Array
    start: Array
    end: Array

    def of(self, moment: Array) -> Array:
        """Return the number of the step that each moment lies in, -1 outside.

        >>> Steps(np.array([7]), np.array([10]), np.array([20])).of(np.array([10, 20])).tolist()
        [7, -1]
        """
        if not len(self.number):
            return np.full(len(moment), -1)
        place = np.searchsorted(self.start, moment, side="right") - 1
        inside = (place >= 0) & (moment < self.end[place])
        return np.where(inside, self.number[place], -1)


@dataclass(frozen=True)
class Marks:
    """Annotations by meaning: host steps, device steps, and phases (`phase` names, "" for steps)."""

    host: Steps
    device: Steps
    start: Array
    end: Array
    lane: Array
    phase: Array
    main_lane: int


def marks(rows: Rows) -> Marks:
    """Return the meaning of all annotations kept."""
    found = rows.marks.done()
    numbers = np.array([step_number(name) for name in rows.names.values] or [-1], dtype=np.int64)
    phases = np.array([phase(name) for name in rows.names.values] or [""], dtype=object)
    number = numbers[found["name"]] if len(found["name"]) else np.zeros(0, dtype=np.int64)
    on_device = found["on_device"]
    host_rows, device_rows = np.flatnonzero((number >= 0) & ~on_device), np.flatnonzero((number >= 0) & on_device)
    spans = found["start"], found["end"], number
    plain = np.flatnonzero((number < 0) & ~on_device)
    lane = found["lane"]
    main = int(np.bincount(lane[host_rows]).argmax()) if len(host_rows) else -1
    named = phases[found["name"][plain]] if len(plain) else np.zeros(0, dtype=object)
    return Marks(
        _steps(*(part[host_rows] for part in spans)), _steps(*(part[device_rows] for part in spans)),
        found["start"][plain], found["end"][plain], lane[plain], named, main,
    )  # fmt: skip


def _steps(start: Array, end: Array, number: Array) -> Steps:
    """Return one span per step: from its first mark to its last (streams are marked one by one)."""
    if not len(number):
        return Steps(number, start, end)
    found, of = np.unique(number, return_inverse=True)
    first, last = np.full(len(found), 2**62), np.full(len(found), -(2**62))
    np.minimum.at(first, of, start)
    np.maximum.at(last, of, end)
    order = np.argsort(first, kind="stable")
    return Steps(found[order], first[order], last[order])


def phase_rows(mark: Marks) -> tuple[Array, Array]:
    """Return the rows of `mark` that are the outermost of their phase in their thread, and their phases."""
    kinds = np.unique(mark.phase.astype(str)) if len(mark.phase) else np.zeros(0, dtype=str)
    codes = np.searchsorted(kinds, mark.phase.astype(str)) if len(kinds) else np.zeros(0, dtype=np.int64)
    rows = outermost(mark.lane.astype(np.int64) * (len(kinds) + 1) + codes, mark.start, mark.end)
    rows = rows[np.argsort(mark.start[rows], kind="stable")]
    return rows, mark.phase[rows]


def tokens_of(rows: Rows, steps: Steps) -> Array:
    """Return the embedding indices looked up in each step, with the weight of the first look-up; -1 where unseen."""
    found = rows.tokens.done()
    out = np.full(len(steps.number), -1, dtype=np.int64)
    if not len(found["start"]) or not len(out):
        return out
    order = np.argsort(found["start"], kind="stable")
    start, count, weight = (found[name][order] for name in ("start", "tokens", "weight"))
    place = np.searchsorted(steps.start, start, side="right") - 1
    good = (place >= 0) & (start < steps.end[place])
    first = np.full(len(out), -1, dtype=np.int64)
    first[place[good][::-1]] = weight[good][::-1]
    good &= weight == first[place]
    sums = np.bincount(place[good], count[good], len(out)).astype(np.int64)
    return np.where(np.bincount(place[good], minlength=len(out)) > 0, sums, -1)


def step_table(rows: Rows, mark: Marks) -> dict[str, Array]:
    """Return the columns of `steps`: whole steps, then phases; times since the base, in ns."""
    host = mark.host if len(mark.host.number) else mark.device
    picked, kind = phase_rows(mark)
    of = host.of(mark.start[picked])
    picked, kind, of = picked[of >= 0], kind[of >= 0], of[of >= 0]
    codes = np.unique(kind.astype(str), return_inverse=True)[1] if len(kind) else np.zeros(0, dtype=np.int64)
    turn = ordinal([codes, of], mark.start[picked])
    several = ordinal([codes, of], -mark.start[picked]) + turn > 0
    whole = len(host.number)
    return {
        "step": np.concatenate([host.number, of]),
        "phase": np.concatenate([np.full(whole, "step", dtype=object), kind]),
        "microbatch": np.concatenate([np.full(whole, -1), np.where(several, turn, -1)]),
        "start_ns": np.concatenate([host.start, mark.start[picked]]),
        "end_ns": np.concatenate([host.end, mark.end[picked]]),
        "work_tokens": np.concatenate([tokens_of(rows, host), np.full(len(of), -1)]),
    }
