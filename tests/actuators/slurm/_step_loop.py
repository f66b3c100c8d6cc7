"""A rank of a small training job: computes (sleeps), then waits for all others, and records both as the hook does.

`slow.NODE` in the folder holds a factor by which that node computes slower. Run anew by Slurm, it goes on at the step
after its last checkpoint, and records into a spool of its own.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from skewscope.spool import KINDS, OPS, PHASES, RingWriter

COMPUTE_S, STEPS, PORT_S = 0.05, 4000, 30.0
COLLECTIVE, PHASE, STEP = (KINDS.index(name) for name in ("collective", "phase", "step"))
FOLDER = Path(sys.argv[-1])
RANK, WORLD = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))
NODE, JOB = os.environ.get("SLURMD_NODENAME", ""), os.environ.get("SLURM_JOB_ID", "0")
RUN = os.environ.get("SLURM_RESTART_COUNT", "0")


def factor() -> float:
    try:
        return float((FOLDER / f"slow.{NODE}").read_text() or 1)
    except OSError:
        return 1.0


def together() -> list[socket.socket]:
    """Return the connections to the other ranks, of rank 0 to all of them."""
    place = FOLDER / f"address.{JOB}.{RUN}"
    if RANK == 0:
        server = socket.create_server(("127.0.0.1", 0), backlog=WORLD)
        place.with_suffix(".new").write_text(str(server.getsockname()[1]))
        place.with_suffix(".new").rename(place)
        return [server.accept()[0] for _ in range(WORLD - 1)]
    end_s = time.monotonic() + PORT_S
    while not place.exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    return [socket.create_connection(("127.0.0.1", int(place.read_text())))]


def barrier(others: list[socket.socket]) -> None:
    if RANK == 0:
        for one in others:
            one.recv(1)
    for one in others:
        one.sendall(b"x")
    if RANK and not others[0].recv(1):
        sys.exit(0)


def main() -> None:
    spool = FOLDER / f"spool.{RUN}"
    spool.mkdir(exist_ok=True)
    ring = RingWriter(spool, job=JOB, rank=RANK, local_rank=0, world_size=WORLD, node=NODE, capacity=16384)
    group = ring.group(1, range(WORLD), RANK, "dp", "world")
    others = together()
    checkpoint = FOLDER / f"checkpoint.{JOB}"
    first = int(checkpoint.read_text()) + 1 if checkpoint.exists() else 0
    for step in range(first, first + STEPS):
        start_ns = time.monotonic_ns()
        time.sleep(COMPUTE_S * factor())
        ready_ns = time.monotonic_ns()
        barrier(others)
        end_ns = time.monotonic_ns()
        ring.write(PHASE, PHASES.index("forward"), step=step, start_ns=start_ns, end_ns=ready_ns)
        ring.write(COLLECTIVE, OPS.index("all_reduce"), group, 1, step, step, ready_ns, end_ns, size=1 << 20)
        ring.write(STEP, step=step, start_ns=start_ns, end_ns=end_ns)
        ring.beat()
        if RANK == 0 and step % 10 == 0:
            checkpoint.with_suffix(".new").write_text(str(step))
            checkpoint.with_suffix(".new").rename(checkpoint)


if __name__ == "__main__":
    main()
