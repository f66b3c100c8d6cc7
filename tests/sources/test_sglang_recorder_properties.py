"""What SGLang's recorder wrote comes back: each slot's tokens under the expert that it holds, and nothing more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skewscope.frames import frame
from skewscope.sources.sglang_recorder import SglangRecorder

torch = pytest.importorskip("torch")

PHASES = {1: "prefill", 2: "decode", 5: "decode", 3: "", None: ""}
LARGEST = 2**53 - 1
tokens = st.sampled_from([0, 0, 1, 7, 2**31 - 1, 2**31, LARGEST // 8]) | st.integers(0, 9)
sparse = st.sampled_from([0, 0, 0, 5])  # so that layers and passes are often empty


def table(draw: st.DrawFn, shape: tuple[int, ...], values: st.SearchStrategy[int]) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape))
    return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=np.int64).reshape(shape)


@st.composite
def dumps(draw: st.DrawFn) -> tuple[Any, Any]:
    """Return the map of slots [L, P], and records (pass, mode, rank, tokens [L, P] or picks [L, tokens, k])."""
    layers, slots = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    single = draw(st.booleans())
    records = []
    for _ in range(draw(st.integers(1, 4))):
        if single:  # -1 is padding; a slot that nobody chose is in no record
            shape = (layers, draw(st.integers(0, 3)), draw(st.integers(1, 2)))
            told = table(draw, shape, st.integers(-1, slots - 1))
        else:
            told = table(draw, (layers, slots), draw(st.sampled_from([tokens, sparse])))
        records.append((draw(st.sampled_from([0, 0, 3, LARGEST])), draw(st.sampled_from([2, 5, 2, 1, 3, None])), told))
    return table(draw, (layers, slots), st.integers(0, 4)), records


def as_tensor(told: np.ndarray[Any, Any], wide: bool, view: bool) -> Any:
    """Return a tensor as the recorder has it: of its own, or a part of a larger one."""
    fits = not told.size or told.max() < 2**31
    made = torch.tensor(told, dtype=torch.int64 if wide or not fits else torch.int32)
    if view:
        whole = torch.full((*(size + 2 for size in told.shape),), 9, dtype=made.dtype)
        place = tuple(slice(1, 1 + size) for size in told.shape)
        whole[place] = made
        made = whole[place]
    return made


def counted(told: np.ndarray[Any, Any], slots: int) -> Iterator[tuple[int, int, int]]:
    """Yield layer, slot and tokens, zeros left out."""
    for layer, row in enumerate(told.tolist()):
        flat = Counter(slot for token in row for slot in token if slot >= 0) if told.ndim == 3 else None
        yield from ((layer, slot, flat[slot] if flat is not None else row[slot]) for slot in range(slots))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dumps(), st.booleans(), st.booleans(), st.integers(0, 9999))
@example((np.array([[0]]), [(0, 2, np.array([[2**31 - 1]]))] * 2), False, False, 0)  # halves of a pass: 33 bits
def test_each_slot_of_each_pass_comes_back(tmp_path: Path, dump: Any, wide: bool, view: bool, rank: int) -> None:
    experts, records = dump
    layers, slots = experts.shape
    want: Counter[tuple[Any, ...]] = Counter()
    for at, mode, told in records:
        for layer, slot, count in counted(told, slots):
            want[PHASES[mode], at, layer, int(experts[layer, slot]), slot] += count
    busy = {(key[0], key[2]) for key, count in want.items() if count}  # a layer without tokens is dense
    kept = {key: count for key, count in want.items()
            if (key[0], key[2]) in busy or key[0] not in {phase for phase, _ in busy}}  # fmt: skip
    made = []
    for at, mode, told in records:
        held = "topk_ids_of_layer" if told.ndim == 3 else "global_physical_count"
        one = {"forward_pass_id": at, "rank": rank, "forward_mode": mode, held: as_tensor(told, wide, view)}
        made.append({name: value for name, value in one.items() if value is not None})
    path = tmp_path / f"expert_distribution_recorder_1.5_{rank}.pt"
    torch.save({"records": made, "last_physical_to_logical_map": torch.tensor(experts)}, path)
    reading = SglangRecorder().read(path)
    assert (reading.status, reading.error, reading.rank) == ("ok", "", rank)
    rows = [row for name, columns in reading.batches if name == "expert_loads" for row in frame(name, columns)[
        ["phase", "step", "layer", "expert", "slot", "routed_tokens"]].itertuples(index=False, name=None)]  # fmt: skip
    assert sorted(rows) == sorted((*key, count) for key, count in kept.items())
    (places,) = [frame(name, columns) for name, columns in reading.batches if name == "expert_placements"]
    assert places[["layer", "slot", "expert"]].to_numpy().tolist() == [
        [layer, slot, int(experts[layer, slot])] for layer in range(layers) for slot in range(slots)
    ]
    assert set(places["step"]) == {min(at for at, _, _ in records)}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.none() | st.floats(0.01, 1))
def test_a_ring_of_counts_comes_back(
    tmp_path: Path, data: st.DataObject, buffer: int, layers: int, experts: int, rate: float | None
) -> None:
    told = table(data.draw, (buffer, layers, experts), data.draw(st.sampled_from([tokens, sparse])))
    busy_layers = {int(one) for one in np.argwhere(told)[:, 1]} or set(range(layers))
    busy_places = {int(one) for one in np.argwhere(told)[:, 0]} if buffer > 1 else set()
    want = [(step, layer, expert, int(told[step, layer, expert])) for step in range(buffer)
            for layer in range(layers) for expert in range(experts)
            if layer in busy_layers and (step in busy_places or not busy_places)]  # fmt: skip
    path = tmp_path / "expert_distribution_recorder_1.5.pt"
    value: dict[str, Any] = {"rank": 0, "logical_count": as_tensor(told, data.draw(st.booleans()), False)}
    torch.save(value if rate is None else value | {"average_utilization_rate_over_window": rate}, path)
    reading = SglangRecorder().read(path)
    found = {name: frame(name, columns) for name, columns in reading.batches}
    columns = ["step", "layer", "expert", "routed_tokens"]
    assert sorted(found["expert_loads"][columns].itertuples(index=False, name=None)) == want
    assert set(found["expert_loads"]["unordered"]) == {buffer > 1}
    reports = found["balance_reports"]["balance_ratio"].tolist() if "balance_reports" in found else []
    assert reports == ([] if rate is None else [rate])
