"""A simulated job of many ranks, written and analysed range of steps by range of steps: cost and memory of it all.

SKEWSCOPE_BENCH_SCALE is "RANKS,STEPS,WORKERS" ("512,40,2" unless told; "10000,1000,2" is the job of 180 million rows,
which wants 2 GB of disk); SKEWSCOPE_BENCH_FOLDER keeps the recording there and reads it again the next time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from skewscope.simulate.partitions import write
from skewscope.simulate.scenario import parse

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

RANKS, STEPS, WORKERS = (int(part) for part in os.environ.get("SKEWSCOPE_BENCH_SCALE", "512,40,2").split(","))
FULL = RANKS >= 10_000 and STEPS >= 1_000
PART_STEPS = 20
MOST_WALL_S, MOST_BYTES = 15 * 60, 6_000_000_000
LOOK_S = 0.25
PARTED_ROWS = 100_000  # so that the small job goes the way of the large one
COMMAND = """
import sys
from skewscope.partitioned import _layout
_layout.LIMIT_ROWS = min(_layout.LIMIT_ROWS, int(sys.argv.pop(1)))
from skewscope.commands import main
sys.exit(main())
"""

pytestmark = pytest.mark.benchmark


def job(folder: Path) -> dict:
    """Return the truth of the recording in `folder`, written unless there."""
    if not (folder / "truth.json").exists():
        plan = {"ranks": RANKS, "steps": STEPS, "step_s": 2.0, "tp": 8, "pp": 2, "microbatches": 2}
        slow = {"condition": "gpu-slow-silent", "shape": "steady", "severity": 0.4, "onset": 0.3}
        start = time.process_time()
        write(parse({"jobs": [plan], "faults": [slow]}, "one-slow"), folder, steps_per_part=PART_STEPS)
        print(f"\nwritten in {time.process_time() - start:.0f} CPU s")
    return json.loads((folder / "truth.json").read_text())


def measured(command: list[str]) -> tuple[float, float, int]:
    """Return CPU s, wall s and the peak of the memory that a command and all its children hold together, bytes."""
    start, most, cpu = time.perf_counter(), 0, {}
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        held = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                held += one.memory_info().rss
                cpu[one.pid] = sum(one.cpu_times()[:2])
            except psutil.Error:
                continue
        most = max(most, held)
        time.sleep(LOOK_S)
    assert process.returncode == 0
    return sum(cpu.values()), time.perf_counter() - start, most


def test_one_slow_rank_of_many_is_found(tmp_path, capsys):
    folder = Path(os.environ.get("SKEWSCOPE_BENCH_FOLDER", tmp_path / "job"))
    report = tmp_path / "report.json"
    with capsys.disabled():
        truth = job(folder)
        words = ["analyze", str(folder), "--json", str(report), "--workers", str(WORKERS), "-q"]
        cpu_s, wall_s, most = measured([sys.executable, "-c", COMMAND, str(PARTED_ROWS), *words])
        rows = ", ".join(f"{count:,} {table}" for table, count in truth["rows"].items())
        print(f"\n{RANKS:,} ranks x {STEPS:,} steps ({rows}), {WORKERS} processes: {cpu_s:.0f} CPU s, "
              f"wall {wall_s:.0f} s, peak of the tree {most / 1e9:.2f} GB")  # fmt: skip
    found = json.loads(report.read_text())
    named = [one["subject"]["rank"] for one in found["findings"]
             if one["role"] == "culprit" and one["condition"] == "coll-late-rank"]  # fmt: skip
    assert named == truth["faults"][0]["ranks"]
    assert found["job"]["ranks"] == RANKS and found["job"]["steps"] == STEPS
    if FULL:
        assert most <= MOST_BYTES and wall_s <= MOST_WALL_S
