"""The analysis of canonical tables of about a million calls: what it costs, and that cost grows with the rows only.

SKEWSCOPE_BENCH_ROWS is "RANKS,STEPS,CALLS" ("64,1000,16" unless told). Starting is most of the cost of a small set:
its growth is only printed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

from _measure import Cost, measure  # noqa: E402
from _sets import canonical  # noqa: E402
from test_flight_recorder import quiet  # noqa: E402

RANKS, STEPS, CALLS = (int(part) for part in os.environ.get("SKEWSCOPE_BENCH_ROWS", "64,1000,16").split(","))
PARTS = 4
LARGE = 500_000  # rows, from which on growth is judged
MOST_OF_WHOLE = 0.45  # of the whole for a quarter of the rows: what does not grow with them stays small
MOST_GROWTH = 1.15  # of the whole over four quarters: nothing grows faster than the rows
MOST_BYTES = 2 << 30

pytestmark = pytest.mark.benchmark


def analysed(folder: Path, report: Path) -> Cost:
    command = [str(Path(sys.executable).with_name("skewscope")), "analyze", str(folder), "--json", str(report), "-q"]
    runs = (measure(quiet(command, report.with_suffix(".txt"))) for _ in range(2))
    return min(runs, key=lambda cost: cost.cpu_s)


def test_cost_grows_with_the_rows_only(tmp_path, capsys):
    costs = []
    for steps in (STEPS // PARTS, STEPS):
        folder, report = tmp_path / f"steps-{steps}", tmp_path / f"report-{steps}.json"
        rows = canonical(folder, RANKS, steps, CALLS)
        cost = analysed(folder, report)
        found = json.loads(report.read_text())["findings"]
        named = [one["subject"]["rank"] for one in found if one["role"] == "culprit"]
        with capsys.disabled():
            print(f"\n{RANKS} ranks x {steps} steps x {CALLS} calls, {rows:,} rows: {cost.cpu_s:.2f} CPU s, "
                  f"wall {cost.wall_s:.2f} s, peak {cost.peak_bytes / 2**20:.0f} MiB, named {named}")  # fmt: skip
        assert named == [RANKS // 2]
        costs.append(cost)
    part, whole = costs
    with capsys.disabled():
        print(f"a quarter costs {part.cpu_s / whole.cpu_s:.2f} of the whole")
    assert whole.peak_bytes <= MOST_BYTES
    if rows >= LARGE:
        assert part.cpu_s <= MOST_OF_WHOLE * whole.cpu_s
        assert whole.cpu_s <= PARTS * MOST_GROWTH * part.cpu_s
