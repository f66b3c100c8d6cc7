"""Findings, culprits and boards for tests: what is not said is as in a usual one."""

from __future__ import annotations

from typing import Any

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Window
from skewscope.watch.incidents import Board, Seen, advance

SECOND_NS = 10**9
WINDOW_NS = 30 * SECOND_NS
START_NS = 1_750_000_020 * SECOND_NS
HOT, SLOW, LATE, LOST = "gpu-hw-slowdown", "gpu-slow-silent", "coll-late-rank", "gpu-off-bus"
GPU = subjects.gpu("n3", 1, rank=7)


def at(window: int) -> int:
    """Return the end of a window, ns."""
    return START_NS + window * WINDOW_NS


def finding(
    condition: str = HOT, subject: subjects.Subject = GPU, share: float = 0.2, *, severity: str = "S2",
    end_ns: int = -1, start_ns: int = -1, **other: Any,
) -> Finding:  # fmt: skip
    fields: dict[str, Any] = {
        "role": "culprit", "confidence": 0.9, "lost_s": 2.0 * share,
        "evidence": (Evidence("ratio", 0.4, 0.0, 0.2, "ratio"),), "summary": f"{condition} on {subject.id}",
        "advice": "look there",
    }  # fmt: skip
    return Finding(
        condition, subject, severity=severity, window=Window(start_ns, end_ns), lost_share=share, **fields | other
    )


def seen(*args: Any, job: str = "llm", ranks: int = 16, stopped: bool = False, others: Any = (), **kw: Any) -> Seen:
    return Seen(finding(*args, **kw), tuple(others), job, ranks, stopped)


class Story:
    """A board that is moved on window by window; keeps all boards that were."""

    def __init__(self, board: Board | None = None, **kw: Any) -> None:
        self.window, self.kw = 0, kw
        self.boards = [board or Board()]

    @property
    def board(self) -> Board:
        return self.boards[-1]

    def go(self, *found: Seen, windows: int = 1, skip: int = 0, **kw: Any) -> Board:
        """Take `windows` windows with the same culprits, after `skip` windows in which nobody looked."""
        self.window += skip
        for _ in range(windows):
            self.window += 1
            self.boards.append(advance(self.board, at(self.window), found, **self.kw | kw))
        return self.board

    @property
    def one(self):
        """The only incident."""
        (only,) = self.board.incidents
        return only
