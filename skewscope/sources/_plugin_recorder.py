"""JSON lines of a recorder of NCCL profiler callbacks (v5) to calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ._nccl_names import operation
from ._plugin_call import Call

CALLS = ("ncclProfileColl", "ncclProfileP2p")
CHILDREN = ("ncclProfileKernelCh", "ncclProfileProxyOp", "ncclProfileProxyStep")


class _Moment(msgspec.Struct, gc=False, frozen=True):
    ts: float = 0.0


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    recordType: str = ""
    commId: int | str = ""
    gpuUuid: str = ""
    rank: int = -1
    start: _Moment = _Moment()
    stop: _Moment = _Moment()
    parentObj: str = ""
    eventAddr: str = ""
    extCorrId: int = -1
    details: dict[str, Any] = {}


def calls(content: bytes) -> tuple[list[Call], int]:
    """Return the calls in a recorder file, and how many lines do not parse."""
    decoder = msgspec.json.Decoder(_Line, strict=False)
    lines: list[_Line] = []
    bad = 0
    for text in content.splitlines():
        try:
            if text.strip():
                lines.append(decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad += 1
    return _calls(lines), bad


def _calls(lines: Sequence[_Line]) -> list[Call]:
    sizes = {str(line.commId): _number(line, "nranks") for line in lines if "nranks" in line.details}
    kernels = {line.extCorrId: line for line in lines if line.recordType == "cuptiActivity" and line.type == "KERNEL"}
    found: list[Call] = []
    # Addresses of events are used again by later events, so a child belongs to the last call at its parent's address.
    at: dict[str, Call] = {}
    launch: dict[str, int] = {}
    for line in sorted(lines, key=lambda line: line.start.ts):
        if line.type == "ncclProfileKernelLaunch":
            launch[line.gpuUuid] = line.extCorrId
        elif line.type in CALLS:
            kernel = kernels.get(launch.get(line.gpuUuid, -1))
            found.append(_call(line, sizes.get(str(line.commId), -1), kernel))
            at.pop(line.eventAddr, None)
            if kernel is None:  # else channels add nothing: the plugin notices them late
                at[line.eventAddr] = found[-1]
        elif line.type in CHILDREN and line.parentObj in at:
            at[line.parentObj].child(line.start.ts, line.stop.ts)
    return found


def _call(line: _Line, size: int, kernel: _Line | None) -> Call:
    told = line.details
    call = Call(
        group=str(line.commId), group_size=size, rank=line.rank, op=operation(str(told.get("func", ""))),
        seq=_number(line, "seq"), count=max(_number(line, "count"), 0), dtype=str(told.get("dtype", "")),
        algo=str(told.get("algo", "")), proto=str(told.get("proto", "")),
        peer=_number(line, "peer") if line.type == "ncclProfileP2p" else -1, ready_us=line.start.ts,
    )  # fmt: skip
    if kernel is not None:
        call.ready_us = call.start_us = kernel.start.ts
        call.end_us = kernel.stop.ts
    return call


def _number(line: _Line, name: str) -> int:
    value = line.details.get(name)
    return value if isinstance(value, int) and abs(value) < 1 << 62 else -1
