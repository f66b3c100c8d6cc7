"""Counts per expert as CSV: a row per expert (layer, expert, tokens), or a row per layer with a column per expert.

Known writers: SGLang's older recorder (`layer_id,expert_id,count`), HarMoEny (dataset, iteration, layer_idx, 0..E-1),
routing studies (model, domain, mode, layer, expert, count), traces with the picks of a token in each row (`layer_id,
expert_ids`), and anybody's step, layer, expert, tokens. Each model and data set is a workload of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ..contracts import Coded, Columns, Reading
from ..errors import Unreadable
from . import _bytes, _csv_table, _expert_picks
from ._expert_rows import MOST_EXPERTS, MOST_LAYERS, MOST_ROWS
from ._workload import workload

Array = np.ndarray[Any, Any]

KNOWN = {
    "layer": ("layer", "layer_id", "layer_idx", "layer_index"),
    "expert": ("expert", "expert_id", "expert_idx", "logical_expert", "logical_expert_id"),
    "tokens": ("tokens", "routed_tokens", "count", "num_tokens", "token_count", "expert_count", "load"),
    "picks": ("expert_ids", "topk_ids", "experts"),
    "step": ("step", "iteration", "iter", "forward_pass_id", "window", "step_id"),
    "rank": ("rank", "ep_rank"),
    "phase": ("phase", "stage"),
    "mode": ("mode",),
}
NAMES = ("model", "domain", "dataset", "workload")  # columns that tell workloads apart
FEWEST = 2  # experts of a wide table
ALL_PICKS = "topk"  # a mode; the others tell of some of the same picks again
SEPARATORS = re.compile(r"[^\d-]+")


class ExpertCountsCsv:
    """Reads such tables."""

    format: ClassVar[str] = "expert-counts-csv"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely the first line names layers, and experts or counts of all experts."""
        if b"\0" in head:
            return 0.0
        names = _csv_table.header(head)
        found = _csv_table.meaning(names, KNOWN)
        if "layer" not in found:
            return 0.0
        if {"expert", "tokens"} <= set(found):
            return 0.9
        return 0.85 if _experts(names) or "picks" in found else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads`; raises Unreadable without one whole row."""
        content, damage = _bytes.whole(path)
        table, torn = _csv_table.table(content, NAMES)
        names = [name.strip().strip('"').lower() for name in table.column_names]
        found = _csv_table.meaning(names, KNOWN)
        reading = Reading(str(path), self.format, events=table.num_rows)
        wide = _experts(names)
        job = _csv_table.joined(
            [_csv_table.text(table.column(names.index(name))) for name in NAMES if name in names], workload(path),
            table.num_rows,
        )  # fmt: skip
        if "layer" in found and ({"expert", "tokens"} <= set(found) or wide):
            lost = _counts(table, found, wide, job, reading)
        elif {"layer", "picks"} <= set(found):
            lost = _picks(table, found, workload(path), reading)
        else:
            raise Unreadable(f"columns {', '.join(names[:6])} are no counts per layer and expert")
        if damage or torn or lost:
            reading.status = "partial"
            reading.error = damage or torn or f"{lost} rows without whole numbers are left out"
        return reading


def _experts(names: list[str]) -> list[int]:
    """Return the places of columns called 0, 1, ... E-1, in order; empty where they are not all there.

    >>> _experts(["layer_idx", "1", "0"]), _experts(["layer", "0", "2"])
    ([2, 1], [])
    """
    wanted = {name: at for at, name in enumerate(names) if name.isdecimal()}
    places = [wanted.get(str(expert), -1) for expert in range(len(wanted))]
    return places if len(places) >= FEWEST and -1 not in places else []


def _counts(table: pa.Table, found: dict[str, int], wide: list[int], job: Coded, reading: Reading) -> int:
    """Put counts into `reading`, and return how many rows are left out."""
    sound = np.ones(table.num_rows, dtype=bool)
    rows: dict[str, Array] = {}
    numbers = [name for name in ("layer", "expert", "tokens", "step", "rank") if name in found]
    for name, place in [*((name, found[name]) for name in numbers), *((str(one), at) for one, at in enumerate(wide))]:
        rows[name], fit = _csv_table.numbers(table.column(place), name)
        sound &= fit
    lost = int((~sound).sum())
    if "mode" in found:
        sound &= _all_picks(_csv_table.text(table.column(found["mode"])), reading)
    if not sound.any():
        raise Unreadable("no row with whole numbers for layer, expert and tokens")
    rows = {name: column[sound] for name, column in rows.items()}
    if "expert" not in rows or "tokens" not in rows:
        rows = _unfolded(rows, len(wide))
    _sane(rows)
    repeats = len(rows["layer"]) // int(sound.sum())
    columns: Columns = {
        "job": Coded(np.repeat(job.codes[sound], repeats), job.values), "step": rows.get("step", 0),
        "layer": rows["layer"], "expert": rows["expert"], "rank": rows.get("rank", -1),
        "routed_tokens": rows["tokens"], "source": reading.format,
    }  # fmt: skip
    if "phase" in found:
        phase = _csv_table.text(table.column(found["phase"]))
        columns = {**columns, "phase": Coded(np.repeat(phase.codes[sound], repeats), phase.values)}
    reading.batches.append(("expert_loads", columns))
    return lost


def _unfolded(rows: dict[str, Array], width: int) -> dict[str, Array]:
    """Return a row per expert from a row per layer with the columns 0..width-1."""
    count = len(rows["layer"])
    made: dict[str, Array] = {
        name: np.repeat(rows[name], width) for name in ("layer", "step", "rank") if name in rows
    }  # fmt: skip
    made["expert"] = np.tile(np.arange(width), count)
    made["tokens"] = np.stack([rows[str(expert)] for expert in range(width)], axis=1).ravel()
    return made


def _all_picks(mode: Coded, reading: Reading) -> Array:
    """Return which rows are of the mode that holds all picks, where there is one."""
    whole = np.array([value == ALL_PICKS for value in mode.values], dtype=bool)
    if not whole.any() or whole.all():
        return np.ones(len(mode.codes), dtype=bool)
    others = ", ".join(value for value in mode.values if value != ALL_PICKS)
    reading.warnings.append(f"rows of mode {others} repeat picks that mode {ALL_PICKS} holds: left out")
    kept: Array = whole[mode.codes]
    return kept


def _sane(rows: dict[str, Array]) -> None:
    layer, expert = int(rows["layer"].max()), int(rows["expert"].max())
    if len(rows["layer"]) > 4 * MOST_ROWS or layer >= MOST_LAYERS or expert >= MOST_EXPERTS:
        raise Unreadable(f"{len(rows['layer']):,} rows up to layer {layer} and expert {expert} cannot be meant")


def _picks(table: pa.Table, found: dict[str, int], job: str, reading: Reading) -> int:
    """Put counts of a table of picks into `reading`, and return how many rows are left out."""
    layer, sound = _csv_table.numbers(table.column(found["layer"]), "layer")
    text = _csv_table.text(table.column(found["picks"]))
    parsed = [_ids(value) for value in text.values]
    by_layer: dict[int, list[list[int]]] = {}
    for at, keep, code in zip(layer.tolist(), sound.tolist(), text.codes.tolist(), strict=True):
        if keep and parsed[code]:
            by_layer.setdefault(at, []).append(parsed[code])
    picks = _expert_picks.Picks()
    for at, rows in by_layer.items():
        picks.add_run(at, rows)
    reading.batches, reading.warnings = picks.batches(source=reading.format, job=job)
    return int(table.num_rows) - sum(map(len, by_layer.values()))


def _ids(text: str) -> list[int]:
    """Return the experts in a text such as "[3, 17]"; none where one of them cannot be meant.

    >>> _ids("[3 17]"), _ids("1;99999999")
    ([3, 17], [])
    """
    ids = [int(part) for part in SEPARATORS.split(text) if part.isdecimal() and len(part) < 10]
    return ids if 0 < len(ids) <= _expert_picks.MOST_PICKS and max(ids) < MOST_EXPERTS else []
