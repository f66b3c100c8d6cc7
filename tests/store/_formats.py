"""Writes what today's code keeps on disk, small and the same each time: `python tests/store/_formats.py`.

A format that changes gets a new number: the folder of the old one stays as it is, and readers go on reading it.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from skewscope.acting.audit import Audit
from skewscope.contracts import Coded, Reading
from skewscope.frames import concat, frame
from skewscope.sources._cache_file import encoded
from skewscope.store import Store
from skewscope.store.series import ordered
from skewscope.watch.notify.alertmanager import Alertmanager
from skewscope.watch.notify.messages import notification
from skewscope.watch.notify.outbox import Outbox

FOLDER = Path(__file__).with_name("formats")
NOW = 1
START_NS, STEP_NS = 1_750_000_530 * 10**9, 30 * 10**9
WINDOWS_COUNT = 33  # more than the quarter of an hour that becomes one segment
HOT = "gpu-hw-slowdown"
ACT = {"act": "a1", "verb": "drain", "target": "n3", "scheduler": "slurm", "before": {"state": "IDLE"},
       "after": {"state": "DRAIN"}, "why": [{"text": "n3/gpu5 runs hot"}]}  # fmt: skip
PHASES = ("proposed", "approved", "intended", "done", "undoing", "undone")


def window(number: int) -> pd.DataFrame:
    """Return window `number` (0, 1, ...) of two nodes: a gauge, a counter that grows, and values that are unknown."""
    value = np.array([100.0 + number, 200.0, np.nan, 0.5])
    return frame("windows", {
        "t_ns": np.full(4, START_NS + number * STEP_NS), "window_ns": STEP_NS, "node": ["n0", "n1", "n0", "n1"],
        "device": ["gpu0", "gpu0", "", "mlx5_0"], "job": ["llm", "llm", "", ""], "rank": [0, 1, -1, -1],
        "metric": ["skewscope_gpu_power_watts", "skewscope_gpu_power_watts", "skewscope_nfs_retransmissions_total",
                   "skewscope_nic_receive_bytes_total"],
        "mean_value": value, "low_value": value, "high_value": value, "last_value": value,
        "increase_value": [np.nan, np.nan, 3.0 * number, 1 << 20], "samples_count": 2,
    })  # fmt: skip


def events(number: int) -> pd.DataFrame:
    """Return the events of window `number`."""
    return frame("events", {
        "t_ns": [START_NS + number * STEP_NS - 10**9, -1], "node": ["n0", "n1"], "device": ["gpu3", ""],
        "event": ["xid", "restart"], "code": [79, -1], "message": ["GPU has fallen off the bus", ""],
    })  # fmt: skip


def kept() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all windows and events, as a store gives them."""
    told = [number for number in range(WINDOWS_COUNT) if number % 16 == 3]
    return ordered(concat("windows", map(window, range(WINDOWS_COUNT)))), concat("events", map(events, told))


def reading() -> Reading:
    """Return a reading of a file of one rank."""
    columns = {"rank": 3, "end_ns": np.arange(5) * STEP_NS, "op": Coded(np.array([0, 1, 1, 0, 1]), ["forward", "sync"])}
    return Reading("rank3.json", "kineto", 3, batches=[("ops", columns)], warnings=["cut"])


def main() -> int:
    """Write the folder of today's formats anew."""
    folder = FOLDER / str(NOW)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _store(folder / "store")
    _watch(folder / "watch")
    clock = iter(range(START_NS, START_NS + 10**9, 10**6))
    audit = Audit(folder / "audit.jsonl", lambda: next(clock), actor="ann")
    for phase in PHASES:
        audit.append(phase, **ACT)
    (folder / "kineto.reading").write_bytes(encoded(reading()))
    return 0


def _store(folder: Path) -> None:
    with Store(folder) as store:
        for number in range(WINDOWS_COUNT):
            store.append(window(number), events(number) if number % 16 == 3 else None)
        store.compact()
    (folder / ".lock").unlink()  # it holds the number of a process


def _watch(folder: Path) -> None:
    watched = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "watch" / "_watched.py")))
    folder.mkdir()
    box = Outbox(
        "webhook-0", partial(notification, link=""), watched.Receiver(), folder, clock_s=lambda: START_NS / 1e9
    )
    mail = Alertmanager("http://127.0.0.1:1", folder=folder)
    made = watched.Watched(only=(HOT,), folder=folder, outboxes=[box], alertmanagers=[mail])
    made.turn(*watched.told(HOT, -8, 4))
    board = made.service.board
    told = [(one.id, one.state, one.root.condition, one.root.subject.id, one.opened_ns) for one in board.incidents]
    facts = {"incidents": told, "waiting": box.waiting, "lost_gpu_s": made.service.totals.job_lost_gpu_s}
    (folder.parent / "expected.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
