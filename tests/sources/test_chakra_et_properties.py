"""What an execution trace holds comes back, in each of its three forms, against an oracle by rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.chakra_et import ChakraEt

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
field, varint = PROTOBUF["field"], PROTOBUF["varint"]

KERNELS = {
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)": ("all_reduce", "ring", "ll"),
    "ncclDevKernel_AllGather_TREE_SIMPLE": ("all_gather", "tree", "simple"), "ncclKernel_Broadcast": ("broadcast",),
}  # fmt: skip
CALLED = {"allreduce": "all_reduce", "_allgather_base": "all_gather", "all_to_allv": "all_to_all", "barrier": "barrier",
          "wait": "", "init": ""}  # fmt: skip
TYPES = ["all_reduce", "reduce", "all_gather", "gather", "scatter", "broadcast", "all_to_all", "reduce_scatter",
         "reduce_scatter", "barrier"]  # fmt: skip
ELEMENTS = {"float": ("float32", 4), "c10::BFloat16": ("bfloat16", 2), "long int": ("int64", 8), "x": ("", 0)}
NAMES = ["aten::mm", "Memcpy HtoD (Pinned -> Device)", "Memset (Device)", 'ü "{[\\ \n', ""]
LARGEST = 2**62
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).filter(lambda text: not text.startswith("#"))
seldom = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
drawn = given(st.integers(1, 12), st.randoms(use_true_random=True), st.none() | st.integers(0, 9999), texts)


@dataclass
class Fact:
    """A node as it is meant; times in ns."""

    name: str
    op: str = ""
    start: int = -1
    length: int = -1
    on_host: bool = True
    stream: int = -1
    group: str = ""
    size: int = -1
    seq: int = -1
    moved: int = -1
    dtype: str = ""
    ends: tuple[int, int] = (-1, -1)


def ops(facts: Iterable[Fact]) -> list[tuple[Any, ...]]:
    """Return the device's work with its times; else the host's, where none holds another."""
    facts = list(facts)
    device = [one for one in facts if not one.on_host]
    timed = [one for one in device or facts if one.start >= 0 and one.length >= 0 and not one.op]
    timed.sort(key=lambda one: (one.start, -one.length))
    kept = [one for at, one in enumerate(timed) if not one.on_host or all(
        before.start + before.length < one.start + one.length for before in timed[:at])]  # fmt: skip
    return [("cpu" if one.on_host else one.name[:6].lower() if one.name[:6] in ("Memcpy", "Memset") else "kernel",
             one.name, max(one.stream, 0), one.start, one.start + one.length) for one in kept]  # fmt: skip


def calls(facts: Iterable[Fact], rank: int) -> list[tuple[Any, ...]]:
    found = [one for one in facts if one.op and not one.on_host] or [one for one in facts if one.op]
    turns: Counter[tuple[str, str]] = Counter()
    rows = []
    for one in found:
        group, kind, seq, peer = one.group, "seq" if one.seq >= 0 else one.op, one.seq, -1
        src = one.ends[0] if one.op != "send" or one.ends[0] >= 0 else rank
        dst = one.ends[1] if one.op != "recv" or one.ends[1] >= 0 else rank
        if one.op in ("send", "recv") and min(src, dst) >= 0:
            group, kind, peer = f"p2p:{src}-{dst}", "p2p", dst if src == rank else src
        if kind != "seq":
            seq, turns[group, kind] = turns[group, kind], turns[group, kind] + 1
        known = min(one.start, one.length) >= 0
        rows.append((group, one.op, kind, seq, peer, one.size, one.dtype, one.moved, one.start,
                     one.start + one.length if known else -1, -1 if known else one.length,
                     "completed" if one.length >= 0 else "", one.stream,
                     *(*KERNELS.get(one.name, ("",)), "", "")[1:3]))  # fmt: skip
    return rows


def members(facts: list[Fact], rank: int, told: dict[str, list[int]], named: str) -> list[tuple[Any, ...]]:
    counted = [one for one in facts if one.op and not one.on_host] or [one for one in facts if one.op]
    used = {one.group for one in counted if one.group}
    rows = [(name, one, len(ranks), named) for name, ranks in told.items() if name in used for one in ranks]
    return rows or [(name, rank, -1, named if name in told else "") for name in used if rank >= 0]


def compare(path: Path, facts: list[Fact], rank: int, told: dict[str, list[int]], named: str = "") -> None:
    want = {"ops": ops(facts), "collectives": calls(facts, rank)}
    if not want["ops"] and not want["collectives"]:
        with pytest.raises(Unreadable):
            ChakraEt().read(path)
        return
    want["groups"] = members(facts, rank, told, named)
    reading = ChakraEt().read(path)
    assert (reading.status, reading.rank, reading.events) == ("ok", rank, len(facts))
    assert ChakraEt().sniff(path.read_bytes()[:65536], path.name) >= 0.3
    found = {name: frame(name, columns) for name, columns in reading.batches}
    columns = {
        "ops": ["op", "name", "stream", "start_ns", "end_ns"],
        "collectives": ["group", "op", "op_class", "seq", "peer", "group_size", "dtype", "message_bytes", "ready_ns",
                        "end_ns", "duration_ns", "state", "stream", "algo", "proto"],
        "groups": ["group", "rank", "group_size", "description"],
    }  # fmt: skip
    for name, rows in want.items():
        got = found[name][columns[name]].itertuples(index=False, name=None) if name in found else []
        assert sorted(got) == sorted(rows), name


def attribute(name: str, value: int | str | bool, form: int) -> bytes:
    """Return an AttributeProto; integers may be int32, int64, uint64, sint64, fixed32, fixed64, sfixed64."""
    if isinstance(value, bool | str):
        held = field(27, value) if isinstance(value, bool) else field(29, value)
    elif form in (7, 9, 13):
        held = field(form, value)
    elif form == 17:
        held = field(17, value << 1 ^ (value >> 63))
    else:
        width = 4 if form == 19 and 0 <= value < 2**32 else 8
        held = (
            varint((19 if width == 4 else 25) << 3 | (5 if width == 4 else 1))
            + (value % 2**64).to_bytes(8, "little")[:width]
        )
    return field(10, field(1, name) + field(2, "about") + held)


@seldom
@drawn
def test_protocol_buffers(tmp_path: Path, rows: int, chance: Random, rank: int | None, text: str) -> None:
    """A field that is 0 is not written, as proto3 has it: who began but has no duration took less than 1 us."""
    content, facts, one = [field(1, "0.0.4")], [], chance.choice
    for number in range(rows):
        kind, start, length = one([1, 4, 4, 5, 6, 7, 7]), one([0, 1, 7, 7, LARGEST // 1000 - 9]), one([0, 5, 5, 2**40])
        name = one([*KERNELS, *NAMES, text])
        told: dict[str, Any] = {"is_cpu_op": one([True, False]), "pg_name": one(["dp", text]), "comm_size": one(
            [0, 1, LARGEST - 1, LARGEST, -1]), "comm_type": one([*range(10), 10]), "comm_src": one([-1, 0, rank or 0]),
            "comm_dst": one([-1, 0, 9]), "stream": one([7, 2**31 - 1])}  # fmt: skip
        told = {key: value for key, value in told.items() if chance.random() < 0.7}
        node = field(1, number) + field(2, name) + field(3, kind)
        node += b"".join(field(at, value) for at, value in ((6, start), (7, length)) if value)
        forms = [attribute(key, value, one([7, 9, 13, 17, 19, 25])) for key, value in told.items()]
        node += b"".join([*forms, field(10, field(1, "lists") + field(10, field(1, b"\1\2")))])
        content.append(node)
        by_type = TYPES[told["comm_type"]] if told.get("comm_type", 10) < 10 else KERNELS.get(name, ("other",))[0]
        facts.append(Fact(
            name, {5: "send", 6: "recv", 7: by_type}.get(kind, ""), start * 1000 or -1,
            length * 1000 if start or length else -1, told.get("is_cpu_op", False), told.get("stream", -1),
            told.get("pg_name", ""), moved=told.get("comm_size", -1) if told.get("comm_size", -1) < LARGEST else -1,
            ends=(told.get("comm_src", -1), told.get("comm_dst", -1)),
        ))  # fmt: skip
    path = tmp_path / ("trace.et" if rank is None else f"job.{rank}.et")
    path.write_bytes(b"".join(varint(len(one)) + one for one in content))
    compare(path, facts, -1 if rank is None else rank, {})


@seldom
@drawn
def test_nodes_of_chakra(tmp_path: Path, rows: int, chance: Random, rank: int | None, text: str) -> None:
    made, facts, one = [], [], chance.choice
    for number in range(rows):
        kind, name, length = one([4, 5, 6, 7, 7]), one([*KERNELS, *NAMES, text]), one([None, 0, 7, 0.125, 2**51])
        node = {"Id": number, "Name": name, "NodeType": kind, "data_deps": [], "is_cpu_op": one([True, False])}
        told = {"runtime": length, "comm_size": one([None, 0, LARGEST - 1]), "pg_name": one([None, "dp", text])}
        made.append(node | {key: value for key, value in told.items() if value is not None})
        op = {5: "send", 6: "recv", 7: KERNELS.get(name, ("other",))[0]}.get(kind, "")
        length = -1 if length is None else int(length * 1000)
        facts.append(Fact(name, op, -1, length, node["is_cpu_op"], group=told["pg_name"] or "",
                          moved=-1 if told["comm_size"] is None else told["comm_size"]))  # fmt: skip
    path = tmp_path / ("trace.json" if rank is None else f"chakra.{rank}.json")
    path.write_text(json.dumps({"workload_graph": made}, ensure_ascii=chance.random() < 0.5))
    compare(path, facts, -1 if rank is None else rank, {})


def recorded(chance: Random, told: dict[str, list[int]], ids: dict[str, int]) -> tuple[dict[str, Any], Fact]:
    """Return a call of a process group as PyTorch's observer writes it, and what it means."""
    one = chance.choice
    called, kind, group, seq = one([*CALLED]), one([*ELEMENTS]), one([*ids]), one([0, 5, LARGEST - 1])
    dtype, width = ELEMENTS[kind]
    shapes = [[one([0, 1, 7, 2**20]) for _ in range(one([0, 1, 2]))] for _ in range(one([1, 1, 2]))]
    size, rank = one([1, len(told[group])]), one([0, 3])
    values = [[[14, 15, 0, 1, 4, "cuda:0"]], seq, one([ids[group], [str(ids[group]), "x"]]), rank, called, [], [], size]
    types = [f"GenericList[{','.join([f'Tensor({kind})'] * len(shapes))}]", "Int", "Int", "Int", "String"]
    node = {"values": values, "shapes": [shapes, [], [], [], []], "types": types}
    fact = Fact("record_param_comms", CALLED[called])
    if fact.op:
        fact.group, fact.size, fact.seq, fact.ends = group, size, seq, (rank, -1)
        fact.moved, fact.dtype = (sum(map(prod, shapes)) * width if width else -1), dtype
    return node, fact


@seldom
@drawn
def test_nodes_of_pytorchs_observer(tmp_path: Path, rows: int, chance: Random, rank: int | None, text: str) -> None:
    """Calls have no times unless a Kineto trace was linked; the group's own number is translated by its creation."""
    one = chance.choice
    told, ids = {"0": [0, 1], f"g{text}": [0, 3, 7]}, {"0": 82149104, f"g{text}": 5}
    listed = [{"pg_name": name, "pg_desc": text, "backend_id": ids[name], "ranks": one([ranks, {
        str(member): turn for turn, member in enumerate(ranks)}]) if name != "0" else [], "group_size": len(ranks)}
        for name, ranks in told.items()]  # fmt: skip
    empty = {"values": [], "shapes": [], "types": []}
    made: list[dict[str, Any]] = [
        {"name": "## process_group:init ##", "inputs": empty | {"values": [json.dumps(listed)]}}
    ]
    facts, linked, device = [Fact("## process_group:init ##")], chance.random() < 0.8, one([True, False])
    for _ in range(rows):
        inputs, fact = recorded(chance, told, ids) if chance.random() < 0.5 else (empty, Fact(one([*NAMES, *KERNELS])))
        node = {"name": fact.name, "inputs": inputs, "ctrl_deps": 2, "attrs": [
            {"name": "rf_id", "type": "uint64", "value": 19}]}  # fmt: skip
        if linked:
            start, length = one([0, 1, 7.25, 1_790_857_026_000_000.25, 2**51]), one([0, 1.001, 30.5, 99])
            fact.start, fact.length = (round(Fraction(time) * 1000) for time in (start, length))
            fact.on_host = not device or fact.name == "record_param_comms" or one([False, True])
            fact.stream = one([-1, 7])
            fact.op = fact.op or ("" if fact.on_host else KERNELS.get(fact.name, ("",))[0])
            node |= {"ts": start, one(["dur", "inclusive_dur"]): length, "cat": "cpu_op" if fact.on_host else one(
                ["kernel", "gpu_memcpy", "gpu_memset"])} | ({"stream": 7} if fact.stream == 7 else {})  # fmt: skip
        made.append(node)
        facts.append(fact)
    made = [{"id": number, "outputs": empty, **node} for number, node in enumerate(made)]
    path = tmp_path / ("trace.json" if rank is None else f"trace_rank{rank}.json")
    path.write_text(json.dumps({"schema": "1.0.2-chakra.0.0.4", "pid": 7, "nodes": made}))
    counted = max((one for one in facts if one.size >= 0), key=lambda one: one.size, default=Fact(""))
    own = counted.ends[0] if counted.op else -1 if rank is None else rank
    compare(path, facts, own, told, text)
