"""Writes the operations of a large job as canonical tables on disk, cut by step range, with the truth beside them.

The folder holds `TABLE.steps-FIRST-LAST.parquet` of ops, collectives and steps, and `ranks`, `groups`, `job.json` and
`truth.json` once. Row groups hold one step each and carry statistics, so a reader finds any step without reading the
others. Memory is that of one step and of the world's state, however long the job is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..frames import frame
from . import tables
from .injection import Injection
from .noise import Array
from .rank_operations import CALLS, CLASSES, OPS, Operations, Step
from .scenario import Scenario
from .simulation import ground
from .truth import truth

SOURCE = "simulation"
KINDS = ("tp", "dp")
TIMES = ("start_ns", "end_ns", "ready_ns")
COMPRESSION_LEVEL = 1  # zstd; times are coded by their differences before


def write(
    plan: Scenario, folder: Path, *, seed: int = 0, steps_per_part: int = 20,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the first job of a scenario into `folder`, and return the truth; raises UsageError for other kinds of jobs.

    `progress(done, total, path)` is called after each range of steps.
    """
    world, faults = ground(plan, seed)
    made = Operations(world)
    folder.mkdir(parents=True, exist_ok=True)
    count = made.plan.steps
    writer = _Writer(made, plan.start_ns, folder)
    lengths, first = [], 0
    with ExitStack() as closing:
        closing.callback(writer.close)
        for step in made.steps(count):
            if step.number % steps_per_part == 0:
                first = step.number
                writer.open(first, min(first + steps_per_part, count) - 1)
            writer.add(step)
            lengths.append(step.end_s.max() - step.begin_s.max())
            if progress is not None and (step.number + 1 == count or (step.number + 1) % steps_per_part == 0):
                progress(step.number + 1, count, str(folder))
    _small(made, plan, folder, float(np.sum(lengths)))
    told = {**truth(world, faults, {}, {}), "rows": writer.rows}
    for at, fault in enumerate(faults):
        without = Operations(ground(plan, seed, skip=at)[0]).lengths(count)
        told["faults"][at] |= _price(fault, np.array(lengths), without, made.plan.start_s)
    (folder / "truth.json").write_text(json.dumps(told, indent=2) + "\n")
    return told


def _price(fault: Injection, took: Array, usual: Array, start_s: float) -> dict[str, Any]:
    """Return the steps that a fault touches and what they lose by it, seconds per step and share."""
    ends = start_s + np.cumsum(took)
    touched = np.flatnonzero((ends > fault.onset_s) & (ends - took < fault.end_s))
    if not len(touched):
        return {"onset_step": -1, "last_step": -1, "lost_s_per_step": 0.0, "lost_share": 0.0}
    lost = float((took - usual)[touched].mean())
    return {
        "onset_step": int(touched[0]), "last_step": int(touched[-1]), "lost_s_per_step": round(lost, 6),
        "lost_share": round(lost / float(took[touched].mean()), 6),
    }  # fmt: skip


class _Writer:
    """One file per table for the range of steps that is open."""

    def __init__(self, made: Operations, start_ns: int, folder: Path) -> None:
        self._made, self._start_ns, self._folder = made, start_ns, folder
        self._files: dict[str, pq.ParquetWriter] = {}
        self._range = ""
        self.rows = {"ops": 0, "collectives": 0, "steps": 0}
        plan, world = made.plan, made.world
        nodes = world.fleet.node_of(np.arange(made.job.gpus.start, made.job.gpus.stop))
        self._offset_ns = (world.node.knob("offset_s")[0][nodes] * 1e9).astype(np.int64)
        self._sizes = np.array([plan.tp, plan.dp, 2], dtype=np.int32)
        kinds = [0 if name.startswith("tp") else 1 if name.startswith("dp") else 2 for name in made.groups]
        self._kind = np.array(kinds, dtype=np.int8)

    def open(self, first: int, last: int) -> None:
        """Begin the range of steps `first` to `last`."""
        self.close()
        self._range = f"steps-{first:06d}-{last:06d}"

    def close(self) -> None:
        """End the range that is open."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def add(self, step: Step) -> None:
        """Write one step as one row group of each table."""
        ops, calls = step.ops, step.calls
        rank = np.arange(self._made.plan.ranks, dtype=np.int32)
        self._write("ops", step.number, ops["rank"], {
            "microbatch": ops["microbatch"].astype(np.int32), "op": _coded(ops["op"], OPS),
            "stream": np.where(ops["op"] == 1, 7, 0).astype(np.int32),
            "start_ns": self._ns(ops, "begin_s"), "end_ns": self._ns(ops, "end_s"),
        })  # fmt: skip
        group = calls["group"].astype(np.int32)
        self._write("collectives", step.number, calls["rank"], {
            "group": _coded(group, self._made.groups), "group_size": self._sizes[self._kind[group]],
            "seq": calls["seq"].astype(np.int64), "op": _coded(calls["op"], CALLS),
            "op_class": _coded(calls["op_class"], CLASSES), "message_bytes": calls["message_bytes"].astype(np.int64),
            "peer": calls["peer"].astype(np.int32), "ready_ns": self._ns(calls, "begin_s"),
            "end_ns": self._ns(calls, "end_s"), "blocking": calls["op"] != 1,
        })  # fmt: skip
        moments = {"rank": rank, "begin_s": step.begin_s, "end_s": step.end_s}
        self._write("steps", step.number, rank, {
            "phase": _coded(np.zeros(len(rank)), ["step"]), "start_ns": self._ns(moments, "begin_s"),
            "end_ns": self._ns(moments, "end_s"),
            "work_tokens": np.full(len(rank), self._made.plan.tokens, dtype=np.int64),
        })  # fmt: skip

    def _ns(self, rows: dict[str, Array], name: str) -> Array:
        moved = np.rint(rows[name] * 1e9).astype(np.int64) + self._start_ns
        return np.asarray(moved + self._offset_ns[rows["rank"]])

    def _write(self, table: str, step: int, rank: Array, columns: dict[str, Any]) -> None:
        size = len(rank)
        whole = pa.table({
            "job": _coded(np.zeros(size), [self._made.plan.name]), "step": np.full(size, step, dtype=np.int64),
            "rank": rank.astype(np.int32), **columns, "source": _coded(np.zeros(size), [SOURCE]),
        })  # fmt: skip
        if table not in self._files:
            times = [name for name in whole.column_names if name in TIMES]
            self._files[table] = pq.ParquetWriter(
                self._folder / f"{table}.{self._range}.parquet", whole.schema,
                compression="zstd", compression_level=COMPRESSION_LEVEL,
                use_dictionary=[name for name in whole.column_names if name not in times],
                column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
            )  # fmt: skip
        self._files[table].write_table(whole, row_group_size=size)
        self.rows[table] += size


def _coded(codes: Array, values: list[str] | tuple[str, ...]) -> pa.DictionaryArray:
    width = pa.int8() if len(values) < 128 else pa.int32()
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(codes).astype(np.int64)).cast(width), pa.array(values))


def _small(made: Operations, plan: Scenario, folder: Path, length_s: float) -> None:
    """Write what a job has once: its ranks, its communicators and its sizes."""
    fleet, job = made.world.fleet, made.plan
    group, rank, kind, size = made.members
    names = np.array(made.groups, dtype=object)
    groups = frame("groups", {
        "job": job.name, "group": names[group], "rank": rank, "description": [KINDS[one] for one in kind.tolist()],
        "group_size": size, "source": SOURCE,
    })  # fmt: skip
    ranks = tables.ranks(fleet, plan.start_ns, {at: length_s for at in range(len(fleet.jobs))})
    ranks = ranks[(ranks["job"] == job.name).to_numpy()].reset_index(drop=True)
    for name, rows in (("groups", groups), ("ranks", ranks)):
        rows.to_parquet(folder / f"{name}.parquet", index=False)
    sizes = {"dp": job.dp, "tp": job.tp, "pp": job.pp, "cp": job.cp, "ep": job.ep}
    text = json.dumps({"world_size": job.ranks, "ranks": [], "parallelism": sizes})
    (folder / "job.json").write_text(text)
