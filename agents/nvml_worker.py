"""The process that talks to the driver, apart from the rest, because a driver call may never return.

It does what it is asked and nothing by itself. On standard input, one JSON line a turn:

    {"due": ["nvml-device"], "without": [3]}

On standard output, one frame a collector as soon as it is done: the length of a JSON head (u32), the length of the
lines after it (u32), the head {"collector", "state", "seconds", "reason", "series", "dropped", "group", "families":
[[name, bytes], ...], "gone": [name, ...], "board"}, the lines of those families. Families whose lines are the same as
last time are not sent again. An empty head ends the turn. Descriptor 3 is shared memory that says which call on which
GPU is running, so that the agent can name what hangs. End of input ends the process.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from skewscope.contracts import Place
from skewscope.memory import give_back

from .crew import EMPTY, Crew, Outcome, collectors
from .exposition import MOST_SERIES, Block
from .limits import stay_small

LENGTHS = struct.Struct("<II")
CALLING = struct.Struct("<qi32s")  # start (monotonic ns, 0 between calls), slot (-1 no GPU in particular), call
CALLING_FD = 3
LARGEST = 64 << 20
SOON_S = 0.02
FIRST_TURNS = 3  # after these all is imported
STAYS_HERE = ("calling", "without")


def frame(outcome: Outcome, board: dict[str, Any], former: Block = EMPTY) -> bytes:
    """Return the frame of one outcome; `board` holds what changed on it, `former` is the block sent last."""
    block = outcome.block
    families = [(name, lines[0]) for name, lines in block.items() if former.get(name) is not lines]
    head = json.dumps(
        {
            "collector": outcome.collector, "state": outcome.state, "seconds": outcome.seconds,
            "reason": outcome.reason, "series": outcome.series, "dropped": outcome.dropped,
            "group": outcome.group, "families": [(name, len(lines)) for name, lines in families],
            "gone": [name for name in former if name not in block], "board": board,
        }
    ).encode()  # fmt: skip
    body = b"".join([lines for _, lines in families])
    return LENGTHS.pack(len(head), len(body)) + head + body


END = LENGTHS.pack(0, 0)


def frames(buffer: bytearray, former: dict[str, Block]) -> Iterator[tuple[Outcome, dict[str, Any]] | None]:
    """Take whole frames off the front of a buffer; None is the end of a turn. Raises ValueError on nonsense.

    `former` keeps the last block of each collector, for families that are not sent again.
    """
    at = 0
    try:
        while len(buffer) - at >= LENGTHS.size:
            head, body = LENGTHS.unpack_from(buffer, at)
            if head > LARGEST or body > LARGEST:
                raise ValueError(f"a frame of {head} + {body} bytes")
            lines_at = at + LENGTHS.size + head
            if len(buffer) < lines_at + body:
                return
            told, lines = bytes(buffer[at + LENGTHS.size : lines_at]), bytes(buffer[lines_at : lines_at + body])
            at = lines_at + body
            yield _outcome(json.loads(told), lines, former) if head else None
    finally:
        del buffer[:at]


def _outcome(told: dict[str, Any], lines: bytes, former: dict[str, Block]) -> tuple[Outcome, dict[str, Any]]:
    collector = told["collector"]
    block = former.get(collector, EMPTY)
    if told["families"] or told["gone"]:
        made = dict(block)
        for name in told["gone"]:
            made.pop(name, None)
        at = 0
        for name, many in told["families"]:
            text = lines[at : at + many]
            made[name] = (text, text)
            at += many
        block = former[collector] = made
    outcome = Outcome(
        collector, told["state"], told["seconds"], told["reason"], block, told["series"], told["dropped"], told["group"]
    )
    return outcome, told["board"]


def noting(memory: mmap.mmap) -> Callable[[int, str], None]:
    """Return what collectors call before each driver call."""
    pack, clock = CALLING.pack_into, time.monotonic_ns
    names: dict[str, bytes] = {}

    def calling(slot: int, call: str) -> None:
        name = names.get(call)
        if name is None:
            name = names[call] = call.encode()[:32]
        pack(memory, 0, clock(), slot, name)

    return calling


def serve(requests: BinaryIO, answers: BinaryIO, place: Place, most_series: int = MOST_SERIES) -> None:
    """Answer requests until they end."""
    crew = Crew(collectors(), place, most_series)
    told: dict[str, Any] = {}
    sent: dict[str, Block] = {}
    for turn, line in enumerate(requests):
        request = json.loads(line)
        place.board["without"] = frozenset(request.get("without", ()))
        begun_s = time.monotonic()
        for collector in request["due"]:
            outcome = crew.run(collector)
            answers.write(frame(outcome, _news(place.board, told), sent.get(collector, EMPTY)))
            sent[collector] = outcome.block
            if time.monotonic() - begun_s > SOON_S:  # one may hang: what is there must not wait for it
                answers.flush()
        place.board["calling"](-1, "")
        answers.write(END)
        answers.flush()
        if turn == FIRST_TURNS:
            give_back()


def _news(board: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Return what changed on the board since the last frame; names with an underscore stay here."""
    news = {}
    for name, value in board.items():
        if name in STAYS_HERE or name.startswith("_"):
            continue
        if name not in told or (told[name] is not value and told[name] != value):
            news[name] = value
        told[name] = value  # what is on the board is replaced whole, so the same object is the same value
    return news


def main(given: dict[str, Any]) -> None:
    """Be that process; `given` are the paths and options of the agent's settings."""
    stay_small()
    import pynvml

    memory = mmap.mmap(CALLING_FD, mmap.PAGESIZE)
    os.set_inheritable(CALLING_FD, False)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the frames
    place = Place(
        proc=Path(given["proc"]), sys=Path(given["sys"]), dev=Path(given["dev"]), spool=Path(given["spool"]),
        options=given["options"], nvml=pynvml, board={"calling": noting(memory), **given["board"]},
    )  # fmt: skip
    try:
        serve(sys.stdin.buffer, answers, place, given["most_series"])
    except BrokenPipeError:  # the agent went away
        os._exit(0)
