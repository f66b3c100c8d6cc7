"""Builds the sets that speed is measured on: one real trace written again as many ranks, or as one large file; flight
recorder dumps; canonical tables. Each has one known culprit: the rank `ranks // 2`."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

from isal import igzip

DATA = Path(__file__).parents[2] / "../shared/data"
REAL = DATA / "hta-kineto-tests/negative_queue_length_values_check__rank0.json.gz"
KEPT = 0.2  # share of its collective time that the late rank keeps: the others have nearly waited enough
EPOCH_NS, MS = 1_700_000_000_000_000_000, 1_000_000
TENSOR_RANKS = 8  # of a tensor-parallel group in the dumps
FRAMES = [{"name": name, "filename": f"/srv/job/{file}.py", "line": line} for name, file, line in (
    ("all_reduce", "lib/python3.12/site-packages/torch/distributed/distributed_c10d", 2806),
    ("wrapper", "lib/python3.12/site-packages/torch/distributed/c10d_logger", 81), ("reduce", "model/parallel", 214),
    ("forward", "model/block", 98), ("_call_impl", "lib/python3.12/site-packages/torch/nn/modules/module", 1751),
    ("forward", "model/transformer", 301), ("train_step", "train", 145), ("main", "train", 212),
)]  # fmt: skip


def negq(folder: Path, ranks: int) -> list[Path]:
    """Return `ranks` traces of 22.6 MB each (109 k events), written unless there; rank `ranks // 2` arrives late."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"rank{rank}.json.gz" for rank in range(ranks)]
    missing = [rank for rank, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    trace = json.loads(gzip.decompress(REAL.read_bytes()))
    trace["distributedInfo"]["world_size"] = ranks
    plain = json.dumps(trace)
    own = json.dumps(trace["distributedInfo"])
    _delay(trace)
    late = json.dumps(trace)
    for rank in missing:
        text = late if rank == ranks // 2 and ranks > 1 else plain
        text = text.replace(own, json.dumps({**trace["distributedInfo"], "rank": rank}), 1)
        hidden = paths[rank].with_suffix(".part")
        hidden.write_bytes(gzip.compress(text.encode(), 6))
        hidden.rename(paths[rank])
    return paths


def large(folder: Path, size_bytes: int, *, plain: bool = False) -> Path:
    """Return one trace of at least `size_bytes` of text: the same real events over and over, two seconds later each.

    It is compressed, unless `plain`.
    """
    path = folder / f"large_{size_bytes >> 20}.json{'' if plain else '.gz'}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    trace = json.loads(gzip.decompress(REAL.read_bytes()))
    events = trace.pop("traceEvents")
    hidden = path.with_suffix(".part")
    with hidden.open("wb") if plain else igzip.open(hidden, "wb", compresslevel=1) as file:
        file.write(json.dumps(trace).encode()[:-1] + b', "traceEvents": [')
        written = 0
        while written < size_bytes:
            text = json.dumps(events).encode()[1:-1]
            file.write((b", " if written else b"") + text)
            written += len(text)
            for event in events:
                event["ts"] += 2_000_000
        file.write(b"]}")
    hidden.rename(path)
    return path


def dumps(folder: Path, ranks: int, entries: int) -> list[Path]:
    """Return flight recorder dumps of `entries` calls, pickled as torch does it (protocol 2, frames shared).

    Seven all-reduces in a tensor-parallel group are followed by one of the world; the last of these the culprit never
    calls, and everybody else waits in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"nccl_trace_rank_{rank}" for rank in range(ranks)]
    for rank, path in enumerate(paths):
        if not path.exists():
            hidden = path.with_name(f"part_{rank}")
            hidden.write_bytes(pickle.dumps(_dump(rank, ranks, entries), protocol=2))
            hidden.rename(path)
    return paths


def _dump(rank: int, ranks: int, entries: int) -> dict[str, Any]:
    block = rank // TENSOR_RANKS
    own = [*range(block * TENSOR_RANKS, min((block + 1) * TENSOR_RANKS, ranks))]
    groups = {"0": ("default_pg", [*range(ranks)]), f"{block + 1}": ("tensor", own)}
    named = [(name, description) for name, (description, _) in groups.items()]
    kept = entries - (rank == ranks // 2)
    calls = [_entry(number, rank, named, done=number < entries - 1) for number in range(kept)]
    config = {name: {"name": name, "desc": text, "ranks": str(members)} for name, (text, members) in groups.items()}
    status = {str(place): {"last_enqueued_collective": kept, "last_started_collective": kept,
                           "last_completed_collective": entries - 1} for place in range(len(groups))}  # fmt: skip
    return {"version": "2.10", "comm_lib_version": "2.27.5", "pg_config": config, "pg_status": status, "entries": calls}


def _entry(number: int, rank: int, groups: list[tuple[str, str]], *, done: bool) -> dict[str, Any]:
    step, place = divmod(number, TENSOR_RANKS)
    world = place == TENSOR_RANKS - 1
    seq = step + 1 if world else number - step + 1
    called_ns = EPOCH_NS + number * 4 * MS + (number * 37 + rank * 61) % 97 * 1000
    sizes = [4096, 1024] if world else [2048, 4096]
    return {
        "frames": FRAMES[:], "record_id": number, "pg_id": 0 if world else 1, "process_group": groups[not world],
        "thread_name": "python", "thread_id": "139831796063104", "collective_seq_id": seq, "p2p_seq_id": 0,
        "op_id": seq, "profiling_name": "nccl:all_reduce", "time_created_ns": called_ns, "input_sizes": [sizes],
        "input_dtypes": ["BFloat16"], "output_sizes": [sizes], "output_dtypes": ["BFloat16"],
        "state": "completed" if done else "started", "time_discovered_started_ns": called_ns + 100_000,
        "time_discovered_completed_ns": called_ns + 3 * MS if done else None, "retired": done, "timeout_ms": 600_000,
        "is_p2p": False,
    }  # fmt: skip


def canonical(folder: Path, ranks: int, steps: int, calls: int) -> int:
    """Return the rows of `collectives` written, ranks x steps x calls, beside `steps`.

    All ranks do 5 ms of own work (10 % noise), the culprit 1.2 to 1.8 times as much, then wait in an all-reduce that
    takes 1 ms from the last arrival on.
    """
    import numpy as np  # here, as measured processes that want a trace only load this file too

    from skewscope.frames import frame

    draw = np.random.default_rng(0)
    own = draw.normal(5 * MS, 0.5 * MS, (steps * calls, ranks))
    own[:, ranks // 2] *= draw.uniform(1.2, 1.8, len(own))
    end = EPOCH_NS + np.cumsum(own.max(axis=1) + MS).astype(np.int64)
    begin = np.concatenate([[EPOCH_NS], end[:-1]])
    number = np.repeat(np.arange(steps * calls), ranks)
    ready = begin[number] + own.astype(np.int64).reshape(-1)
    rank = np.tile(np.arange(ranks), steps * calls)
    made = frame("collectives", {
        "job": "job", "step": number // calls, "rank": rank, "group": "0", "group_size": ranks, "seq": number,
        "op": "all_reduce", "op_class": "", "message_bytes": 1 << 20, "ready_ns": ready, "start_ns": ready,
        "end_ns": end[number], "blocking": True, "state": "completed", "source": "kineto",
    })  # fmt: skip
    lane, step = np.tile(np.arange(ranks), steps), np.repeat(np.arange(steps), ranks)
    marks = frame("steps", {
        "job": "job", "step": step, "rank": lane, "phase": "step", "start_ns": begin[::calls][step],
        "end_ns": end[calls - 1 :: calls][step], "source": "kineto",
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    made.to_parquet(folder / "collectives.parquet")
    marks.to_parquet(folder / "steps.parquet")
    return len(made)


def _delay(trace: dict[str, Any]) -> None:
    for event in trace["traceEvents"]:
        if event.get("cat") == "kernel" and event["name"].startswith("nccl"):
            lost = int(event["dur"] * (1 - KEPT))
            event["ts"] += lost
            event["dur"] -= lost
