from __future__ import annotations

import json

from skewscope.analysis import analyze
from skewscope.simulate import scenario as scenarios
from skewscope.simulate import simulate
from skewscope.sources import gather


def test_the_truth_lies_beside_its_tables_and_is_not_used(tmp_path):
    made = simulate(scenarios("gpu-clock-pinned-low"))
    for name in ("windows", "ranks", "events", "steps"):
        made.tables[name].to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "truth.json").write_text(json.dumps(made.truth))
    read = gather([tmp_path])
    assert {one.format: one.status for one in read.inputs} == {"simulation-truth": "ok", "canonical-table": "ok"}
    analysis = analyze(read)
    first = analysis.findings[0]
    # The steps' inside was not recorded: without the metrics the ideal step would be the measured one.
    assert analysis.summary["slowdown"] >= 1 / (1 - first.lost_share) - 0.1 > 1
    assert (first.condition, first.subject.id, first.role) == (
        "gpu-clock-pinned-low", made.truth["faults"][0]["subject"], "culprit",
    )  # fmt: skip
