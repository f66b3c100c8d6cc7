"""Splits the text format of Prometheus and OpenMetrics into series, values and times.

A page has thousands of lines and the same series each time, so a series is understood once: its text, as it stands
before the value, is the key to a number. The way is fast for lines as exporters write them and exact for all others.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ._telemetry_file import moment_ns

_LABEL = r'\s*[a-zA-Z_][a-zA-Z0-9_]*\s*=\s*"(?:[^"\\]|\\.)*"\s*'
SERIES = re.compile(rf"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{{((?:{_LABEL},)*(?:{_LABEL})?)\s*\}})?")
LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
QUOTED = re.compile(r'[ \t]*\{\s*"')  # a name in quotes, as of Prometheus 3: none that is of use here
ESCAPE = re.compile(r"\\(.)")
TIME = re.compile(
    r"#?\s*+(?:[A-Za-z_ ]*+[=:]\s*+|step=-?\d+ time_ns=)?"
    r"(\d{10}(?:[.,]\d+)?|\d{13,19}|\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?)\s*$"
)
# A time stamp below is in seconds (OpenMetrics), from there on in milliseconds: 1973 and 2262 are their ends.
SECONDS_END, LATEST_MS = 9e9, 9e12
NO_STAMP = ("\n", 0)
MOST_TOLD = 5

Learn = Callable[[str, Mapping[str, str]], bool]  # name, labels -> whether it is of use


@dataclass
class Lines:
    """What lines held so far: number of the series, value, and time in ns or minus (the page's number + 2).

    `learn` is asked once a series, in the order of their numbers.
    """

    learn: Learn
    numbers: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    t_ns: array[int] = field(default_factory=lambda: array("q"))
    page_ns: list[int] = field(default_factory=lambda: [-1])
    bad: list[int] = field(default_factory=list)  # numbers of lines, the first few
    bad_count: int = 0
    line: int = 0
    _known: dict[str, int] = field(default_factory=dict)
    _count: int = 0
    _typed: set[str] = field(default_factory=set)
    _first: str = ""
    _fresh: bool = True  # nothing of this page was read yet
    _last: tuple[str, int] = NO_STAMP  # the time behind a value as it was written last, and what it is

    def take(self, lines: list[str]) -> None:
        """Read whole lines, in order."""
        known, add, add_value, add_time = self._known, self.numbers.append, self.values.append, self.t_ns.append
        for at, line in enumerate(lines, self.line + 1):
            if not line or line[0] == "#":
                self._comment(line)
                continue
            end = line.find('"} ')
            key, rest = (line[: end + 2], line[end + 3 :]) if end >= 0 else line.partition(" ")[::2]
            number = known.get(key)
            if self._fresh or key == self._first:
                self._page(key)
            if number == -1:
                continue
            text, blank, after = rest.partition(" ")
            try:
                value = float(text)
                stamp = self._last[1] if after == self._last[0] else None if blank else -len(self.page_ns) - 1
            except ValueError:
                stamp = None
            if stamp is None or number is None:
                try:
                    number, value, stamp = self._hard(number, line, rest)
                except ValueError:
                    self._odd(at, line)
                    continue
                if number < 0:
                    continue
                self._last = (after, stamp) if blank and stamp >= 0 else NO_STAMP
            add(number)
            add_value(value)
            add_time(stamp)
        self.line += len(lines)

    def _page(self, key: str) -> None:
        """Note the first series of a page; where nothing else parts pages, it does so by coming again."""
        if not self._fresh and not self._typed:
            self._next(-1)
        self._first, self._fresh = key, False

    def _next(self, t_ns: int) -> None:
        """Begin a page, unless nothing of the last one was read yet."""
        if self._fresh and not self._typed:
            self.page_ns[-1] = t_ns if t_ns >= 0 else self.page_ns[-1]
            return
        self.page_ns.append(t_ns)
        self._typed, self._first, self._fresh = set(), "", True

    def _comment(self, line: str) -> None:
        if line.startswith("# TYPE "):
            family = line[7:].partition(" ")[0]
            if family in self._typed:
                self._next(-1)
            self._typed.add(family)
        elif line.startswith("# EOF"):
            self._next(-1)
        elif line and not line.startswith("# HELP ") and (told := TIME.match(line)):
            self._next(moment_ns(told[1]))

    def _hard(self, number: int | None, line: str, rest: str) -> tuple[int, float, int]:
        """Return the same as `_slowly`, sooner where only a time stands after the value of a known series."""
        if number is not None:
            try:
                return number, *self._stamped(rest)
            except ValueError:
                pass  # the series may end elsewhere
        return self._slowly(line)

    def _slowly(self, line: str) -> tuple[int, float, int]:
        """Return (number of the series, value, time), number -1 for what is of no use. Raises ValueError."""
        hit = SERIES.match(line)
        if hit is None:
            if QUOTED.match(line):
                return -1, 0.0, 0
            raise ValueError("no series")
        text, rest = line[: hit.end()].rstrip(" \t"), line[hit.end() :]
        if hit[2] is None and (hit.end() == len(line) or line[hit.end() - 1] not in " \t"):
            raise ValueError("a name without a value")
        number = self._known.get(text)
        if number is None:
            value, stamp = self._stamped(rest)  # before it is learnt, for a cut line must not be
            labels = {name: _unescaped(value) for name, value in LABEL.findall(hit[2] or "")}
            number = self._known[text] = self._count if self.learn(hit[1], labels) else -1
            self._count += number >= 0
            return number, value, stamp
        return number, *self._stamped(rest)

    def _stamped(self, rest: str) -> tuple[float, int]:
        """Return value and time of what follows a series: value, perhaps a time, perhaps an exemplar."""
        parts = rest.partition(" # ")[0].split()
        if not 0 < len(parts) < 3 or "_" in parts[0] or "_" in parts[-1]:
            raise ValueError("neither a value nor a value and a time")
        value = float(parts[0])
        if len(parts) == 1:
            return value, -len(self.page_ns) - 1
        stamp = float(parts[1])
        if not 0 <= stamp < LATEST_MS:
            raise ValueError("no time")
        if parts[1].isdecimal():
            return value, int(parts[1]) * (10**9 if stamp < SECONDS_END else 10**6)
        whole, unit = int(stamp), 10**9 if stamp < SECONDS_END else 10**6
        return value, whole * unit + round((stamp - whole) * unit)

    def _odd(self, at: int, line: str) -> None:
        told = TIME.match(line)
        if told:
            self._next(moment_ns(told[1]))
            return
        self.bad_count += 1
        if len(self.bad) < MOST_TOLD:
            self.bad.append(at)


def _unescaped(value: str) -> str:
    return ESCAPE.sub(lambda hit: "\n" if hit[1] == "n" else hit[1], value) if "\\" in value else value
