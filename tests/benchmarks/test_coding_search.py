"""What the search for a coding scheme costs: 256 and 1,024 workers, 80 rounds, all schemes, the deadline included."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

from _measure import measure  # noqa: E402

from skewscope.coding import search, synthetic  # noqa: E402
from skewscope.coding.response import Response  # noqa: E402
from skewscope.coding.rounds import BEST, PUBLISHED, Rounds  # noqa: E402

ROUNDS = 80
REFERENCE_S = 60.0  # of the reference implementation, n=256, on the same two cores
BUDGET_S = 20.0  # of wall time on two cores of one's own, so at most twice as much of processor time
CANDIDATES = 5000

pytestmark = pytest.mark.benchmark


def run(workers: int, levels: int, rules: str, processes: int, out: str) -> None:
    """Search once and write down how many candidates there were."""
    rounds = Rounds.of(synthetic.lambda_like(ROUNDS, workers), 0.0, Response("additive", synthetic.SLOPE_S))
    grid = search.Grid(levels_most=levels, rules=BEST if rules == "best" else PUBLISHED)
    tried = search.search(rounds, ROUNDS, grid, processes)
    Path(out).write_text(json.dumps(len(tried.family)))


@pytest.mark.parametrize(("workers", "levels", "rules"), [
    (256, 96, "best"), (256, 256, "best"), (256, 96, "published"), (1024, 96, "best"),
])  # fmt: skip
def test_a_full_search(workers, levels, rules, tmp_path, capsys):
    out = tmp_path / "count.json"
    idle = measure(run, 8, 1, rules, 1, str(out))  # imports and a search of next to nothing
    cost = measure(run, workers, levels, rules, 2, str(out))
    count = json.loads(out.read_text())
    spent = cost.cpu_s - idle.cpu_s
    with capsys.disabled():
        print(f"\ncoding search, {workers} workers, {ROUNDS} rounds, {rules} rules: {count:,} candidates, "
              f"{spent:.1f} CPU s ({1e3 * spent / count:.2f} ms each) in two processes, {cost.wall_s:.1f} s of wall, "
              f"peak {cost.peak_bytes >> 20} MiB; reference about {REFERENCE_S:.0f} s for 256 workers")  # fmt: skip
    assert count >= CANDIDATES
    if workers == 256:
        assert spent <= 2 * BUDGET_S
