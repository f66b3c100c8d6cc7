"""What a job leaves on disk: step logs, profiler traces, flight recorder dumps, the watchdog's evidence."""

from __future__ import annotations

import faulthandler
import gzip
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from scenario import WATCHDOG_S, Scenario
from torch._C import _distributed_c10d as c10d
from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler

OTHERS_S = 20.0


class StepLog:
    """One JSON line a step: start, length, phases in milliseconds, tokens, loss."""

    def __init__(self, folder: Path, scenario: Scenario, rank: int) -> None:
        self.file = (folder / f"steps_rank{rank}.jsonl").open("w")
        self.rank, self.host = rank, scenario.host(rank)
        self.row: dict[str, object] = {}
        self.began = 0.0
        self.moved_at = time.monotonic()

    def begin(self, step: int) -> None:
        """Open the row of a step."""
        self.row = {"step": step, "rank": self.rank, "host": self.host, "t_start_ns": time.time_ns(), "step_ms": 0.0}
        self.began = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and mark it in the trace."""
        start = time.perf_counter()
        with record_function(name):
            yield
        self.row[f"{name}_ms"] = round((time.perf_counter() - start) * 1e3, 3)

    def end(self, tokens: int, loss: float | None, more: dict[str, int]) -> None:
        """Write the row."""
        self.row["step_ms"] = round((time.perf_counter() - self.began) * 1e3, 3)
        self.row |= {"tokens": tokens, "loss": None if loss is None else round(loss, 3), **more}
        self.file.write(json.dumps(self.row) + "\n")
        self.file.flush()
        self.moved_at = time.monotonic()


def profiler(folder: Path, scenario: Scenario, rank: int) -> profile:
    """Return the profiler of a rank."""
    if scenario.named_by_board:
        ready = tensorboard_trace_handler(str(folder), f"{scenario.host(rank)}_{os.getpid()}", use_gzip=True)
    else:

        def ready(traced: profile) -> None:
            traced.export_chrome_trace(str(folder / f"rank{rank}.pt.trace.json.gz"))

    plan = schedule(wait=scenario.wait, warmup=scenario.warmup, active=scenario.active, repeat=1)
    return profile(
        activities=[ProfilerActivity.CPU], schedule=plan, on_trace_ready=ready,
        record_shapes=True, with_stack=scenario.with_stack,
    )  # fmt: skip


def dump_flight(folder: Path, rank: int, *, as_pickle: bool) -> None:
    """Write the flight recorder as JSON and, where asked, as the pickle with stacks."""
    with gzip.open(folder / f"fr_rank{rank}.json.gz", "wb") as file:
        file.write(c10d._dump_fr_trace_json())
    if as_pickle:
        (folder / f"nccl_trace_rank_{rank}").write_bytes(c10d._dump_fr_trace())


def watch(folder: Path, rank: int, log: StepLog, limit_s: float = WATCHDOG_S) -> None:
    """Start a thread that dumps everything and ends the process when no step has ended for `limit_s`."""

    def run() -> None:
        while time.monotonic() - log.moved_at < limit_s:
            time.sleep(0.2)
        dump_flight(folder, rank, as_pickle=True)
        with (folder / f"stack_rank{rank}.txt").open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        fired = {"rank": rank, "dumped_at_ns": time.time_ns(), "no_progress_s": limit_s}
        (folder / f"watchdog_rank{rank}.json").write_text(json.dumps(fired))
        # Who ends first closes connections on which others still wait: let them write down what they saw before.
        sys.excepthook = lambda *_: os._exit(0)
        until_s = time.monotonic() + OTHERS_S
        while len(list(folder.glob("watchdog_rank*.json"))) < dist.get_world_size() and time.monotonic() < until_s:
            time.sleep(0.1)
        os._exit(0)

    threading.Thread(target=run, daemon=True).start()


def quiet() -> None:
    """One thread of arithmetic per rank: two cores carry them all."""
    torch.set_num_threads(1)
