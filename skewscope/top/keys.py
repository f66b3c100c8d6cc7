"""Keys of a terminal, one by one, without curses; the terminal is as before when the block is left, however."""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from .draw import Look
from .frame import COLUMNS

ESCAPE, ENTER, BACK = "\x1b", ("\r", "\n"), ("\x7f", "\b")
ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", "\x1b[5~": "page-up",
          "\x1b[6~": "page-down", "\x1b[H": "home", "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right",
          "\x1bOD": "left"}  # fmt: skip
ROWS = {"up": -1, "down": 1, "page-up": -10, "page-down": 10, "home": -(10**6), "k": -1, "j": 1}
SORTED = ("", *COLUMNS)
READ_BYTES = 1024


class Keys:
    """Reads keys from a terminal's file descriptor; -1 stands for no terminal, which gives none."""

    def __init__(self, source: int = -1) -> None:
        self._source = source
        self._rest = ""

    def wait(self, seconds: float) -> list[str]:
        """Return the keys pressed within so many seconds, none where nothing was; arrows by name."""
        if self._source < 0:
            return []
        ready, _, _ = select.select([self._source], [], [], seconds)
        if not ready:
            rest, self._rest = self._rest, ""
            return [rest] if rest == ESCAPE else []
        data = os.read(self._source, READ_BYTES)
        if not data:  # the terminal is gone
            self._source = -1
            return ["q"]
        found, self._rest = split(self._rest + data.decode("utf-8", "replace"))
        return found


def split(text: str) -> tuple[list[str], str]:
    r"""Return the keys in what a terminal sent, and the begin of a sequence whose end has not come.

    >>> split("q" + chr(27) + "[A" + chr(27))
    (['q', 'up'], '\x1b')
    """
    keys: list[str] = []
    while text:
        found = next((sent for sent in ARROWS if text.startswith(sent)), "")
        if found:
            keys.append(ARROWS[found])
        elif text[0] == ESCAPE and any(sent.startswith(text) for sent in ARROWS):
            return keys, text
        else:
            found = text[0]
            keys.append(found)
        text = text[len(found) :]
    return keys, ""


@contextmanager
def raw(source: int) -> Iterator[Keys]:
    """Give the keys of a terminal, which tells each at once and echoes none within the block; a pipe gives none.

    Ctrl-Z gives the shell a terminal as it was, and coming back takes it again.
    """
    if source < 0 or not os.isatty(source):
        yield Keys()
        return
    before = termios.tcgetattr(source)

    def stop(number: int, frame: FrameType | None) -> None:
        termios.tcsetattr(source, termios.TCSANOW, before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)

    def go_on(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTSTP, stop)
        with suppress(termios.error):  # still in the background
            tty.setcbreak(source, termios.TCSANOW)

    handlers = {
        number: signal.signal(number, take) for number, take in ((signal.SIGTSTP, stop), (signal.SIGCONT, go_on))
    }
    try:
        tty.setcbreak(source, termios.TCSANOW)
        yield Keys(source)
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def pressed(look: Look, key: str) -> Look | None:
    """Return how it is looked at after a key; None to end.

    >>> pressed(Look(), "q"), pressed(Look(), "right").column, pressed(Look(typing=True), "q").filter
    (None, 'state', 'q')
    """
    if look.typing:
        return _typed(look, key)
    if key in ("q", "Q", "\x03", "\x04"):
        return None
    if key in ("left", "right"):
        place = SORTED.index(look.column) if look.column in SORTED else 0
        return replace(look, column=SORTED[(place + (1 if key == "right" else -1)) % len(SORTED)], first=0)
    if key in ROWS:
        return replace(look, first=max(0, look.first + ROWS[key]))
    if key == "r":
        return replace(look, reverse=not look.reverse)
    if key == "/":
        return replace(look, typing=True)
    if key == " ":
        return replace(look, paused=not look.paused)
    return replace(look, filter="", first=0) if key == ESCAPE else look


def _typed(look: Look, key: str) -> Look:
    if key in ENTER:
        return replace(look, typing=False)
    if key == ESCAPE:
        return replace(look, typing=False, filter="", first=0)
    if key in BACK:
        return replace(look, filter=look.filter[:-1], first=0)
    return replace(look, filter=look.filter + key, first=0) if len(key) == 1 and key.isprintable() else look
