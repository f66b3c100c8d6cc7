"""What ran, name by name: calls and seconds per step and rank on both sides, and what the change is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from . import samples
from .names import matched
from .run import Run, one_source

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

HOST = ("data", "gc")  # phases of the host that other tables compare
MOST_BLOCKS = 200  # of steps in the test of single names
LEAST_RATIO = 0.02  # smaller changes are none
COMMUNICATION = "communication"


class Totals(NamedTuple):
    """What one side spent on each name: `names` are (kind, name); per name calls, seconds, and seconds per block."""

    names: list[tuple[str, str]]
    calls: Array  # [names], in all steps and ranks that are compared
    seconds: Array  # [names]
    blocks: Array  # [blocks, names] seconds per step and rank; no blocks where there are no steps
    steps: int  # that calls and seconds are of; 0 where the recording tells none


class Rows(NamedTuple):
    """Rows of work: `code` into `names`, and arrays of the same length."""

    code: Array
    step: Array
    duration_s: Array
    names: list[tuple[str, str]]


def rows_of(ops: pd.DataFrame, calls: pd.DataFrame) -> Rows:
    """Return the device work, host operations and collectives of a run, coded by kind and name."""
    parts = [part for part in (_coded(*_ops(ops)), _coded(*_calls(calls))) if len(part.code)]
    if not parts:
        return Rows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), [])
    names: list[tuple[str, str]] = []
    codes = []
    for part in parts:
        codes.append(part.code + len(names))
        names += part.names
    return Rows(
        np.concatenate(codes), np.concatenate([part.step for part in parts]),
        np.concatenate([part.duration_s for part in parts]), names,
    )  # fmt: skip


def _ops(ops: pd.DataFrame) -> tuple[pd.DataFrame, str, Array]:
    if not len(ops):
        return ops, "op", np.zeros(0)
    kept = ops[~ops["op"].isin(HOST).to_numpy()]
    return kept, "op", (kept["end_ns"] - kept["start_ns"]).to_numpy() / 1e9


def _calls(calls: pd.DataFrame) -> tuple[pd.DataFrame, str, Array]:
    """Return collectives with their measured time: of those without an end or a duration none is known, so 0."""
    if not len(calls):
        return calls, "", np.zeros(0)
    begin = np.where(calls["start_ns"] >= 0, calls["start_ns"], calls["ready_ns"])
    length = np.where((calls["end_ns"] >= 0) & (begin >= 0), calls["end_ns"] - begin, calls["duration_ns"])
    return calls, "", np.maximum(length, 0) / 1e9


def _coded(rows: pd.DataFrame, kind: str, duration_s: Array) -> Rows:
    if not len(rows):
        return Rows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), [])
    second = rows["name" if kind else "op"].astype("category").cat
    first = rows[kind].astype("category").cat if kind else None
    width = len(second.categories) + 1
    pairs = second.codes.to_numpy(np.int64) + 1
    if first is not None:
        pairs = pairs + first.codes.to_numpy(np.int64) * width
    code, found = pd.factorize(pairs, sort=True)
    kinds = [str(first.categories[pair // width]) if first is not None else COMMUNICATION for pair in found.tolist()]
    texts = [str(second.categories[pair % width - 1]) if pair % width else "" for pair in found.tolist()]
    names = [(one, text or one) for one, text in zip(kinds, texts, strict=True)]
    return Rows(code, rows["step"].to_numpy(np.int64), duration_s, names)


def totals(rows: Rows, run: Run) -> Totals:
    """Return calls and seconds of each name in the judged steps; of all rows where the recording tells no steps."""
    count, steps = len(rows.names), run.judged
    place = np.searchsorted(steps, rows.step)
    inside = (place < len(steps)) & (steps[np.minimum(place, len(steps) - 1)] == rows.step) if len(steps) else None
    if inside is None or not inside.any():
        calls = np.bincount(rows.code, minlength=count)
        seconds = np.bincount(rows.code, rows.duration_s, minlength=count)
        return Totals(rows.names, calls, seconds, np.zeros((0, count)), 0)
    code, length, place = rows.code[inside], rows.duration_s[inside], place[inside]
    per_block = -(-len(steps) // MOST_BLOCKS)
    block = place // per_block
    whole = int(block.max()) + 1
    spent = np.bincount(block * count + code, length, minlength=whole * count).reshape(whole, count)
    held = np.bincount(np.arange(len(steps)) // per_block, minlength=whole)[:whole, None]
    return Totals(rows.names, np.bincount(code, minlength=count), spent.sum(axis=0), spent / held / run.ranks,
                  len(steps))  # fmt: skip


def joined(sides: tuple[Totals, Totals], exact: bool = False) -> tuple[list[tuple[str, str]], tuple[Totals, Totals]]:
    """Return the names that both sides share one key for, and both totals by key; order is that of the keys."""
    by_kind: dict[str, list[set[str]]] = {}
    for place, side in enumerate(sides):
        for kind, name in side.names:
            by_kind.setdefault(kind, [set(), set()])[place].add(name)
    keys = {(kind, name): (kind, key) for kind, (first, second) in by_kind.items()
            for name, key in matched(first, second, exact).items()}  # fmt: skip
    names = sorted(set(keys.values()))
    place_of = {key: place for place, key in enumerate(names)}
    return names, (_moved(sides[0], keys, place_of), _moved(sides[1], keys, place_of))


def _moved(side: Totals, keys: dict[tuple[str, str], tuple[str, str]], place_of: dict[tuple[str, str], int]) -> Totals:
    count = len(place_of)
    code = np.array([place_of[keys[name]] for name in side.names], dtype=np.int64)
    blocks = np.zeros((len(side.blocks), count))
    np.add.at(blocks.T, code, side.blocks.T)
    return Totals(
        list(place_of), np.bincount(code, side.calls, minlength=count), np.bincount(code, side.seconds, count), blocks,
        side.steps,
    )  # fmt: skip


def compared(before: Run, after: Run, exact: bool = False) -> list[Record]:
    """Return a record for each kind and name, the largest change of seconds per step and rank first.

    `calls` and `seconds` count per step and rank (where a recording tells no steps: per rank of the whole of it);
    `state` is added, removed, slower, faster or same; `exact` matches names only as they are. `p` is
    adjusted for the number of names, None where not tested.
    """
    ops, calls = one_source(before.ops, after.ops), one_source(before.calls, after.calls)
    sides = totals(rows_of(ops[0], calls[0]), before), totals(rows_of(ops[1], calls[1]), after)
    names, (first, second) = joined(sides, exact)
    if not names:
        return []
    per = (max(1, first.steps) * before.ranks, max(1, second.steps) * after.ranks)
    p = _tested(first, second)
    counts = first.calls / per[0], second.calls / per[1]
    seconds = first.seconds / per[0], second.seconds / per[1]
    records = [
        _record(name, (counts[0][at], counts[1][at]), (seconds[0][at], seconds[1][at]), p[at])
        for at, name in enumerate(names)
        if counts[0][at] or counts[1][at]  # else it is of steps that are not compared
    ]
    return sorted(records, key=lambda one: (-abs(one["change_s"]), one["kind"], one["name"]))


def _tested(first: Totals, second: Totals) -> Array:
    """Return p of each name by its seconds per step, NaN where there are too few steps."""
    if not samples.enough(len(first.blocks), len(second.blocks)):
        return np.full(len(first.names), np.nan)
    return samples.adjusted(samples.p_values(first.blocks, second.blocks))


def _record(name: tuple[str, str], calls: tuple[float, float], seconds: tuple[float, float], p: float) -> Record:
    change = float(seconds[1] - seconds[0])
    ratio = float(seconds[1] / seconds[0]) if seconds[0] > 0 else None
    tested = bool(np.isfinite(p))
    if not calls[0] or not calls[1]:
        state = "removed" if calls[0] else "added"
    elif (tested and p >= samples.ALPHA) or abs(change) <= LEAST_RATIO * float(seconds[0]):
        state = "same"
    else:
        state = "slower" if change > 0 else "faster"
    return {
        "kind": name[0], "name": name[1], "state": state, "calls_before": float(calls[0]),
        "calls_after": float(calls[1]), "before_s": float(seconds[0]), "after_s": float(seconds[1]),
        "change_s": change, "ratio": ratio, "p": float(p) if tested else None,
    }  # fmt: skip
