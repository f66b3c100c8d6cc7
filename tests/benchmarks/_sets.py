"""Builds the sets that speed is measured on: one real trace written again as many ranks, or as one large file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from isal import igzip

DATA = Path(__file__).parents[2] / "../shared/data"
REAL = DATA / "hta-kineto-tests/negative_queue_length_values_check__rank0.json.gz"
KEPT = (
    0.2  # share of its collective time that the late rank keeps: it arrives when the others have nearly waited enough
)


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


def large(folder: Path, size_bytes: int) -> Path:
    """Return one trace of at least `size_bytes` of text: the same real events over and over, one second later each."""
    path = folder / f"large_{size_bytes >> 20}.json.gz"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    trace = json.loads(gzip.decompress(REAL.read_bytes()))
    events = trace.pop("traceEvents")
    hidden = path.with_suffix(".part")
    with igzip.open(hidden, "wb", compresslevel=1) as file:
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


def _delay(trace: dict[str, Any]) -> None:
    for event in trace["traceEvents"]:
        if event.get("cat") == "kernel" and event["name"].startswith("nccl"):
            lost = int(event["dur"] * (1 - KEPT))
            event["ts"] += lost
            event["dur"] -= lost
