"""What any small Kineto trace holds comes back: every kernel, whatever it is called and wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.frames import frame
from skewscope.sources.kineto import Kineto

BASE_NS = 1_790_857_026_000_000_000
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name.strip() and "nccl" not in name.lower()
)
kernels = st.lists(
    st.tuples(names, st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 99)), min_size=1, max_size=6,
    unique_by=lambda one: one[1],
)  # fmt: skip


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kernels, st.randoms(use_true_random=False), st.none() | st.integers(0, 9), st.booleans(), st.booleans())
def test_kernels_come_back_with_their_times_to_the_nanosecond(
    tmp_path: Path, told: list[Any], chance: Random, rank: int | None, spaced: bool, escaped: bool
) -> None:
    """Of kernels that overlap on a stream each is kept; times are microseconds with three digits behind the point."""
    events = [{"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": 0, "args": {"name": "python"}}]
    for name, start_ns, took_ns, stream in told:
        shuffled = list({
            "ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": stream, "ts": start_ns / 1000,
            "dur": took_ns / 1000, "args": {"stream": stream, "device": 0, "note": "}, {]"},
        }.items())  # fmt: skip
        chance.shuffle(shuffled)
        events.append(dict(shuffled))
    chance.shuffle(events)
    trace: dict[str, Any] = {"schemaVersion": 1, "baseTimeNanoseconds": BASE_NS, "deviceProperties": []}
    if rank is not None:
        trace["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": 10}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace | {"traceEvents": events}, indent=1 if spaced else None, ensure_ascii=escaped))
    reading = Kineto().read(path)
    rows = [frame(table, columns) for table, columns in reading.batches if table == "ops"]
    found = [row for one in rows for row in
             one[["op", "name", "stream", "start_ns", "end_ns"]].itertuples(index=False, name=None)]  # fmt: skip
    assert sorted(found) == sorted(
        ("kernel", name, stream, BASE_NS + start, BASE_NS + start + took) for name, start, took, stream in told
    )
    assert reading.status == "ok" and reading.rank == (-1 if rank is None else rank)
