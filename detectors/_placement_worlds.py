"""A small job whose tensor-parallel groups lie well on their hosts, or across them, for `cases()`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skewscope.frames import frame

from ._live_worlds import TABLES, Fleet

Array = np.ndarray[Any, Any]
SECONDS, BYTES, STEPS, SHORTEST = (
    "skewscope_collective_seconds_total", "skewscope_collective_bytes_total", "skewscope_steps_total",
    "skewscope_collective_min_seconds",
)  # fmt: skip


class Job(Fleet):
    """A job whose groups of `tp` begin `shift` GPUs after a host does; calls of `ranks` take so long per step."""

    def __init__(self, shift: int, tp: int, inside_s: float, slow_s: float, since: int) -> None:
        super().__init__(nodes=4, step_s=0.5 + inside_s)
        count = len(self.nodes) * len(self.gpus)
        place = (np.arange(count) - shift) % count
        node = np.repeat(np.arange(len(self.nodes)), len(self.gpus))
        across = np.array([len(np.unique(node[place // tp == one])) > 1 for one in (place // tp).tolist()])
        self._tp_s = np.full((self.windows_count, count), inside_s)
        self._tp_s[since:, across] += slow_s
        self.ranks = {
            "job": "llm", "rank": np.arange(count), "node": [self.nodes[at] for at in node.tolist()],
            "gpu": np.arange(count) % len(self.gpus), "tp": place % tp, "dp": place // tp, "pp": 0, "cp": 0,
        }  # fmt: skip
        if slow_s:
            self.late(np.flatnonzero(across).tolist(), slow_s, since=since)  # the others wait for them later

    def _ranks(self) -> Iterable[tuple[str, str, str, str, str, int, Array]]:
        rows = list(super()._ranks())
        yield from rows
        labels = "op=all_reduce,group=tp"
        for metric, _, node, device, job, rank, count in rows:
            if metric == STEPS:
                yield SECONDS, labels, node, device, job, rank, count * self._tp_s[:, rank]
                yield BYTES, labels, node, device, job, rank, count * 2e9
                yield SHORTEST, labels, node, device, job, rank, self._tp_s[:, rank] / 16


def placed(shift: int, slow_s: float, *, tp: int = 2, since: int = 0) -> TABLES:
    """Return the tables of such a job, ranks among them."""
    job = Job(shift, tp, 0.02, slow_s, since)
    return job.tables() | {"ranks": frame("ranks", job.ranks)}
