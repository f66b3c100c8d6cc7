"""What one file of NCCL's debug log tells, before anybody knows which ranks its communicators are."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

Process = tuple[str, int]  # host, pid
CALL_NUMBERS = 8
# Events after which a job does not go on.
STANDS = ("watchdog", "nccl-timeout", "nccl-abort", "rdma-retry-exhausted", "rdma-not-ready", "rdma-error")


@dataclass
class Comm:
    """One rank's handle of a communicator. `name` is what all its ranks share, "" where the log does not tell it."""

    process: Process
    device: int = -1
    name: str = ""
    rank: int = -1
    size: int = -1
    ended: bool = False
    tag: int = -1  # rank that a launcher wrote before the line


@dataclass
class Event:
    """One thing that happened, and how often the log repeats it."""

    node: str
    event: str
    message: str
    t_ns: int = -1
    device: str = ""
    code: int = -1
    comm: int = -1
    count: int = 1


@dataclass
class Watch:
    """What PyTorch's watchdog said of one rank: the call it gave up, how long that ran, and when (without a year)."""

    rank: int
    op: str = ""
    seq: int = -1
    ran_ms: int = -1
    moment: datetime | None = None
    group: str = ""
    description: str = ""


@dataclass
class Log:
    """All that one file tells; `calls` holds eight whole numbers a call.

    They are: communicator, op, opCount, element count, type, root, time in ns (-1 unknown), algorithm and protocol as
    one choice (-1 unknown).
    """

    comms: list[Comm] = field(default_factory=list)
    calls: array[int] = field(default_factory=lambda: array("q"))
    ops: list[str] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)
    links: Counter[tuple[int, int, int, str]] = field(default_factory=Counter)
    events: dict[tuple[str, str, str, int], Event] = field(default_factory=dict)
    watches: dict[tuple[int, int], Watch] = field(default_factory=dict)  # (rank, number of the call)
    roce: bool = False
    coarse: bool = False
    zoned: bool = True
    lines: int = 0
    written_ns: int = -1

    def given_up(self) -> list[Watch]:
        """Return the first call of each rank and process group that the watchdog gave up."""
        first: dict[tuple[int, str], Watch] = {}
        for watch in sorted(self.watches.values(), key=lambda watch: watch.seq):
            first.setdefault((watch.rank, watch.group), watch)
        return list(first.values())
