"""A test of speed for a virtual node: as fast as its `slow.NODE` lets it be, told as `skewscope retest` tells it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from skewscope.retest.document import Measure, Result, line

ROUNDS, ROUND_S = 9, 0.05


def measured(node: str, slow: Path) -> Result:
    """Return the rounds a second that a node reaches."""
    factor = float(slow.read_text()) if slow.exists() else 1.0
    values = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        time.sleep(ROUND_S * factor)
        values.append(1.0 / (time.perf_counter() - start_s))
    return Result(node, time.time_ns(), "virtual", "sleep", (Measure("gemm", "flops", "cpu", "0.05 s", tuple(values)),))


if __name__ == "__main__":
    import os

    name = os.environ["SLURMD_NODENAME"]
    print(line(measured(name, Path(sys.argv[1]) / f"slow.{name}")))
