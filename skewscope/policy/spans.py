"""Spans of the calendar: "Mon-Fri 08:00-18:00" each week, "2026-12-20 00:00/2027-01-02 08:00" once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CLOCK = r"(\d{1,2}):(\d{2})"
WEEKLY = re.compile(rf"(?:([A-Z][a-z]{{2}})(?:-([A-Z][a-z]{{2}}))?\s+)?{CLOCK}-{CLOCK}")
DAY_MINUTES = 1440


@dataclass(frozen=True)
class Span:
    """One span: of `days` (0 Monday) from `start` to `end`, minutes of the day; or of `first` to `last`, once."""

    days: tuple[int, ...] = ()
    start: int = 0
    end: int = DAY_MINUTES
    first: datetime | None = None
    last: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Return whether a time lies in it; a span that ends earlier in the day than it starts goes past midnight.

        >>> span("Fri 22:00-06:00").holds(datetime(2026, 11, 28, 5, 0))  # a Saturday
        True
        """
        if self.first and self.last:
            return self.first <= now.replace(tzinfo=None) < self.last
        day, minute = now.weekday(), now.hour * 60 + now.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def span(text: str) -> Span:
    """Return the span that a text says; raises ValueError that shows how one is written.

    >>> span("Sat-Sun 00:00-24:00").days
    (5, 6)
    """
    first, slash, last = text.partition("/")
    try:
        if slash:
            return _once(datetime.fromisoformat(first.strip()), datetime.fromisoformat(last.strip()))
        return _weekly(text.strip())
    except ValueError as error:
        raise ValueError(f"{error}; write 'Mon-Fri 08:00-18:00' or '2026-12-20 00:00/2027-01-02 08:00'") from None


def _once(first: datetime, last: datetime) -> Span:
    if first.tzinfo or last.tzinfo:
        raise ValueError("the zone stands in calendar.timezone")
    if first >= last:
        raise ValueError("it ends before it begins")
    return Span(first=first, last=last)


def _weekly(text: str) -> Span:
    found = WEEKLY.fullmatch(text)
    if not found:
        raise ValueError("it is no span")
    one, other, *clock = found.groups()
    start, end = (int(hour) * 60 + int(minute) for hour, minute in (clock[:2], clock[2:]))
    if max(start, end) > DAY_MINUTES or start == end or max(int(clock[1]), int(clock[3])) > 59:
        raise ValueError("its times of day cannot be meant")
    return Span(_days(one, other), start, end)


def _days(one: str | None, other: str | None) -> tuple[int, ...]:
    if one is None:
        return tuple(range(7))
    first, last = DAYS.index(one), DAYS.index(other or one)
    return tuple((first + step) % 7 for step in range((last - first) % 7 + 1))


def zone(name: str) -> tzinfo:
    """Return a time zone by name; raises ValueError for one that is not known here."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name!r} here; write one such as 'Europe/Berlin'") from None
