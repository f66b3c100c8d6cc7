"""The text of NCCL's example profiler plugin to calls: one event a line, valid JSON or nearly so."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ._nccl_names import operation
from ._plugin_call import Call

BARE = re.compile(rb"(:\s*)(0x[0-9a-fA-F]+|nccl\w+|nil|\(nil\)|-?nan|-?inf)(?=\s*[,}])")
CALLS = ("COLL", "P2P")
CHILDREN = ("GPU", "PROXY", "NET")


class _Event(msgspec.Struct, gc=False):
    name: str = ""
    cat: str = ""
    ph: str = ""
    id: int = -1
    ts: float = 0.0
    args: dict[str, Any] = {}


def calls(content: bytes) -> tuple[list[Call], int]:
    """Return the calls in the text, and how many lines do not parse. Children stand between begin and end of theirs."""
    decoder = msgspec.json.Decoder(_Event)
    found: list[Call] = []
    bad = 0
    current: Call | None = None
    for text in content.splitlines():
        line = text.strip().rstrip(b",")
        if line in (b"", b"[", b"]", b"{}"):
            continue
        try:
            event = decoder.decode(BARE.sub(rb'\1"\2"', line.lstrip(b"[").rstrip(b"]")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad += 1
            continue
        if event.cat in CALLS and event.ph == "b":
            current = _call(event)
            found.append(current)
        elif event.cat in CALLS and event.ph == "e":
            current = None
        elif current is not None and event.cat in CHILDREN:
            current.child(*((event.ts, 0.0) if event.ph == "b" else (0.0, event.ts)))
    return found, bad


def _call(event: _Event) -> Call:
    told = event.args
    number = {name: int(told[name]) for name in ("Rank", "Peer", "Count", "SeqNum") if isinstance(told.get(name), int)}
    return Call(
        group=str(told.get("CommHash", "?")), group_size=-1, rank=number.get("Rank", -1), op=operation(event.name),
        seq=number.get("SeqNum", -1), count=number.get("Count", 0), dtype=str(told.get("Datatype", "")),
        algo=str(told.get("Algorithm", "")), proto=str(told.get("Protocol", "")),
        peer=number.get("Peer", -1) if event.cat == "P2P" else -1, ready_us=event.ts,
    )  # fmt: skip
