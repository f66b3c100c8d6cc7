"""TORCH_TRACE: the structured log of PyTorch's compiler, one file per rank.

Kept are the collectives that a compiled graph will call, in their order (event `compile-schedule`, its code counts
waits too; ranks that compiled another order hang, or wait), and how long compiling a frame took (`compile`, code in ms:
a step in which this happens is long). Times are those of the log's own `chromium_event` lines; the prefix of a line
names neither year nor zone. The rank is in the file's name: what the lines say is left alone, as it may be that of
another process group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended

LINE = re.compile(rb"^[VIWE]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] (\{.*)$")
OPERATION = re.compile(r"(?:torch\.ops\.)?_?c10d_functional\.(\w+?)_?(?:\.default)?$")
FRAME = "entire_frame_compile"
MOST_MS = 2**31 - 1
LATEST_US = 2**63 / 1e3  # what is beyond leaves the clock of 64 bits


@dataclass
class _Trace:
    """What was read so far: the newest time, compilations that go on, rows of `events`."""

    now_ns: int = -1
    lines: int = 0
    began: dict[str, list[int]] = field(default_factory=dict)
    rows: list[tuple[int, str, int, str]] = field(default_factory=list)


class TorchTrace:
    """Reads `dedicated_log_torch_trace_rank_3_xxxx.log`."""

    format: ClassVar[str] = "torch-trace"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely the first lines are of a structured log of PyTorch."""
        lines = [line for line in head.split(b"\n")[:20] if LINE.match(line)]
        known = (b'"chromium_event"', b'"dynamo_start"', b'"has_payload"', b'"compilation_metrics"', b"structured.py")
        return 0.95 if any(word in line for line in lines for word in known) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `events`; raises Unreadable where no line is of such a log, or nothing was compiled."""
        content, damage = ended(*_bytes.whole(path))
        trace = _Trace()
        for told, payload in _entries(content):
            trace.lines += 1
            _take(trace, told, payload)
        if not trace.rows:
            raise Unreadable(
                "no compiled frame and no schedule of collectives in the log", "keep the whole TORCH_TRACE"
            )
        columns = {
            "t_ns": [row[0] for row in trace.rows], "device": "", "event": [row[1] for row in trace.rows],
            "code": [row[2] for row in trace.rows], "message": [row[3] for row in trace.rows],
        }  # fmt: skip
        reading = Reading(str(path), self.format, events=len(trace.rows), batches=[("events", columns)])
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _entries(content: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield what each line tells, with its payload: the lines after it that begin with a tab."""
    told: dict[str, Any] | None = None
    payload: list[bytes] = []
    for line in content.split(b"\n"):
        if line.startswith(b"\t"):
            payload.append(line)
            continue
        if told is not None:
            yield told, b"\n".join(payload)
        match, payload = LINE.match(line), []
        told = _object(match[1]) if match else None
    if told is not None:
        yield told, b"\n".join(payload)


def _object(text: bytes) -> Any:  # noqa: ANN401 - as JSON is
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _take(trace: _Trace, told: dict[str, Any], payload: bytes) -> None:
    if "chromium_event" in told:
        event = _object(payload)
        if isinstance(event, dict) and isinstance(event.get("ts"), int | float) and abs(event["ts"]) < LATEST_US:
            whole_us, part_us = divmod(event["ts"], 1)  # as a float in ns it would lose its end
            trace.now_ns = int(whole_us) * 1000 + round(part_us * 1000)
            if event.get("name") == FRAME:
                _compiled(trace, event)
    artifact = told.get("artifact")
    if isinstance(artifact, dict) and artifact.get("name") == "inductor_collective_schedule":
        operations = _object(payload)
        if not isinstance(operations, list):
            return  # a torn payload: that graph is not one without collectives
        names = [str(name) for name in operations]
        called = [match[1] for match in map(OPERATION.search, names) if match and match[1] != "wait_tensor"]
        listed = ", ".join(called) or "no collective"
        trace.rows.append((trace.now_ns, "compile-schedule", len(names), f"graph {_graph(told)}: {listed}"))


def _compiled(trace: _Trace, event: dict[str, Any]) -> None:
    told = event.get("args")
    frame = str(told.get("compile_id", "")) if isinstance(told, dict) else ""
    began = trace.began.setdefault(frame, [])
    if event.get("ph") == "B":
        began.append(trace.now_ns)
    elif event.get("ph") == "E" and began:
        took_s = (trace.now_ns - began.pop()) / 1e9
        row = (trace.now_ns, "compile", min(int(took_s * 1e3), MOST_MS), f"compiling frame {frame} took {took_s:.2f} s")
        trace.rows.append(row)


def _graph(told: dict[str, Any]) -> str:
    """Return the graph's name as tlparse writes it, without a prefix: frame, compilation, attempt."""
    return "_".join(str(told.get(name, "?")) for name in ("frame_id", "frame_compile_id", "attempt"))
