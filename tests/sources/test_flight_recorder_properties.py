"""What any dump of the flight recorder holds comes back, in whichever form it was written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.frames import frame
from skewscope.sources.flight_recorder import FlightRecorder

BYTES = {"Float": 4, "BFloat16": 2}
OPS = {"nccl:all_reduce": "all_reduce", "nccl:_all_gather_base": "all_gather", "nccl:broadcast": "broadcast"}
calls = st.tuples(
    st.sampled_from(list(OPS)), st.lists(st.integers(0, 99), min_size=1, max_size=3), st.sampled_from(list(BYTES)),
    st.integers(1, 2**62), st.sampled_from(["scheduled", "started", "completed"]), st.integers(0, 1),
)  # fmt: skip


def entry(record: int, seq: int, call: tuple[Any, ...]) -> dict[str, Any]:
    """Return a call of a group as PyTorch writes it."""
    name, sizes, dtype, created_ns, state, group = call
    return {
        "record_id": record, "process_group": (str(group), "default_pg" if not group else "ü \\ \" group"),
        "collective_seq_id": seq, "p2p_seq_id": 0, "is_p2p": False, "profiling_name": name,
        "time_created_ns": created_ns, "input_sizes": (tuple(sizes),), "input_dtypes": [dtype],
        "output_sizes": (tuple(sizes),), "output_dtypes": [dtype], "state": state, "retired": state == "completed",
        "time_discovered_started_ns": None, "time_discovered_completed_ns": None, "timeout_ms": 600_000,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", 2, 4, 5])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(calls, min_size=1, max_size=6), st.integers(0, 9999), st.randoms(use_true_random=False))
def test_every_call_comes_back(tmp_path: Path, form: str | int, told: list[Any], rank: int, chance: Random) -> None:
    entries, want = [], []
    for record, call in enumerate(told):
        name, sizes, dtype, created_ns, state, group = call
        shuffled = list(entry(record, record + 1, call).items())
        chance.shuffle(shuffled)
        entries.append(dict(shuffled))
        size = BYTES[dtype]
        for one in sizes:
            size *= one
        want.append((rank, str(group), record + 1, OPS[name], dtype, size, created_ns, state))
    dump = {"version": "2.10", "nccl_version": "2.21", "entries": entries, "pg_config": {}}
    path = tmp_path / f"nccl_trace_rank_{rank}{'.json' if form == 'json' else ''}"
    path.write_bytes(json.dumps(dump).encode() if form == "json" else pickle.dumps(dump, int(form)))
    assert FlightRecorder().sniff(path.read_bytes(), path.name) > 0.9
    reading = FlightRecorder().read(path)
    rows = frame(*reading.batches[0])
    columns = ["rank", "group", "seq", "op", "dtype", "message_bytes", "ready_ns", "state"]
    assert sorted(rows[columns].itertuples(index=False, name=None)) == sorted(want)
    assert (reading.rank, reading.events, reading.status) == (rank, len(told), "ok")
    groups = frame(*reading.batches[1])
    assert set(groups["group"]) == {group for _, group, *_ in want} and set(groups["rank"]) == {rank}
