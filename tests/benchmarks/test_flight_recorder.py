"""A hang of many ranks beside PyTorch's own analyser of flight recorder dumps, which ships with torch.

SKEWSCOPE_BENCH_DUMPS is "RANKS,ENTRIES" ("256,2000" unless told). Both read the same pickles and must name the rank
that never called the last all-reduce. Without torch, ours is measured alone; of a small set the gain is only printed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

from _measure import measure  # noqa: E402
from _sets import dumps  # noqa: E402

BENCH = HERE.parents[1] / ".bench"
RANKS, ENTRIES = (int(part) for part in os.environ.get("SKEWSCOPE_BENCH_DUMPS", "256,2000").split(","))
LEAST_CPU_GAIN = 1.5
LARGE = 100_000  # entries of all ranks, from which on the gain is judged
MOST_BYTES = 2 << 30
TOOLS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

pytestmark = pytest.mark.benchmark


def quiet(command: list[str], said: Path) -> list[str]:
    """Return a command line that runs `command` with all that it prints in the file `said`."""
    return ["/bin/sh", "-c", f"exec {shlex.join(command)} > {shlex.quote(str(said))} 2>&1"]


def row(name, cost, rank):
    return f"{name:24} {cost.cpu_s:8.1f} {cost.wall_s:8.1f} {cost.peak_bytes / 2**20:10.0f}   {rank}"


def test_a_hang_beside_torch(tmp_path, capsys):
    folder, report, said = BENCH / f"dumps-{RANKS}-{ENTRIES}", tmp_path / "report.json", tmp_path / "said.txt"
    size_bytes = sum(path.stat().st_size for path in dumps(folder, RANKS, ENTRIES))
    command = [shutil.which("skewscope", path=TOOLS), "analyze", str(folder), "--json", str(report), "-q"]
    runs = [measure(quiet(command, said)) for _ in range(2)]
    ours = min(runs, key=lambda cost: cost.cpu_s)
    found = json.loads(report.read_text())["findings"]
    named = [(one["condition"], one["subject"]["rank"]) for one in found if one["role"] == "culprit"]
    with capsys.disabled():
        print(f"\n{RANKS} ranks x {ENTRIES} entries, {size_bytes / 1e6:.0f} MB of pickles")
        print(f"{'':24} {'CPU s':>8} {'wall s':>8} {'peak MiB':>10}   named")
        print(row("skewscope", ours, named))
    assert named == [("coll-missing-rank", RANKS // 2)]
    assert ours.peak_bytes <= MOST_BYTES
    tool = shutil.which("torchfrtrace", path=TOOLS)
    if tool is None:
        pytest.skip("torchfrtrace is not installed: it comes with torch")
    theirs = measure(quiet([tool, str(folder)], said))
    missing = re.search(r"missing ranks: \{([\d, ]+)\}", said.read_text())
    with capsys.disabled():
        print(row("torchfrtrace", theirs, missing and missing[1]))
        print(f"{'torchfrtrace over ours':24} {theirs.cpu_s / ours.cpu_s:8.1f} {theirs.wall_s / ours.wall_s:8.1f} "
              f"{theirs.peak_bytes / ours.peak_bytes:10.1f}")  # fmt: skip
    if RANKS * ENTRIES >= LARGE:
        assert theirs.cpu_s >= LEAST_CPU_GAIN * ours.cpu_s
