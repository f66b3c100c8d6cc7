"""Tables of a job of many ranks, with every column, as `skewscope analyze --out` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skewscope.contracts import Coded
from skewscope.frames import frame

STAGES, BLOCK = 4, 100
T0_NS, PERIOD_NS = 1_790_000_000 * 10**9, 1_400_000_000
Columns = dict[str, Any]


def write(folder: Path, ranks: int = 10_000, steps: int = 1_000) -> Path:
    """Write report.json and tables/*.parquet: one rank works 0.3 s more than the others in the last 7 of 10 steps."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    made = Made(ranks, steps)
    for name, block in (("rank_steps", made.rank_steps), ("arrivals", made.arrivals), ("steps", made.phases)):
        _blocks(folder / "tables" / f"{name}.parquet", name, steps, block)
    step = np.arange(steps)
    small: Mapping[str, Columns] = {
        "ranks": {"job": "big", "rank": made.ranks, "node": made.node, "pp": made.stage.astype(np.int32)},
        "step_times": {
            "job": "big", "step": step, "start_ns": T0_NS + step * PERIOD_NS, "planned": np.zeros(steps, dtype=bool),
            "duration_ns": np.where(step >= begin_of(steps), 1.35e9, 1.06e9), "ideal_ns": np.full(steps, 1.04e9),
            "ranks_count": np.full(steps, ranks), "source": "made",
        },
    }  # fmt: skip
    for name, columns in small.items():
        frame(name, columns).to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    (folder / "report.json").write_text(json.dumps(_report(ranks, steps)))
    return folder


class Made:
    """Blocks of `BLOCK` steps of all ranks, step after step."""

    def __init__(self, ranks: int, steps: int) -> None:
        self._rng = np.random.default_rng(1)
        self.ranks, self.slow, self.begin = np.arange(ranks, dtype=np.int32), slow_of(ranks), begin_of(steps)
        self.node = Coded(self.ranks // 8, [f"n{at:04d}" for at in range(-(-ranks // 8))])
        self.stage = (self.ranks // -(-ranks // STAGES)).astype(np.int16)

    def _each(self, first: int) -> tuple[np.ndarray[Any, Any], Columns]:
        """Return own work in ns and the columns that all tables have."""
        step = np.repeat(np.arange(first, first + BLOCK, dtype=np.int64), len(self.ranks))
        rank = np.tile(self.ranks, BLOCK)
        own = self._rng.normal(1e9, 5e6, len(rank))
        own[(rank == self.slow) & (step >= self.begin)] += 3e8
        return own, {"job": _one("big", len(rank)), "step": step, "rank": rank, "source": _one("made", len(rank))}

    def _wait(self, own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.repeat(own.reshape(BLOCK, -1).max(axis=1), len(self.ranks)) - own

    def rank_steps(self, first: int) -> Columns:
        """Return a block of `rank_steps`."""
        own, columns = self._each(first)
        wait, size, start = self._wait(own), len(own), T0_NS + columns["step"] * PERIOD_NS
        return columns | {
            "node": Coded(np.tile(self.node.codes, BLOCK), self.node.values), "stage": np.tile(self.stage, BLOCK),
            "start_ns": start, "end_ns": start + 1_350_000_000, "work_ns": own, "own_ns": own,
            "compute_ns": own * 0.9, "input_ns": own * 0.05, "gc_ns": own * 0.0, "checkpoint_ns": own * 0.0,
            "transfer_ns": self._rng.normal(3e7, 1e6, size), "wait_ns": wait,
            "idle_ns": self._rng.normal(1e7, 1e6, size), "comm_ns": wait + 4e7,
            "hidden_ns": self._rng.normal(1e7, 1e5, size), "forward_ns": own * 0.3, "backward_ns": own * 0.6,
            "wait_for_rank": np.where(
                columns["step"] >= self.begin, self.slow, (columns["rank"] * 7) % len(self.ranks)
            ),
            "work_tokens": np.full(size, 4096),
        }  # fmt: skip

    def arrivals(self, first: int) -> Columns:
        """Return a block of `arrivals`: one call a step."""
        own, columns = self._each(first)
        wait, size, start = self._wait(own), len(own), T0_NS + columns["step"] * PERIOD_NS
        return columns | {
            "group": _one("world", size), "group_size": np.full(size, len(self.ranks)), "seq": columns["step"],
            "op_class": _one("coll", size), "op": _one("all_reduce", size), "call": columns["step"],
            "members_count": np.full(size, len(self.ranks)), "message_bytes": np.full(size, 2**28),
            "ready_ns": start + own.astype(np.int64), "end_ns": start + 1_340_000_000, "late_ns": own - 1e9,
            "wait_ns": wait, "transfer_ns": self._rng.normal(3e7, 1e6, size), "last": wait == 0,
            "by_wait": np.zeros(size, dtype=bool),
        }  # fmt: skip

    def phases(self, first: int) -> Columns:
        """Return a block of `steps`: one phase a step."""
        own, columns = self._each(first)
        start = T0_NS + columns["step"] * PERIOD_NS
        return columns | {
            "phase": _one("forward", len(own)), "start_ns": start, "end_ns": start + (own * 0.3).astype(np.int64)
        }  # fmt: skip


def slow_of(ranks: int) -> int:
    """Return the slow rank."""
    return 7_001 % ranks


def begin_of(steps: int) -> int:
    """Return the step from which it is slow."""
    return 3 * steps // 10


def _one(text: str, size: int) -> Coded:
    return Coded(np.zeros(size, dtype=np.int8), [text])


def _blocks(path: Path, name: str, steps: int, block: Callable[[int], Columns]) -> None:
    writer = None
    for first in range(0, steps, BLOCK):
        rows: pd.DataFrame = frame(name, block(first))
        table = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=1024 * 1024)
    if writer is not None:
        writer.close()


def _report(ranks: int, steps: int) -> Columns:
    slow, end_ns = slow_of(ranks), T0_NS + steps * PERIOD_NS
    window = {"start_ns": T0_NS, "end_ns": end_ns, "first_step": begin_of(steps), "last_step": steps - 1}
    subject = {"kind": "rank", "id": f"big/rank{slow}", "rank": slow, "peer": None, "node": f"n{slow // 8:04d}",
               "stage": None, "layer": None}  # fmt: skip
    finding = {
        "id": "f1", "condition": "coll-late-rank", "subject": subject, "role": "culprit", "severity": "S2",
        "confidence": 0.95, "cost": {"seconds_per_step": 0.29, "share": 0.21, "gpu_hours": 570.0}, "evidence": [],
        "window": window,
        "explains": [], "also_seen": [], "runbook": "coll-late-rank", "summary": f"rank {slow} is late",
    }  # fmt: skip
    return {
        "schema": "skewscope.report/1", "findings": [finding],
        "job": {"ranks": ranks, "steps": steps, "start_ns": T0_NS, "end_ns": end_ns},
        "summary": {"slowdown": 1.3, "verdict": f"rank {slow} costs 21 % of the step"},
    }  # fmt: skip
