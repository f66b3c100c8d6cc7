"""Collectives in the names and texts of HLO: what they are, who takes part, and how many bytes they move."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

OPS = {
    "all-reduce": "all_reduce", "all-gather": "all_gather", "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all", "ragged-all-to-all": "all_to_all", "collective-permute": "send_recv",
    "collective-broadcast": "broadcast", "send": "send", "recv": "recv",
}  # fmt: skip
# all-reduce.12, all-gather-start.3, all-reduce-scatter.1 (a fused form of TPUs), send-done
NAME = re.compile(
    r"%?(?P<op>ragged-all-to-all|all-reduce-scatter|all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    r"|collective-broadcast|send|recv)(?:-(?P<part>start|done))?(?P<number>(?:\.\d+)*)$"
)
LISTED = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})\}")
IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=")
SHAPE = re.compile(r"(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
BITS = re.compile(r"[a-z]+(\d{1,4})")
TIMES = {"all_gather": -1, "reduce_scatter": 1}  # input is output over, or times, the members
LARGEST = 2**62
LONGEST_TEXT = 1 << 16


class Payload(NamedTuple):
    """What is known of one collective: `op` "" for none, `group` names its members, -1 unknown."""

    op: str = ""
    group: str = ""
    size: int = -1
    message_bytes: int = -1


@lru_cache(1 << 14)
def collective(name: str) -> tuple[str, str, str]:
    """Return collective, part (start, done or "") and number in the name of an HLO operation; ("", "", "") for others.

    >>> collective("all-reduce-start.3"), collective("all-gather.12"), collective("fusion.7")
    (('all_reduce', 'start', '.3'), ('all_gather', '', '.12'), ('', '', ''))
    """
    found = NAME.match(name)
    if found is None:
        return "", "", ""
    op = "reduce_scatter" if found["op"] == "all-reduce-scatter" else OPS[found["op"]]
    return op, found["part"] or "", found["number"]


def payload(name: str, told: dict[str, Any] | None) -> Payload:
    """Return what is known of an event: by its own name, or by that of the HLO operation which launched the kernel."""
    arguments = told or {}
    op = collective(name)[0]
    text = ""
    for key in ("hlo_op", "long_name", "tf_op"):
        value = str(arguments.get(key, ""))[:LONGEST_TEXT]
        op = op or (collective(value)[0] if key == "hlo_op" and _of_nccl(name) else "")
        text = text or (value if key == "long_name" else "")
    return _described(op, text) if op else Payload()


def _of_nccl(name: str) -> bool:
    return "nccl" in name.lower() or "rccl" in name.lower()


@lru_cache(1 << 12)
def _described(op: str, text: str) -> Payload:
    """Return the payload of a collective whose HLO text is known, such as `%x = f32[8] all-reduce(...)`."""
    group, size = _members(text)
    moved = _bytes(text.partition("(")[0] if "= (" not in text else text.split(") ", 1)[0])
    if op in TIMES and moved >= 0:
        moved = -1 if size < 1 else moved // size if TIMES[op] < 0 else moved * size
    return Payload(op, group, size, moved if moved < LARGEST else -1)


def _members(text: str) -> tuple[str, int]:
    """Return the name of a group and its size; several groups of one collective are told apart by nobody here."""
    if found := IOTA.search(text):
        count, size = int(found[1][:9]), int(found[2][:9])
        return ("all" if count == 1 else "", size)
    if found := LISTED.search(text):
        parts = [part.strip("{} ,") for part in found[1].split("},")]
        size = len([one for one in parts[0].split(",") if one.strip()])
        return ("all" if len(parts) == 1 else "", size or -1)
    return "", -1


def _bytes(text: str) -> int:
    """Return the bytes of the shapes in a text, -1 where there is none."""
    found = SHAPE.findall(text)
    if not found:
        return -1
    total = 0
    for kind, dims in found:
        bits = 8 if kind == "pred" else int(match[1]) if (match := BITS.match(kind)) else 0
        total += prod(min(int(one[:18]), LARGEST) for one in dims.split(",") if one) * bits // 8
    return int(total)
