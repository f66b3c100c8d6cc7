"""Python stacks of all threads of a rank: what `faulthandler` writes when a job hangs, or `py-spy dump`.

The message is what the main thread was doing: its innermost frames that are the user's own, newest first.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._flight_rows import LIBRARY
from ._lines import ended

FRAMES = 3
LONGEST = 2000
THREAD = re.compile(r"^(?:Current thread|Thread) \S+.*$", re.M)
FRAME = re.compile(r'^[^\S\n]++(?:File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)'
                   r"|(?P<name2>\S.*) \((?P<file2>[^()]+):(?P<line2>\d+)\))[^\S\n]*$", re.M)  # fmt: skip

Frame = tuple[str, str, str]  # file, line, function


class StackDump:
    """Reads `stack_rankN.txt`."""

    format: ClassVar[str] = "stack-dump"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a dump of stacks."""
        if b"\0" in head:  # text has none, and looking through binary heads is slow
            return 0.0
        if re.search(rb"^(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):", head, re.M):
            return 0.95
        return 0.9 if re.search(rb"^Thread (\d+|0x[0-9a-fA-F]+) \((active|idle)", head, re.M) else 0.0

    def read(self, path: Path) -> Reading:
        """Return one row of `events`; the rank is in the file's name only. Raises Unreadable without frames."""
        content, damage = ended(*_bytes.whole(path))
        threads = stacks(content.decode("utf-8", "replace"))
        if not threads:
            raise Unreadable("stacks without one frame" + (f" ({damage})" if damage else ""))
        row = {"event": "stack", "device": "", "message": main_stack(threads)}
        reading = Reading(str(path), self.format, events=1, batches=[("events", row)])
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def stacks(text: str) -> list[list[Frame]]:
    """Return the frames of each thread that has some, newest first, in the order of the text."""
    heads = [found.start() for found in THREAD.finditer(text)]
    parts = [text[begin:end] for begin, end in pairwise([*heads, len(text)])]
    threads = [[_frame(found) for found in FRAME.finditer(part)] for part in parts]
    named = [thread for part, thread in zip(parts, threads, strict=True) if '"MainThread"' in part.split("\n", 1)[0]]
    return [thread for thread in (named or threads) if thread]


def main_stack(threads: list[list[Frame]]) -> str:
    """Return the innermost user frames of the main thread, 'file:line function' joined by ' < '.

    >>> main_stack([[("/lib/python3/threading.py", "9", "wait"), ("run.py", "5", "step"), ("run.py", "9", "<module>")]])
    'run.py:5 step < run.py:9 <module>'
    """
    started = [thread for thread in threads if thread[-1][2] == "<module>"]
    main = (started or threads)[-1]
    own = [frame for frame in main if not _in_library(frame[0])]
    return " < ".join(f"{file}:{line} {name}" for file, line, name in (own or main)[:FRAMES])[:LONGEST]


def _in_library(file: str) -> bool:
    """Return whether a file is not the user's; py-spy tells modules of the standard library without their folder."""
    return any(part in file for part in LIBRARY) or file.removesuffix(".py") in sys.stdlib_module_names


def _frame(found: re.Match[str]) -> Frame:
    return (
        found["file"] or found["file2"] or "",
        found["line"] or found["line2"] or "",
        (found["name"] or found["name2"] or "").strip(),
    )
