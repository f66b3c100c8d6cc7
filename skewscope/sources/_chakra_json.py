"""JSON forms of execution traces: PyTorch's observer (`schema`, `nodes`) and Chakra's nodes (`workload_graph`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import prod
from typing import Any

import msgspec

from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._chakra_nodes import Node, Trace, collective
from ._cut_json import mended
from ._kineto_names import element, operation

SCHEMA = re.compile(rb'"schema"\s*:\s*"\d+\.\d+\.\d+(?:-chakra\.[\d.]+)?"')
RECORDED = "record_param_comms"
NO_WORK = ("wait", "init", "")
COLLECTIVE, SEND, RECEIVE = 7, 5, 6  # Chakra's et_def.proto, NodeType
NS = 1000  # per microsecond
LARGEST_US = 2**52
TENSOR = re.compile(r"Tensor\(([^)]*)\)")


class Values(msgspec.Struct, gc=False):
    """Inputs or outputs of a node: values, shapes and types in one order."""

    values: Any = []
    shapes: Any = []
    types: Any = []


class Attribute(msgspec.Struct, gc=False):
    """A named value of a node."""

    name: str = ""
    value: Any = None


class Observed(msgspec.Struct, gc=False):
    """A node of PyTorch's observer, with the times that linking adds (us)."""

    name: str = ""
    inputs: Values | None = None
    attrs: list[Attribute] | None = None
    ts: Any = None
    dur: Any = None
    inclusive_dur: Any = None
    cat: Any = None
    stream: Any = None


class Linked(msgspec.Struct, gc=False):
    """A node of Chakra's own JSON; `runtime` is in us."""

    name: str = msgspec.field(default="", name="Name")
    kind: int = msgspec.field(default=-1, name="NodeType")
    runtime: Any = None
    is_cpu_op: bool = True
    comm_size: Any = None
    comm_type: Any = None
    pg_name: Any = None


class File(msgspec.Struct, gc=False):
    """Either form of the whole file."""

    schema: str = ""
    nodes: list[msgspec.Raw] = []
    workload_graph: list[msgspec.Raw] = []


FILE = msgspec.json.Decoder(File, strict=False).decode
OBSERVED = msgspec.json.Decoder(Observed, strict=False).decode
LINKED = msgspec.json.Decoder(Linked, strict=False).decode


def surety(head: bytes) -> float:
    """Return 0..1: how surely `head` begins one of the two forms."""
    if b'"workload_graph"' in head[:4096]:
        return 0.95
    return 0.96 if SCHEMA.search(head[:4096]) and b'"nodes"' in head else 0.0


def trace(content: bytes, damage: str) -> Trace:
    """Return the nodes of a file. Raises Unreadable where it is no JSON even after closing what is cut."""
    try:
        file = FILE(content)
    except (msgspec.DecodeError, RecursionError) as error:
        damage = damage or f"the JSON is cut or damaged ({str(error)[:100]})"
        try:
            file = FILE(mended(content))
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable(damage, COPY_AGAIN) from None
    found = Trace(damage=damage)
    if file.workload_graph:
        found.nodes = [_linked(node) for node in _decoded(file.workload_graph, LINKED)]
        return found
    backends: dict[str, str] = {}
    for node in _decoded(file.nodes, OBSERVED):
        if node.name.startswith("## process_group:init"):
            _add_groups(found, node, backends)
        found.nodes.append(_observed(found, node, backends))
    return found


def _decoded(raws: Iterable[msgspec.Raw], decode: Any) -> Iterable[Any]:  # noqa: ANN401 - either decoder
    for raw in raws:
        try:
            yield decode(raw)
        except (msgspec.DecodeError, RecursionError):
            continue


def _linked(node: Linked) -> Node:
    is_call = node.kind in (COLLECTIVE, SEND, RECEIVE)
    op = {SEND: "send", RECEIVE: "recv"}.get(node.kind) or operation(node.name)
    return Node(
        node.name, op if is_call else "", duration_ns=_ns(node.runtime), on_host=node.is_cpu_op,
        message_bytes=_integer(node.comm_size), group=str(node.pg_name or ""),
    )  # fmt: skip


def _observed(found: Trace, node: Observed, backends: dict[str, str]) -> Node:
    length = node.inclusive_dur if node.inclusive_dur is not None else node.dur
    made = Node(
        node.name, start_ns=_ns(node.ts), duration_ns=_ns(length), stream=_integer(node.stream),
        on_host=str(node.cat or "") not in ("kernel", "gpu_memcpy", "gpu_memset"),
    )  # fmt: skip
    if not made.on_host and collective(node.name):
        made.op = operation(node.name)
    elif node.name == RECORDED:
        _record(found, made, node, backends)
    return made


def _record(found: Trace, made: Node, node: Observed, backends: dict[str, str]) -> None:
    """Fill a call of a process group: inputs are tensors, seq, group, rank, name, splits, and the group's size."""
    if node.inputs is None:
        return
    values = node.inputs.values if isinstance(node.inputs.values, list) else []
    at = next((place for place, value in enumerate(values) if isinstance(value, str)), -1)
    told = {one.name: one.value for one in node.attrs or ()}
    name = str(told.get("collective_name") or (values[at] if at >= 0 else ""))
    op = operation(name)
    if at < 3 or name in NO_WORK or op == "other":
        return
    made.op = op
    group = values[at - 2]
    whole = group[0] if isinstance(group, list) and group else group
    made.group = str(told.get("pg_name") or backends.get(str(whole), whole))
    made.seq = _integer(values[at - 3])
    made.group_size = _integer(values[-1])
    rank = _integer(values[at - 1])
    if made.group_size > found.world_size:  # a rank counts within its group: that of the largest is the job's
        found.world_size, found.rank = made.group_size, rank
    made.message_bytes, made.dtype = _message(node.inputs, told)


def _message(inputs: Values, told: dict[str, Any]) -> tuple[int, str]:
    """Return bytes and element type of the input tensors, (-1, "") where they are not told."""
    if (count := _integer(told.get("in_msg_nelems"))) >= 0 and told.get("dtype"):
        dtype, size = element(str(told["dtype"]))
        return (count * size if size else -1), dtype
    types = [str(one) for one in inputs.types] if isinstance(inputs.types, list) else []
    shapes = inputs.shapes if isinstance(inputs.shapes, list) else []
    moved, dtype = 0, ""
    for text, shape in zip(types, shapes, strict=False):
        hit = TENSOR.search(text)
        dtype, size = element(hit[1]) if hit else ("", 0)
        if size:
            moved += sum(prod(one) for one in _leaves(shape)) * size
            break
    return (moved if dtype else -1), dtype


def _leaves(shape: object) -> Iterable[list[int]]:
    """Yield the shapes in a nested list of shapes."""
    if not isinstance(shape, list):
        return
    if all(isinstance(one, int) for one in shape):
        yield shape
    else:
        for one in shape:
            yield from _leaves(one)


def _add_groups(found: Trace, node: Observed, backends: dict[str, str]) -> None:
    """Note the process groups that the job made: a list of them as JSON text in the node's first input."""
    values = node.inputs.values if node.inputs else None
    try:
        told = json.loads(values[0]) if isinstance(values, list) and values and isinstance(values[0], str) else []
    except (ValueError, RecursionError):
        return
    for one in told if isinstance(told, list) else ():
        if not isinstance(one, dict):
            continue
        name, size = str(one.get("pg_name", "")), _integer(one.get("group_size"))
        ranks = one.get("ranks")
        ranks = list(ranks) if isinstance(ranks, list | dict) else []
        members = tuple(_integer(rank) for rank in ranks) or tuple(range(min(max(size, 0), 1 << 16)))
        if members and min(members) >= 0:
            found.groups[name] = members
        found.descriptions[name] = str(one.get("pg_desc", ""))
        for key in ("uid", "backend_id"):
            if key in one:
                backends[str(one[key])] = name


def _ns(microseconds: object) -> int:
    """Return microseconds as ns, -1 for what is no time."""
    if isinstance(microseconds, bool) or not isinstance(microseconds, int | float):
        return -1
    if not 0 <= microseconds < LARGEST_US:
        return -1
    whole = int(microseconds)  # a time of day in ns has more digits than a float
    return whole * NS + round((microseconds - whole) * NS)


def _integer(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 2**62 else -1
