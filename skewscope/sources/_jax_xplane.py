"""XLA's profiles as they are recorded (`*.xplane.pb`): planes of lines of events, names apart.

Source: openxla/xla tsl/profiler/protobuf/xplane.proto; field numbers are facts of that format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import Unreadable
from . import _protobuf_wire as wire
from ._bytes import COPY_AGAIN
from ._jax_lanes import DEVICE, MODULES, OPS, STEPS, STREAM, Lane, Profile, communicates

MEND = "convert it: xprof trace_viewer, or the *.trace.json.gz that lies beside it"
EPOCH_NS = 10**18
ENVIRONMENT, STARTED = "Task Environment", "profile_start_time"
PS = 1000  # per ns


@dataclass
class Plane:
    """One plane: names of events and statistics by id, and its lines, still encoded."""

    name: str = ""
    lines: list[bytes] = field(default_factory=list)
    events: dict[int, tuple[str, str, list[bytes]]] = field(default_factory=dict)  # short and long name, statistics
    stats: dict[int, str] = field(default_factory=dict)
    own: list[bytes] = field(default_factory=list)


def surety(head: bytes) -> float:
    """Return 0..1: how surely `head` begins an XSpace: a plane (field 1) whose name begins with a slash."""
    if head[:1] != b"\x0a":
        return 0.0
    known = any(sign in head[:4096] for sign in (b"/device:", b"/host:", b"Task Environment", b"#Chip"))
    try:
        size, at = wire.varint(head, 1)
        key = head[at] if at < len(head) else 0
    except ValueError:
        return 0.0
    return 0.9 if known and size and key in (0x08, 0x12, 0x1A, 0x22, 0x2A) else 0.0


def profile(content: bytes, damage: str) -> Profile:
    """Return the lanes of a file; a damaged end is told. Raises Unreadable where no plane can be read."""
    found = Profile(damage=damage)
    planes, hosts = [], []
    try:
        for number, value in wire.fields(content):
            if number == 1 and isinstance(value, bytes):
                planes.append(_plane(value))
            elif number == 4:
                hosts.append(wire.text(value))
    except ValueError as error:
        found.damage = damage or f"damaged after {len(planes)} planes ({error})"
    if not planes:
        raise Unreadable(found.damage or "no plane in the profile", COPY_AGAIN if found.damage else MEND)
    found.host = hosts[0] if len(hosts) == 1 else ""
    started = next((_started(plane) for plane in planes if plane.name == ENVIRONMENT), 0)
    absolute = 0
    for plane in planes:
        if DEVICE.match(plane.name) or plane.name.startswith("/host:"):
            for line in plane.lines:
                try:
                    lane, begin_ns = _lane(plane, line)
                except ValueError as error:
                    found.damage = found.damage or f"a line of {plane.name} is damaged ({error})"
                    continue
                absolute = max(absolute, begin_ns)
                found.lanes.append(lane)
                found.events += len(lane.start)
    found.base_ns = started if absolute < EPOCH_NS else 0  # lines may count from 1970 themselves
    found.dated = bool(started) or absolute >= EPOCH_NS
    return found


def _plane(message: bytes) -> Plane:
    plane = Plane()
    for number, value in wire.fields(message):
        if number == 2:
            plane.name = wire.text(value)
        elif number == 3 and isinstance(value, bytes):
            plane.lines.append(value)
        elif number == 4 and isinstance(value, bytes):
            key, entry = _entry(value)
            names = dict.fromkeys((2, 4), "")
            stats = []
            for part, one in wire.fields(entry):
                if part in names:
                    names[part] = wire.text(one)
                elif part == 5 and isinstance(one, bytes):
                    stats.append(one)
            plane.events[key] = (names[4] or names[2], names[2], stats)
        elif number == 5 and isinstance(value, bytes):
            key, entry = _entry(value)
            plane.stats[key] = next((wire.text(one) for part, one in wire.fields(entry) if part == 2), "")
        elif number == 6 and isinstance(value, bytes):
            plane.own.append(value)
    return plane


def _entry(message: bytes) -> tuple[int, bytes]:
    """Return key and value of an entry of a map."""
    key, body = 0, b""
    for number, value in wire.fields(message):
        if number == 1:
            key = wire.signed(value)
        elif number == 2 and isinstance(value, bytes):
            body = value
    return key, body


def _started(plane: Plane) -> int:
    """Return when the profile began, Unix time in ns, 0 where the plane does not tell."""
    told = _statistics(plane.own, plane)
    value = told.get(STARTED, 0)
    return value if isinstance(value, int) and EPOCH_NS < value < 2**62 else 0


def _lane(plane: Plane, message: bytes) -> tuple[Lane, int]:
    """Return one line, and when it began as its clock has it."""
    name = display = ""
    begin_ns, events = 0, []
    for number, value in wire.fields(message):
        if number == 2:
            name = wire.text(value)
        elif number == 11:
            display = wire.text(value)
        elif number == 3:
            begin_ns = wire.signed(value)
        elif number == 4 and isinstance(value, bytes):
            events.append(value)
    lane = Lane(plane.name, display or name)
    told = lane.name in (STEPS, OPS, MODULES) or STREAM.match(lane.name) is not None
    for event in events:
        _add(lane, plane, event, begin_ns, told=told)
    return lane, begin_ns


def _add(lane: Lane, plane: Plane, message: bytes, begin_ns: int, *, told: bool) -> None:
    key = offset = length = 0
    stats = []
    for number, value in wire.fields(message):
        if number == 1:
            key = wire.signed(value)
        elif number == 2:
            offset = wire.signed(value)
        elif number == 3:
            length = wire.signed(value)
        elif number == 4 and isinstance(value, bytes):
            stats.append(value)
    name, text, more = plane.events.get(key, ("", "", []))
    start = begin_ns + offset // PS
    if not 0 <= start < 2**61 or not 0 <= length < 2**62:
        return
    wanted = communicates(name) or lane.name == STEPS or not told
    lane.start.append(start)
    lane.end.append(start + length // PS)
    lane.names.append(name)
    lane.told.append({"long_name": text, **_statistics(more + stats, plane)} if wanted else None)


def _statistics(messages: list[bytes], plane: Plane) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in messages:
        key = 0
        value: int | float | str | None = None
        for number, one in wire.fields(message):
            if number == 1:
                key = wire.signed(one)
            elif number in (3, 4):
                value = wire.signed(one)
            elif number == 2:
                value = wire.real(one)
            elif number == 5:
                value = wire.text(one)
            elif number == 7:
                value = plane.stats.get(wire.signed(one), "")
        if value is not None:
            found[plane.stats.get(key, "")] = value
    return found
