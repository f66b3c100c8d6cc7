"""Dumps whose entries are told apart by their bytes hold what the general way of reading finds in them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from skewscope.contracts import Coded
from skewscope.errors import Unreadable
from skewscope.sources import _flight_scan, flight_recorder
from skewscope.sources._flight_form import Forms
from skewscope.sources._flight_rows import collectives, groups

DATA = Path(__file__).parents[2] / "../shared/data"
FRAMES = [
    {"name": name, "filename": f"/srv/job/{name}.py", "line": line} for name, line in (("loss", 7), ("main", 300))
]
GROUPS = (("0", "default_pg"), ("7", "mesh_tp"))


def entry(number: int, count: int) -> dict[str, Any]:
    world = number % 5 == 4
    sizes = [[64, 70_000]] if world else [[300], [number % 3]]
    return {
        "frames": FRAMES[:], "record_id": number, "pg_id": int(not world), "process_group": GROUPS[not world],
        "collective_seq_id": number * 40, "p2p_seq_id": 0, "profiling_name": "nccl:all_reduce",
        "time_created_ns": 1_700_000_000_000_000_000 + number * 10**6, "input_sizes": sizes,
        "input_dtypes": ["Float", "Half"], "output_sizes": sizes, "output_dtypes": ["Float"],
        "state": "completed" if number < count - 2 else "started", "time_discovered_started_ns": 10**9 + number,
        "time_discovered_completed_ns": 2**40 + number if number < count - 2 else None, "retired": number < count - 2,
        "timeout_ms": 600_000, "is_p2p": False, "duration_ms": number / 8 if number % 2 else None,
    }  # fmt: skip


def dump(count: int = 300, protocol: int = 2, change: Any = None, **after: Any) -> bytes:
    """Return a pickled dump; `change(entry)` alters each entry."""
    entries = [entry(number, count) for number in range(count)]
    for one in entries:
        if change is not None:
            change(one)
    config = {name: {"name": name, "desc": text, "ranks": "[0, 3]"} for name, text in GROUPS}
    return pickle.dumps({"version": "2.10", "pg_config": config, "entries": entries, **after}, protocol)


def plain(value: Any) -> Any:
    if isinstance(value, Coded):
        return np.asarray(value.codes).tolist(), list(value.values)
    return value.tolist() if isinstance(value, np.ndarray) else value


def tables(read: Any) -> Any:
    """Return all columns that `read()` leads to, or the error it ends with."""
    try:
        found = read()
        members = {group.name: group.members for group in found.configured.values()}
        both = collectives(found.calls, 3, members), groups(found.calls, 3, found.configured)
    except (Unreadable, OverflowError) as error:
        return str(error)
    return found.lost, [{name: plain(value) for name, value in one.items()} for one in both]


def told_apart(content: bytes, known: Forms | None = None) -> Any:
    """Return what comes of reading one entry of each kind, None where that is not possible."""
    thin = _flight_scan.thinned(content, known or Forms())
    found = flight_recorder._by_kind(thin) if thin is not None else None
    return None if found is None else tables(lambda: found)


def in_general(content: bytes) -> Any:
    return tables(lambda: flight_recorder._unpickled(content))


def p2p(one: dict[str, Any]) -> None:
    if one["record_id"] % 3 == 0:
        one.update(is_p2p=True, profiling_name=f"nccl:send 0->{one['record_id'] % 2}")


def older(one: dict[str, Any]) -> None:
    one["seq_id"] = -one.pop("collective_seq_id")
    del one["time_discovered_started_ns"], one["frames"], one["retired"]


SOUND = {
    "plain": dump(),
    "two batches": dump(1500), "one more": dump(1001), "p2p": dump(change=p2p), "older": dump(change=older),
    "more after": dump(nccl_comm_state={"0": {"version": 3, "ranks": [0, 3]}}),
    "shared sizes": dump(change=lambda one, sizes=[[5, 5]]: one.update(input_sizes=sizes)),
    "negative": dump(change=lambda one: one.update(record_id=-one["record_id"], time_created_ns=-5)),
    "whole milliseconds": dump(change=lambda one: one.update(duration_ms=one["record_id"])),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_entries_told_apart_are_what_the_general_way_finds(name: str) -> None:
    found = told_apart(SOUND[name])
    assert found is not None
    assert found == in_general(SOUND[name])


def test_few_of_many_entries_are_unpickled() -> None:
    thin = _flight_scan.thinned(dump(2000), Forms())
    assert thin is not None and len(thin.kind) == 2000
    assert len(pickle.loads(thin.content)["entries"]) == thin.count < 80


def test_the_forms_of_another_dump_are_known_but_not_what_its_names_meant() -> None:
    known, names = Forms(), (b"collective_seq_id", b"collective_new_id")
    first = dump(change=lambda one: one.update(collective_new_id=one["collective_seq_id"] + 1))
    swapped = first.replace(names[0], b"@" * 17).replace(names[1], names[0]).replace(b"@" * 17, names[1])
    for content in (first, dump(500), swapped, first):
        found = told_apart(content, known)
        assert found is not None
        assert found == in_general(content)


@pytest.mark.parametrize("job", ["real-jobs/hang/nccl_trace_rank_0", "local-flight-recorder/ok/gloo-raw/ok_trace_1"])
def test_dumps_that_torch_wrote_are_told_apart(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / job).exists():
        pytest.skip("no shared data")
    monkeypatch.setattr(_flight_scan, "ENTRIES_PER_FORM", 2)  # they are short
    content = (DATA / job).read_bytes()
    assert told_apart(content) == in_general(content)


def twice(content: bytes) -> bytes:
    """Return the dump with a place in the memo that two entries fill."""
    one, other = [found.start() for found in re.finditer(rb"}r(?=..\0\0\()", content, re.DOTALL)][8:10]
    return content[:other] + content[one : one + 6] + content[other + 6 :]


STRANGE = {
    "short": dump(20), "no entries": dump(0), "protocol 4": dump(protocol=4), "protocol 5": dump(protocol=5),
    "time as text": dump(change=lambda one: one.update(time_created_ns="5")),
    "time as fraction": dump(change=lambda one: one.update(time_created_ns=5.0)),
    "no time": dump(change=lambda one: one.update(time_created_ns=None)),
    "beyond 64 bits": dump(change=lambda one: one.update(record_id=2**70)),
    "every entry another": dump(change=lambda one: one.update(thread_name="x" * one["record_id"])),
    "named twice": dump().replace(b"p2p_seq_id", b"timeout_ms"),
    "filled twice": twice(dump()), "cut": dump()[:-3000], "no dump": pickle.dumps([1, 2], 2),
    "last entry goes on": dump()[:-3] + b"u(X\x09\x00\x00\x00record_idK\x07ueu.",
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_written_otherwise_goes_the_general_way(name: str) -> None:
    content = STRANGE[name]
    assert told_apart(content) is None
    assert tables(lambda: flight_recorder._pickled(content, Forms())) == in_general(content)


def test_damage_is_found_as_in_general(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flight_scan, "ENTRIES_PER_FORM", 1)
    whole, chance, known, judged = dump(70), Random(3), Forms(), 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(content) // 3, len(content))
            content[at] = chance.choice([content[at] ^ 1, chance.randrange(256)])
        found = told_apart(bytes(content), known)
        if found is not None:
            judged += 1
            assert found == in_general(bytes(content))
    assert judged > 40
