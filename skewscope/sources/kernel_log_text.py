"""Kernel logs as text: `dmesg`, `journalctl -k`, /var/log/kern.log, with XIDs of GPUs and other signs of trouble.

Times since boot become times of day where the log tells when the clock was set while booting, else they stay unknown
and the message keeps them. Times without a year are of the year before the file was written; without a zone, UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from ..kernel_messages import XID, trouble
from . import _bytes, _kernel_log_times, _lines, _telemetry_file
from ._kernel_log_times import Line

BLOCK_BYTES = 1 << 22
LONGEST_MESSAGE = 400
LOOK_LINES = 60
MOST_TOLD = 5
NEAR_NS = 5 * 10**9
LOST_XID = 79
# Newer drivers say so in lines of their own, at times without the line that begins with Xid (leptonai/gpud #1209).
LOST = re.compile(rb"NVRM: (?:GPU (?:at )?(?:PCI:)?)([0-9a-fA-F:.]+?):? (?:GPU-\S+ )?(?:GPU )?has fallen off the bus")
SXID = re.compile(rb"nvidia-(nvswitch\d+): SXid \(PCI:[^)]*\): (\d{1,9}),? ?(\w*)")
DETAILS = (b"Data", b"Severity")  # more lines of one SXid
LINK = re.compile(
    rb"\b([\w.-]+): (?:NIC )?[Ll]ink (?:is )?([Dd]own|DOWN|[Uu]p|UP)\b|\b(\w+): Port: (\d+) Link (DOWN|ACTIVE)"
)
ADDRESS = re.compile(rb"\b([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b")
WORDS = (b"NVRM:", b"SXid", b"mlx5_core", b"kernel:", b"Linux version")
NO_YEAR = "times without a year: the year before the file was last written is taken"
NO_ZONE = "times without a time zone are read as UTC"


@dataclass
class Event:
    """One row of `events`."""

    line: Line
    boot: int
    device: str
    event: str
    code: int = -1
    detail: bool = False


class KernelLogText:
    """Reads the kernel's log in any of the forms that tools give it."""

    format: ClassVar[str] = "kernel-log-text"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a kernel log."""
        lines = [line for line in head.split(b"\n", LOOK_LINES)[:LOOK_LINES] if line.strip()]
        heads = sum(_kernel_log_times.split(line) is not None for line in lines)
        if lines and heads >= len(lines) / 2:
            return 0.9 if any(word in head for word in WORDS) else 0.4
        return 0.5 if b"NVRM: Xid" in head and b"{" not in head[:1] else 0.0

    def read(self, path: Path) -> Reading:
        """Return `events`, perhaps none; raises Unreadable for a file in which no line is one of a kernel log."""
        log = _Log()
        damage = log.read(path)
        if not log.heads and not log.events:
            raise Unreadable("no line of it is one of a kernel log" + (f" ({damage})" if damage else ""))
        written_ns = _telemetry_file.changed_ns(path)
        node = log.node or _telemetry_file.node_of(path)
        reading = _telemetry_file.reading(path, self.format, [("events", log.columns(node, written_ns))], ())
        reading.node, reading.warnings = node, log.warnings()
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


class _Log:
    """What one file tells."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.heads = 0
        self.node = ""
        self._boot = 0
        self._booted_ns: dict[int, int] = {}
        self._headless: list[int] = []
        self._number = 0

    def read(self, path: Path) -> str:
        """Read all lines that have an end and return the damage of the file."""
        rest = b""
        with _bytes.Stream(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._take(line)
            return stream.damage or (_lines.CUT if rest.strip() else "")

    def _take(self, whole: bytes) -> None:
        self._number += 1
        if not whole.strip():
            return
        line = _kernel_log_times.split(whole)
        if line is None:
            line = Line(whole)
        else:
            self.heads += 1
            self.node = self.node or line.node
            self._note_boot(line)
        before = len(self.events)
        self._look(line)
        if len(self.events) > before and line.t_ns < 0 and line.since_boot_ns < 0 and line.moment is None:
            self._headless.append(self._number)

    def _note_boot(self, line: Line) -> None:
        if line.text.startswith(_kernel_log_times.FIRST_LINE):
            self._boot += 1
        elif line.since_boot_ns >= 0 and b"setting system clock" in line.text:
            hit = _kernel_log_times.CLOCK_SET.search(line.text)
            if hit:
                self._booted_ns[self._boot] = int(hit[1]) * 10**9 - line.since_boot_ns

    def _look(self, line: Line) -> None:
        text = line.text
        if b"NVRM:" in text and (hit := XID.search(text)):
            address = _telemetry_file.pci_address(b":".join(hit.group(1, 2, 3)).decode())
            return self._xid(line, address, int(hit[4]))
        if b"fallen off the bus" in text and (hit := LOST.search(text)):
            return self._xid(line, _telemetry_file.pci_address(hit[1].decode().rstrip(":")), LOST_XID, detail=True)
        if b"SXid" in text and (hit := SXID.search(text)):
            return self._sxid(line, hit[1].decode(), int(hit[2]), detail=hit[3] in DETAILS)
        category = trouble(text)
        if category:
            place = ADDRESS.search(text)
            line.text = category.encode() + b": " + text
            return self._add(line, place[1].decode().lower() if place else "", "kernel")
        if b"ink" in text and (hit := LINK.search(text)):
            name = (hit[1] or hit[3]).decode()
            device = f"{name}/{hit[4].decode()}" if hit[4] not in (None, b"1") else name
            self._add(line, device, "link-down" if (hit[2] or hit[5]).lower() == b"down" else "link-up")
        return None

    def _add(self, line: Line, device: str, event: str, code: int = -1, *, detail: bool = False) -> None:
        self.events.append(Event(line, self._boot, device, event, code if code < 2**31 else -1, detail))

    def _xid(self, line: Line, address: str, code: int, *, detail: bool = False) -> None:
        """Add an XID; the loss of a GPU may be told by two lines."""
        if code == LOST_XID:
            for known in reversed(self.events[-16:]):
                near = known.event == "xid" and known.code == code and known.device == address and _near(known, line)
                if near and (detail or known.detail):
                    if known.detail and not detail:
                        known.line, known.detail = line, False
                    return
        self._add(line, address, "xid", code, detail=detail)

    def _sxid(self, line: Line, switch: str, code: int, *, detail: bool) -> None:
        """Add an SXid, which is told by several lines of which one says how grave it is."""
        for known in reversed(self.events[-8:]):
            if known.event == "sxid" and known.code == code and known.device == switch and _near(known, line):
                if detail:
                    return
                if known.detail:
                    known.line, known.detail = line, False
                    return
        self._add(line, switch, "sxid", code, detail=detail)

    def columns(self, node: str, written_ns: int) -> dict[str, list[object]]:
        """Return the columns of `events`."""
        yearless = [one.line for one in self.events if one.line.moment is not None]
        moments = [line.moment for line in yearless if line.moment is not None]
        for line, t_ns in zip(yearless, _kernel_log_times.with_years(moments, written_ns), strict=True):
            line.t_ns = t_ns
        for one in self.events:
            booted_ns = self._booted_ns.get(one.boot, -1)
            if one.line.t_ns < 0 <= min(booted_ns, one.line.since_boot_ns):
                one.line.t_ns = booted_ns + one.line.since_boot_ns
        return {
            "t_ns": [one.line.t_ns for one in self.events], "node": [one.line.node or node for one in self.events],
            "device": [one.device for one in self.events], "event": [one.event for one in self.events],
            "code": [one.code for one in self.events], "message": [_message(one.line) for one in self.events],
        }  # fmt: skip

    def warnings(self) -> list[str]:
        """Return what is not sure about the times."""
        told = []
        if any(one.line.moment is not None for one in self.events):
            told.append(NO_YEAR)
        if any(not one.line.zoned for one in self.events):
            told.append(NO_ZONE)
        unknown = sum(one.line.t_ns < 0 <= one.line.since_boot_ns for one in self.events)
        if unknown:
            told.append(
                f"{unknown} events have times since boot only, and nothing tells when that was: `dmesg -T` would"
            )
        if self._headless:
            places = ", ".join(map(str, self._headless[:MOST_TOLD])) + (
                " ..." if len(self._headless) > MOST_TOLD else ""
            )
            told.append(f"{len(self._headless)} events without any time (line {places})")
        return told


def _near(known: Event, line: Line) -> bool:
    """Return whether a line tells of the same moment as an event."""
    old = known.line
    if old.moment is not None and line.moment is not None:
        return abs((line.moment - old.moment).total_seconds()) <= NEAR_NS / 1e9
    if old.t_ns >= 0 and line.t_ns >= 0:
        return abs(line.t_ns - old.t_ns) <= NEAR_NS
    return abs(line.since_boot_ns - old.since_boot_ns) <= NEAR_NS


def _message(line: Line) -> str:
    text = " ".join(line.text.decode("utf-8", "replace").split())
    if line.t_ns < 0 <= line.since_boot_ns:
        text = f"[{line.since_boot_ns / 1e9:.6f} s after boot] {text}"
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + " ..."
