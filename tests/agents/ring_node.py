"""A node with a fake /proc whose clock moves when told; the rings in its spool are real."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path

from skewscope import spool
from skewscope.catalogue import room
from skewscope.contracts import Place

COLLECTIVE = spool.KINDS.index("collective")
ALL_REDUCE = spool.OPS.index("all_reduce")
MS = 1_000_000


class Node:
    """What a test of ring readers needs; `look` is one tick."""

    def __init__(self, folder: Path, *, archive: Path | None = None, options: dict[str, str] | None = None) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir(exist_ok=True)
        self.proc = folder / "proc"
        self.now_s = time.monotonic()
        self.writers: list[spool.RingWriter] = []
        self.process(os.getpid(), os.getuid())
        self.place = Place(
            proc=self.proc, spool=self.spool, archive=archive, options=options or {},
            clock_s=lambda: self.now_s, now_s=lambda: 1_700_000_000 + self.now_s,
        )  # fmt: skip
        self.collector = self.start()

    def start(self):
        return room("agents.collectors", "collectives").kind()(self.place)

    def process(self, pid: int, uid: int) -> None:
        (self.proc / str(pid)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(pid) / "status").write_text(f"Name:\tpython\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")

    def ring(self, rank: int = 0, job: str = "llm", world_size: int = 2, **more) -> spool.RingWriter:
        more = {"capacity": 256} | more
        writer = spool.RingWriter(self.spool, job=job, rank=rank, world_size=world_size, **more)
        self.writers.append(writer)
        return writer

    def ns(self, after_ms: float = 0.0) -> int:
        return int(self.now_s * 1e9 + after_ms * MS)

    def look(self, collector=None, *, wait_s: float = 1.0):
        """Return metric (without prefix) -> labels -> value of the next look."""
        self.now_s += wait_s
        found = defaultdict(dict)
        for name, labels, value, *_ in (collector or self.collector).collect():
            assert labels not in found[name.removeprefix("skewscope_")], f"{name} {labels} is there twice"
            found[name.removeprefix("skewscope_")][labels] = value
        return found


def call(writer, group, seq, start_ns, ms=2.0, op=ALL_REDUCE, size=1 << 20, **more):
    writer.write(COLLECTIVE, op, group, 1, 0, seq, start_ns, int(start_ns + ms * MS), size=size, **more)
