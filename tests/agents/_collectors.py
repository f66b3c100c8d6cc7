"""Collectors for tests of what runs collectors, and stand-ins for catalogue rooms."""

from __future__ import annotations

import threading

from skewscope.errors import NoData


class Good:
    process, group, exports = "host", "fast", ("skewscope_host_clock_synchronized",)

    def __init__(self, place):
        self.place = place
        self.looks = 0

    def collect(self):
        self.looks += 1
        yield ("skewscope_host_clock_synchronized", (), self.looks)


class Empty(Good):
    def collect(self):
        raise NoData("no such hardware here")


class Failing(Good):
    def collect(self):
        yield ("skewscope_host_clock_synchronized", (), 1)
        raise OSError("I/O error")


class Hanging(Good):
    """Does not return before the test says so."""

    let_go = threading.Event()

    def collect(self):
        self.let_go.wait(20)
        return [("skewscope_host_clock_offset_seconds", (), 0.5)]


class Room:
    def __init__(self, name, collector):
        self.id, self.kind = name, lambda: collector


def rooms(**collectors):
    return {name: Room(name, collector) for name, collector in collectors.items()}
