"""What one scraped agent tells: its pages become numbers of series and values."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..sources import _exposition_names
from ..sources._exposition_lines import Lines
from ._cutter import Cutter
from .targets import Target

Array = np.ndarray[Any, Any]
SPARE_LINES = 1000  # texts of series that are gone may be so many more than a page has


class Agent:
    """Reads the pages of one target. A series is understood once, as long as it stands on the page."""

    def __init__(self, target: Target, cutter: Cutter, most_series: int) -> None:
        self.target = target
        self._cutter = cutter
        self._most = most_series
        self._forget()

    def _forget(self) -> None:
        self._known: dict[str, int] = {}
        self._numbers = array("q")
        self._meant = 0

    def take(self, page: bytes, t_ns: int) -> tuple[bool, str]:
        """Return whether a page of that time told anything, and what is wrong with it, "" for nothing."""
        lines = page.decode("utf-8", "replace").replace("\r", "").split("\n")
        wrong = ""
        if len(lines) > 3 * self._most:
            lines = [line for line in lines if line and line[0] != "#"]
            if len(lines) > self._most:
                wrong = f"{len(lines)} series, more than {self._most}: the rest is left out"
                lines = lines[: self._most]
        with self._cutter.lock:
            read = Lines(self._learn, _known=self._known, _count=len(self._numbers))
            read.take(lines)
            numbers = np.array(self._numbers, dtype=np.int64)[np.array(read.numbers, dtype=np.int64)]
            self._cutter.add(numbers, np.array(read.values), t_ns)
        useless = self._meant and not read.bad_count
        if len(self._known) > 2 * len(lines) + SPARE_LINES:
            self._forget()
        if not len(numbers) and not useless:
            return False, f"no series with a meaning here in {len(lines)} lines"
        if read.bad_count and not wrong:
            wrong = f"{read.bad_count} malformed lines (line {', '.join(map(str, read.bad))})"
        return True, wrong

    def _learn(self, name: str, labels: Mapping[str, str]) -> bool:
        some = _exposition_names.series(name, labels)
        if some is None:
            return False
        self._meant += 1
        node, named = self.target.node, self.target.named
        placed = [one if one.node and not named else replace(one, node=node) for one in some]
        number = self._cutter.number(placed)
        if number == -1:
            return False
        self._numbers.append(number)
        return True

    def renumber(self, numbers: Array) -> None:
        """Take the new numbers of the series, as `moved` gives them for the old."""
        if (numbers == -1).any():
            self._forget()
        else:
            self._numbers = array("q", numbers.tolist())

    @property
    def numbers(self) -> Array:
        """Return the numbers of its series."""
        return np.array(self._numbers, dtype=np.int64)
