"""Heads of kernel log lines as dmesg, journalctl, rsyslog and /dev/kmsg write them: time, host and the text behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ._telemetry_file import moment_ns, stamp_ns

MONTHS = {name: number for number, name in enumerate(
    (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1)}  # fmt: skip
_CLOCK = rb"(\d\d):(\d\d):(\d\d)((?:[.,]\d+)?)"
_LEVEL = rb"(?:<\d+>|[a-z0-9]+ *:[a-z]+ *: *)?"  # of `dmesg -r` and `dmesg -x`
SINCE_BOOT = re.compile(rb"\[ *(\d{1,9}\.\d+)\](?:\[ *[TC]\d+\])? ?")
TAG = re.compile(rb"(\S+) kernel:? ?")
MONOTONIC = re.compile(_LEVEL + SINCE_BOOT.pattern)
CTIME = re.compile(_LEVEL + rb"\[\w{3} (\w{3}) +(\d{1,2}) " + _CLOCK + rb" (\d{4})\] ?")
ISO = re.compile(
    _LEVEL + rb"(?:\w{3} )?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?)( ?Z| UTC|[+-]\d\d:?\d\d)?(?: [A-Z]{2,5})? "
)
SYSLOG = re.compile(rb"(?:<\d+>)?(\w{3}) +(\d{1,2}) " + _CLOCK + rb" (?=\S+ kernel:)")
EPOCH = re.compile(rb"(\d{10}\.\d+) (?=\S+ kernel:)")
KMSG = re.compile(rb"\d+,\d+,(\d{1,15}),[^;]*;")
CLOCK_SET = re.compile(rb"setting system clock to .*\((\d{10})\)")  # what the real-time clock said while booting
FIRST_LINE = b"Linux version "
A_DAY = timedelta(days=1)


@dataclass
class Line:
    """One line: `t_ns` where it tells the time, `since_boot_ns` where it tells that, -1 elsewhere.

    `moment` is a time without its year (year 2000 stands in), `zoned` whether the time zone is told.
    """

    text: bytes
    t_ns: int = -1
    since_boot_ns: int = -1
    moment: datetime | None = None
    node: str = ""
    zoned: bool = True


def split(line: bytes) -> Line | None:
    """Return a line's parts, None for one without a head.

    >>> found = split(b"Feb 14 05:03:41 n7 kernel: [  12.5] NVRM: x")
    >>> found.text, found.node, found.moment.day, found.since_boot_ns
    (b'NVRM: x', 'n7', 14, 12500000000)
    """
    if hit := MONOTONIC.match(line):
        return _with_host(Line(b"", since_boot_ns=_ns(hit[1])), line[hit.end() :])
    if hit := ISO.match(line):
        zone = (hit[2] or b"").strip().replace(b"UTC", b"Z")
        t_ns = moment_ns((hit[1] + zone).decode())
        return _with_host(Line(b"", t_ns, zoned=bool(zone)), line[hit.end() :]) if t_ns >= 0 else None
    if hit := SYSLOG.match(line):
        moment = _moment(2000, hit[1], hit[2], *hit.group(3, 4, 5, 6))
        return _with_host(Line(b"", moment=moment, zoned=False), line[hit.end() :]) if moment else None
    if hit := CTIME.match(line):
        moment = _moment(int(hit[7]), hit[1], hit[2], *hit.group(3, 4, 5, 6))
        return Line(line[hit.end() :], stamp_ns(moment), zoned=False) if moment else None
    if hit := EPOCH.match(line):
        return _with_host(Line(b"", moment_ns(hit[1].decode())), line[hit.end() :])
    hit = KMSG.match(line)
    return Line(line[hit.end() :], since_boot_ns=int(hit[1]) * 1000) if hit else None


def _with_host(found: Line, rest: bytes) -> Line:
    tag = TAG.match(rest)
    if tag:
        found.node, rest = tag[1].decode("utf-8", "replace"), rest[tag.end() :]
    inner = SINCE_BOOT.match(rest)
    if inner and found.since_boot_ns < 0:
        found.since_boot_ns, rest = _ns(inner[1]), rest[inner.end() :]
    found.text = rest
    return found


def _ns(seconds: bytes) -> int:
    whole, _, part = seconds.partition(b".")
    return int(whole) * 10**9 + int(part[:9].ljust(9, b"0"))


def _moment(year: int, month: bytes, day: bytes, hours: bytes, minutes: bytes, seconds: bytes, part: bytes
            ) -> datetime | None:  # fmt: skip
    try:
        return datetime(year, MONTHS.get(month, 0), int(day), int(hours), int(minutes), min(int(seconds), 59),
                        int(part[1:7].ljust(6, b"0")), UTC)  # fmt: skip
    except (ValueError, OverflowError):
        return None


def with_years(moments: Sequence[datetime], written_ns: int) -> list[int]:
    """Return times without years in ns: the last is of the year before the file was written, earlier ones before it.

    A line may stand a day after the next one, as lines of several processes do, before it is taken for last year's.

    >>> at = datetime(2025, 1, 5, tzinfo=UTC)
    >>> found = with_years([datetime(2000, 12, 30, tzinfo=UTC), datetime(2000, 1, 4, tzinfo=UTC)], stamp_ns(at))
    >>> (stamp_ns(at) - found[0]) // (86400 * 10**9), (stamp_ns(at) - found[1]) // (86400 * 10**9)
    (6, 1)
    """
    bound = datetime.fromtimestamp(written_ns / 1e9, UTC)
    found = []
    for moment in reversed(moments):
        placed = _before(moment, bound + A_DAY)
        found.append(stamp_ns(placed))
        bound = placed
    return found[::-1]


def _before(moment: datetime, bound: datetime) -> datetime:
    """Return the moment in the latest year in which it exists and lies before `bound`."""
    for year in range(bound.year, bound.year - 9, -1):  # 29 February comes every four or eight years
        try:
            placed = moment.replace(year=year)
        except ValueError:
            continue
        if placed <= bound:
            return placed
    return moment
