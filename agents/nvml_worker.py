"""The process that talks to the driver, apart from the rest, because a driver call may never return.

It does what it is asked and nothing by itself. On standard input, one JSON line a turn:

    {"due": ["nvml-device"], "without": [3]}

On standard output, one frame a collector as soon as it is done: the length of a JSON head (u32), the length of the
text after it (u32), the head {"collector", "state", "seconds", "reason", "series", "dropped", "families": [[name,
characters], ...], "board"}, the families' lines. An empty head ends the turn. Descriptor 3 is shared memory that says
which call on which GPU is running, so that the agent can name what hangs. End of input ends the process.
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

from .crew import Crew, Outcome, collectors
from .exposition import Block
from .limits import give_back, stay_small

LENGTHS = struct.Struct("<II")
CALLING = struct.Struct("<qi32s")  # start (monotonic ns, 0 between calls), slot (-1 no GPU in particular), call
CALLING_FD = 3
LARGEST = 64 << 20
SOON_S = 0.02
FIRST_TURNS = 3  # after these all is imported


def frame(outcome: Outcome, board: dict[str, Any], former: Block | None = None) -> bytes:
    """Return the frame of one outcome; `board` holds what changed on it. The `former` block is not sent again."""
    same = outcome.block is former and bool(former)
    families = [] if same else [(name, text) for name, (text, _) in outcome.block.items()]
    head = json.dumps(
        {
            "collector": outcome.collector, "state": outcome.state, "seconds": outcome.seconds,
            "reason": outcome.reason, "series": outcome.series, "dropped": outcome.dropped,
            "group": outcome.group,
            "same": same,
            "families": [(name, len(text)) for name, text in families], "board": board,
        }
    ).encode()  # fmt: skip
    body = "".join(text for _, text in families).encode("utf-8", "replace")
    return LENGTHS.pack(len(head), len(body)) + head + body


END = LENGTHS.pack(0, 0)


def frames(buffer: bytearray, former: dict[str, Block]) -> Iterator[tuple[Outcome, dict[str, Any]] | None]:
    """Take whole frames off the front of a buffer; None is the end of a turn. Raises ValueError on nonsense.

    `former` keeps the last block of each collector, for those that are not sent again.
    """
    while len(buffer) >= LENGTHS.size:
        head, body = LENGTHS.unpack_from(buffer)
        if head > LARGEST or body > LARGEST:
            raise ValueError(f"a frame of {head} + {body} bytes")
        end = LENGTHS.size + head + body
        if len(buffer) < end:
            return
        told, text = bytes(buffer[LENGTHS.size : LENGTHS.size + head]), buffer[LENGTHS.size + head : end].decode()
        del buffer[:end]
        yield _outcome(json.loads(told), text, former) if head else None


def _outcome(told: dict[str, Any], text: str, former: dict[str, Block]) -> tuple[Outcome, dict[str, Any]]:
    block: dict[str, tuple[str, str]] = {}
    at = 0
    for name, letters in told["families"]:
        lines = text[at : at + letters]
        block[name] = (lines, lines)
        at += letters
    if not told["same"]:
        former[told["collector"]] = block
    outcome = Outcome(
        told["collector"], told["state"], told["seconds"], told["reason"], former[told["collector"]], told["series"],
        told["dropped"], told["group"],
    )  # fmt: skip
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


def serve(requests: BinaryIO, answers: BinaryIO, place: Place) -> None:
    """Answer requests until they end."""
    crew = Crew(collectors(), place)
    told: dict[str, str] = {}
    sent: dict[str, Block] = {}
    for turn, line in enumerate(requests):
        request = json.loads(line)
        place.board["without"] = frozenset(request.get("without", ()))
        begun_s = time.monotonic()
        for collector in request["due"]:
            outcome = crew.run(collector)
            answers.write(frame(outcome, _news(place.board, told), sent.get(collector)))
            sent[collector] = outcome.block
            if time.monotonic() - begun_s > SOON_S:  # one may hang: what is there must not wait for it
                answers.flush()
        place.board["calling"](-1, "")
        answers.write(END)
        answers.flush()
        if turn == FIRST_TURNS:
            give_back()


def _news(board: dict[str, Any], told: dict[str, str]) -> dict[str, Any]:
    """Return what changed on the board since the last frame; names with an underscore stay here."""
    news = {}
    for name, value in list(board.items()):
        if name.startswith("_") or name in ("calling", "without"):
            continue
        shown = json.dumps(value)
        if told.get(name) != shown:
            told[name] = shown
            news[name] = value
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
        options=given["options"], nvml=pynvml, board={"calling": noting(memory), "gpus": given["gpus"]},
    )  # fmt: skip
    try:
        serve(sys.stdin.buffer, answers, place)
    except BrokenPipeError:  # the agent went away
        os._exit(0)
