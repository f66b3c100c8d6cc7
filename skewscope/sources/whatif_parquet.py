"""Operation traces of the what-if straggler study (OSDI'25, arXiv 2505.05713): one Parquet row per operation.

Times are float32 seconds from the start of their step, and steps are not adjacent: each step is laid behind the one
before it, as long as it was measured. One rank stands for a whole tensor-parallel group, so the stride of the rank
numbers tells how many GPUs each stands for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..contracts import Coded, Columns, Reading
from ..errors import Unreadable

Array = np.ndarray[Any, Any]

COLUMNS = ("dp_rank", "stage", "rank", "step", "optype", "start_ts", "duration", "seq_id", "mc", "mb_id")
NS_PER_S = 1e9
LONGEST_S = 1e6  # beyond it a time is damage, and the sum over steps could leave 64 bits


class WhatifParquet:
    """Reads `trace-*.parquet` of the study's artifact and of tools that write the same columns."""

    format: ClassVar[str] = "whatif-parquet"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1 for Parquet; the columns stand at the end of the file, so `read` has the last word."""
        return 0.6 if head.startswith(b"PAR1") else 0.0

    def read(self, path: Path) -> Reading:
        """Return `ops` and `ranks`; raises Unreadable for other Parquet and for damaged files."""
        try:
            file = pq.ParquetFile(path)
            missing = sorted(set(COLUMNS) - set(file.schema_arrow.names))
            if missing:
                raise Unreadable(f"Parquet, but no what-if trace: it has no column {missing[0]!r}")
            table = file.read(columns=list(COLUMNS), use_threads=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # of a column's name
            raise Unreadable(f"damaged Parquet: {error}"[:300]) from None
        found = {name: _numbers(table, name) for name in COLUMNS if name != "optype"}
        sound = _sound(found["start_ts"], found["duration"])
        rows = int(sound.sum())
        if not rows:
            raise Unreadable("a what-if trace without one whole row")
        found = {name: values[sound] for name, values in found.items()}
        reading = Reading(str(path), self.format, events=rows, job=_layout(found))
        reading.world_size = reading.job["world_size"]
        if rows < len(sound):
            reading.status, reading.error = "partial", f"{len(sound) - rows} rows have no usable times"
        kind = _kinds(table.column("optype"))
        reading.batches = [("ops", _ops(found, Coded(kind.codes[sound], kind.values))), ("ranks", _ranks(found))]
        return reading


def _sound(start_s: Array, length_s: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return (start_s >= 0) & (length_s >= 0) & (start_s < LONGEST_S) & (length_s < LONGEST_S)


def _numbers(table: pa.Table, name: str) -> Array:
    column = table.column(name)
    try:
        values = column.to_numpy()
        wanted = np.float64 if name in ("start_ts", "duration") else np.int64
        return np.asarray(np.where(np.isnan(values), -1, values) if values.dtype.kind == "f" else values).astype(wanted)
    except (TypeError, ValueError, pa.ArrowException):
        raise Unreadable(f"column {name!r} of the what-if trace holds {column.type}, not numbers") from None


def _kinds(column: pa.ChunkedArray) -> Coded:
    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    try:
        names = [str(name).replace("-", "_") for name in whole.dictionary.to_pylist()]
    except UnicodeDecodeError as error:
        raise Unreadable(f"damaged Parquet: {error}"[:300]) from None
    return Coded(np.asarray(whole.indices.fill_null(-1)).astype(np.int64), names)


def _ops(found: dict[str, Array], kind: Coded) -> Columns:
    length = np.rint(found["duration"] * NS_PER_S).astype(np.int64)
    start = np.rint(found["start_ts"] * NS_PER_S).astype(np.int64)
    start += _offsets(found["step"], start + length)
    return {
        "job": "job", "rank": found["rank"], "step": found["step"], "stage": found["stage"],
        "microbatch": found["mb_id"], "chunk": found["mc"], "op": kind, "stream": 0, "start_ns": start,
        "end_ns": start + length, "seq": found["seq_id"], "source": WhatifParquet.format,
    }  # fmt: skip


def _offsets(step: Array, end: Array) -> Array:
    """Return for each row where its step begins, int64 ns, so that each step follows the one before it."""
    _, place = np.unique(step, return_inverse=True)
    length = np.zeros(int(place.max()) + 1, dtype=np.int64)
    np.maximum.at(length, place, end)
    return np.asarray((np.cumsum(length) - length)[place])


def _ranks(found: dict[str, Array]) -> Columns:
    ranks, first = np.unique(found["rank"], return_index=True)
    return {"job": "job", "rank": ranks, "dp": found["dp_rank"][first], "pp": found["stage"][first]}


def _layout(found: dict[str, Array]) -> dict[str, Any]:
    ranks = np.unique(found["rank"])
    stride = int(np.diff(ranks).min()) if len(ranks) > 1 else 1
    dp, pp = (len(np.unique(found[name])) for name in ("dp_rank", "stage"))
    return {"parallelism": {"dp": dp, "pp": pp, "tp": stride}, "world_size": stride * len(ranks)}
