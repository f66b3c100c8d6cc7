"""Step logs with what `torch.cuda.memory_stats` counts: an allocator that finds no memory and tries again."""

import json

import pytest

from skewscope.catalogue import room
from skewscope.frames import all_tables, concat, frame
from skewscope.signals.windows import windows
from skewscope.sources.step_log import StepLog

T0_NS = 1_700_000_010_000_000_000
STEP_NS = 2_000_000_000


@pytest.fixture
def logged(tmp_path):
    """Return a function that writes one step log a rank; `retries` and `failures` map a rank to its counts."""

    def write(retries, failures=None, ranks=4):
        for rank in range(ranks):
            path = tmp_path / f"steps_rank{rank}.jsonl"
            with path.open("w") as file:
                for step in range(90):
                    row = {"step": step, "rank": rank, "host": f"n{rank // 2}", "t_start_ns": T0_NS + step * STEP_NS,
                           "step_ms": 1990.0, "num_alloc_retries": retries.get(rank, lambda step: 0)(step),
                           "num_ooms": (failures or {}).get(rank, lambda step: 0)(step)}  # fmt: skip
                    file.write(json.dumps(row) + "\n")
        return tmp_path

    return write


def find(folder):
    read = [StepLog().read(path) for path in sorted(folder.iterdir())]
    rows = [frame(table, columns) for reading in read for table, columns in reading.batches if table == "samples"]
    samples = concat("samples", rows)
    made = all_tables({"windows": windows(samples)})
    return list(room("detectors", "mem-oom-risk").load().detect(made))


def test_the_rank_that_tries_again_is_named(logged):
    folder = logged({2: lambda step: max(0, step - 40) // 5}, {2: lambda step: int(step >= 70)})
    (found,) = find(folder)
    assert (found.condition, found.role, found.subject.rank, found.subject.node) == ("mem-oom-risk", "culprit", 2, "n1")
    told = {one.signal: one.value for one in found.evidence}
    assert told == {"allocations_tried_again": 9.0, "allocations_failed": 1.0}
    assert "found no memory 9 times" in found.summary and "expandable_segments" in found.advice


def test_counts_of_a_warm_up_and_of_before_are_nothing(logged):
    assert find(logged({1: lambda step: 7 if step > 4 else 0, 3: lambda step: 25})) == []


def test_a_restart_takes_nothing_back(logged):
    """The count of a new process begins at 0; what it counted before is no growth again."""
    assert find(logged({1: lambda step: 30 if step < 45 else 0})) == []


def test_all_ranks_alike_are_the_jobs(logged):
    (found,) = find(logged({rank: lambda step: step // 10 for rank in range(4)}))
    assert found.subject.id == "job"


def test_a_report_says_it(logged, analyzed):
    report = analyzed(logged({2: lambda step: step // 5}))
    (found,) = [one for one in report["findings"] if one["condition"] == "mem-oom-risk"]
    assert (found["role"], found["subject"]["rank"]) == ("culprit", 2)
