"""Synthetic operation-level traces: a plain simulator of pipelines, written apart from the code that it tests."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from skewscope.frames import frame

TRANSFER = 1_000_000
FORWARD, BACKWARD = 100_000_000, 200_000_000
Cost = Callable[[str, int, int, int, int], float]  # phase, replica, stage, microbatch, step -> factor


def orders(stages: int, chunks: int, batches: int) -> list[list[tuple[str, int, int]]]:
    """Return per stage the (phase, chunk, microbatch) order of 1F1B (one chunk) or interleaved 1F1B."""
    total = chunks * batches
    forward = [((k // stages) % chunks, k % stages + stages * (k // (stages * chunks))) for k in range(total)]
    if chunks == 1:
        forward = [(0, k) for k in range(total)]
    found = []
    for stage in range(stages):
        warm = stages - stage - 1 if chunks == 1 else (stages - stage - 1) * 2 + (chunks - 1) * stages
        warm = min(warm, total)
        f = [("forward", chunk, batch) for chunk, batch in forward]
        b = [("backward", chunks - 1 - chunk, batch) for chunk, batch in forward]
        steady = [one for pair in zip(f[warm:], b, strict=False) for one in pair]
        found.append(f[:warm] + steady + b[total - warm :])
    return found


def trace(
    cost: Cost = lambda *_: 1.0, *, replicas: int = 4, stages: int = 2, chunks: int = 1, batches: int = 8,
    steps: int = 8, batches_of: dict[int, int] | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Return `ops` and `ranks`; rank = replica + replicas * stage."""
    rows: list[tuple[int, int, int, int, int, str, int, int, int]] = []
    clock = 0
    for step in range(steps):
        lanes = [_lane(cost, replica, stages, chunks, (batches_of or {}).get(step, batches), step, clock)
                 for replica in range(replicas)]  # fmt: skip
        done = max(_ended(lane, stage) for lane in lanes for stage in range(stages)) + 5 * TRANSFER
        for replica, lane in enumerate(lanes):
            for stage, batch, chunk, op, seq, start, end in lane:
                rows.append((replica + replicas * stage, step, stage, batch, chunk, op, seq, start, end))
            for stage in range(stages):
                mine = _ended(lane, stage)
                reduced = max(_ended(other, stage) for other in lanes) + 5 * TRANSFER
                tail = [("grads_reduce_scatter", mine, reduced), ("optimizer_clip_main_grad", reduced, done + TRANSFER),
                        ("optimizer", done + TRANSFER, done + 11 * TRANSFER)]  # fmt: skip
                rows += [(replica + replicas * stage, step, stage, -1, -1, op, 0, a, b) for op, a, b in tail]
        clock = done + 20 * TRANSFER
    names = ["rank", "step", "stage", "microbatch", "chunk", "op", "seq", "start_ns", "end_ns"]
    ops = pd.DataFrame(rows, columns=names)
    ranks = frame("ranks", {
        "job": "job", "rank": range(replicas * stages), "dp": [r % replicas for r in range(replicas * stages)],
        "pp": [r // replicas for r in range(replicas * stages)],
    })  # fmt: skip
    return {"ops": frame("ops", {"job": "job", "stream": 0, **{name: ops[name] for name in names}}), "ranks": ranks}


def _ended(lane: list[tuple[int, int, int, str, int, int, int]], stage: int) -> int:
    return max(row[-1] for row in lane if row[0] == stage and row[3].endswith("compute"))


def _lane(
    cost: Cost, replica: int, stages: int, chunks: int, batches: int, step: int, clock: int
) -> list[tuple[int, int, int, str, int, int, int]]:
    """Simulate one replica of one step: (stage, microbatch, chunk, op, seq, start, end)."""
    todo = [list(order) for order in orders(stages, chunks, batches)]
    free = [clock] * stages
    last = stages * chunks - 1
    ended: dict[tuple[str, int, int], int] = {}
    posted = {(phase, stage): clock for phase in ("forward", "backward") for stage in range(stages)}
    seqs: dict[tuple[str, int], int] = {}
    rows: list[tuple[int, int, int, str, int, int, int]] = []

    def log(stage: int, batch: int, chunk: int, op: str, start: int, end: int) -> None:
        seq = seqs.get((op, stage), 0)
        seqs[op, stage] = seq + 1
        rows.append((stage, batch, chunk, op, seq, start, end))

    while any(todo):
        moved = False
        for stage in range(stages):
            while todo[stage]:
                phase, chunk, batch = todo[stage][0]
                place = chunk * stages + stage
                before = place - 1 if phase == "forward" else place + 1
                first = place == (0 if phase == "forward" else last)
                if not first and (phase, before, batch) not in ended:
                    break
                start = free[stage]
                if not first:
                    sent = ended[phase, before, batch]
                    met = max(sent, posted[phase, stage]) + TRANSFER
                    log(before % stages, -1, -1, f"{phase}_send", sent, met)
                    log(stage, -1, -1, f"{phase}_recv", posted[phase, stage], met)
                    start = max(start, met)
                usual = FORWARD if phase == "forward" else BACKWARD
                end = start + int(usual * cost(phase, replica, stage, batch, step))
                log(stage, batch, chunk, f"{phase}_compute", start, end)
                ended[phase, place, batch] = free[stage] = posted[phase, stage] = end
                todo[stage].pop(0)
                moved = True
        assert moved, "the schedule deadlocks"
    return rows
