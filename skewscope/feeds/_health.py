"""Who answered in a window, and what went wrong for whom."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .contract import MOST_ERRORS, WINDOW_NS

MOST_NAMED = 3
MOST_KEPT = 100_000  # errors that wait for their window


class Health:
    """Answers and errors by time; safe for one that notes and one that asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: list[tuple[str, str]] = []
        self._answers: dict[str, set[int]] = {}  # page -> windows with an answer
        self._errors: dict[tuple[int, str], dict[str, None]] = {}  # window, reason -> nodes

    def expect(self, pages: Iterable[tuple[str, str]]) -> None:
        """Take (node, page) of all that should answer from now on."""
        with self._lock:
            self._pages = list(pages)
            wanted = {page for _, page in self._pages}
            for page in [page for page in self._answers if page not in wanted]:
                del self._answers[page]

    def answered(self, page: str, t_ns: int) -> None:
        """Note that a page came."""
        with self._lock:
            self._answers.setdefault(page, set()).add(_end(t_ns))

    def error(self, node: str, reason: str, t_ns: int) -> None:
        """Note what went wrong for a node, "" for all."""
        with self._lock:
            if len(self._errors) < MOST_KEPT:
                self._errors.setdefault((_end(t_ns), reason), {})[node] = None

    def window(self, end_ns: int) -> tuple[set[str], tuple[str, ...]]:
        """Return nodes of which a page did not come in a window, and errors: one for each reason, with the nodes.

        Errors that came too late for their own window are told with the next one.
        """
        with self._lock:
            missing = {node for node, page in self._pages if end_ns not in self._answers.get(page, ())}
            told = {reason: nodes for (end, reason), nodes in self._errors.items() if end <= end_ns}
            self._errors = {key: nodes for key, nodes in self._errors.items() if key[0] > end_ns}
            for ends in self._answers.values():
                ends.intersection_update({end for end in ends if end > end_ns})
        common = sorted(told.items(), key=lambda item: -len(item[1]))
        return missing, tuple(_line(reason, list(nodes)) for reason, nodes in common[: MOST_ERRORS + 1])


def _end(t_ns: int) -> int:
    return -(-t_ns // WINDOW_NS) * WINDOW_NS


def _line(reason: str, nodes: list[str]) -> str:
    """Return one line.

    >>> _line("timed out", ["n1", "n2", "n3", "n4", "n5"]), _line("no file", [""])
    ('n1, n2, n3 and 2 more: timed out', 'no file')
    """
    named = ", ".join(nodes[:MOST_NAMED]) + (f" and {len(nodes) - MOST_NAMED} more" if len(nodes) > MOST_NAMED else "")
    return f"{named}: {reason}" if named else reason
