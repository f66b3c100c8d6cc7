"""Chakra's .et files: a GlobalMetadata, then Nodes, each message behind its length as a varint.

Source: mlcommons/chakra schema/protobuf/et_def.proto (0.0.4); field numbers are facts of that format.
"""

from __future__ import annotations

from ..errors import Unreadable
from . import _protobuf_wire as wire
from ._bytes import COPY_AGAIN
from ._chakra_nodes import Node, Trace, collective
from ._kineto_names import operation

SEND, RECEIVE, COLLECTIVE = 5, 6, 7
COLLECTIVES = ("all_reduce", "reduce", "all_gather", "gather", "scatter", "broadcast", "all_to_all", "reduce_scatter",
               "reduce_scatter", "barrier")  # fmt: skip
# Of AttributeProto: plain integers (int32, int64, uint32, uint64, bool), zigzag ones, and fixed ones.
PLAIN, ZIGZAG, FIXED, TEXT = (7, 9, 11, 13, 27), (15, 17), (19, 21, 23, 25), 29
NS = 1000  # per microsecond
LARGEST = 2**62
LONGEST = 1 << 26


def surety(head: bytes) -> float:
    """Return 0..1: how surely `head` begins such a file: metadata with a version, then a node with id and name."""
    try:
        size, at = wire.varint(head, 0)
        if not size or at + size >= len(head):
            return 0.0
        version = dict(wire.fields(head[at : at + size])).get(1)
        at += size
        size, at = wire.varint(head, at)
        first = head[at : at + size]
        numbers = {number: value for number, value in wire.fields(first)} if at + size <= len(head) else {}
    except ValueError:
        return 0.0
    plausible = isinstance(version, bytes) and b"." in version and len(version) < 32 and version.isascii()
    known = set(numbers) <= set(range(1, 11))
    if not (known and isinstance(numbers.get(2), bytes) and isinstance(numbers.get(3, 0), int)):
        return 0.0
    return 0.9 if plausible else 0.3 if not version else 0.0


def trace(content: bytes, damage: str) -> Trace:
    """Return the nodes of a file; a cut end is told in the trace. Raises Unreadable where nothing can be read."""
    found = Trace(damage=damage)
    at = turn = 0
    try:
        while at < len(content):
            size, at = wire.varint(content, at)
            if size > LONGEST or at + size > len(content):
                raise ValueError("a node is cut")
            message = content[at : at + size]
            at += size
            if turn:
                found.nodes.append(_node(message))
            turn += 1
    except ValueError as error:
        found.damage = damage or f"damaged after {len(found.nodes)} nodes ({error})"
    if not found.nodes:
        raise Unreadable(found.damage or "no node behind the metadata", COPY_AGAIN)
    return found


def _node(message: bytes) -> Node:
    name, kind, start, length = "", 0, -1, -1
    told: dict[str, int | str] = {}
    for number, value in wire.fields(message):
        if number == 2:
            name = wire.text(value)
        elif number == 3:
            kind = wire.signed(value)
        elif number == 6:
            start = wire.signed(value)
        elif number == 7:
            length = wire.signed(value)
        elif number == 10 and isinstance(value, bytes):
            told.update(_attribute(value))
    if start > 0 and length == -1:
        length = 0  # less than a microsecond: a 0 is not written
    made = Node(
        name, start_ns=start * NS if 0 < start < LARGEST // NS else -1,
        duration_ns=length * NS if 0 <= length < LARGEST // NS else -1, on_host=bool(told.get("is_cpu_op", False)),
        group=str(told.get("pg_name", "")), message_bytes=_number(told, "comm_size"),
        src=_number(told, "comm_src"), dst=_number(told, "comm_dst"), stream=_number(told, "stream"),
    )  # fmt: skip
    made.op = _operation(kind, name, told)
    return made


def _operation(kind: int, name: str, told: dict[str, int | str]) -> str:
    if kind in (SEND, RECEIVE):
        return "send" if kind == SEND else "recv"
    if kind != COLLECTIVE:
        return ""
    by_name = operation(name) if collective(name) else "other"
    number = _number(told, "comm_type")
    return COLLECTIVES[number] if 0 <= number < len(COLLECTIVES) else by_name


def _attribute(message: bytes) -> dict[str, int | str]:
    """Return name and value of an attribute; lists and floats are left out."""
    name = ""
    found: int | str | None = None
    for number, value in wire.fields(message):
        if number == 1:
            name = wire.text(value)
        elif number == TEXT:
            found = wire.text(value)
        elif number in PLAIN and isinstance(value, int):
            found = wire.signed(value)
        elif number in ZIGZAG and isinstance(value, int):
            found = (value >> 1) ^ -(value & 1)
        elif number in FIXED and isinstance(value, bytes):
            found = int.from_bytes(value, "little")
    return {name: found} if found is not None else {}


def _number(told: dict[str, int | str], name: str) -> int:
    value = told.get(name, -1)
    return value if isinstance(value, int) and -1 <= value < LARGEST else -1
