from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.worker_times import WorkerTimes

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

DATA = Path(__file__).parents[2] / "../shared/data/alibaba-minibatch-stragglers"


def test_rows_of_a_worker_are_its_steps(tmp_path):
    path = tmp_path / "job.csv"
    path.write_text(",worker,gpu,time,batch_time_norm\n0,0,25,1,100\n1,1,25,1,150\n2,0,25,2,110\n3,1,25,2,0\n")
    reading = WorkerTimes().read(path)
    found = frame(*reading.batches[0])
    assert found["step"].tolist() == [0, 0, 1] and found["start_ns"].tolist() == [0, 0, 150_000_000]
    assert reading.world_size == 2 and any("unit unknown" in warning for warning in reading.warnings)
    assert any(warning.startswith("1 rows") for warning in reading.warnings)


def test_other_tables_are_refused(tmp_path):
    path = tmp_path / "cov.csv"
    path.write_text(",0,1,2\njob_01,0.1,0.2,0.3\n")
    assert WorkerTimes().sniff(path.read_bytes(), path.name) > 0
    with pytest.raises(Unreadable, match="one row per job"):
        WorkerTimes().read(path)


def test_real_job():
    path = DATA / "job_2_norm.csv.gz"
    if not path.exists():
        pytest.skip("shared data is not here")
    found = frame(*WorkerTimes().read(path).batches[0])
    length = (found["end_ns"] - found["start_ns"]).groupby(found["rank"]).median()
    assert int(length.idxmax()) == 5 and set(np.argsort(length.to_numpy())[:2]) == {0, 1}


@drawn
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10**6)), min_size=1, max_size=12), st.permutations(range(3))
)
def test_all_rows_come_back_in_steps_that_begin_together(tmp_path, told, order):
    """A worker's k-th row is its step k; a step begins when the slowest worker has ended the one before."""
    names = ("worker", "batch_time_norm", "time")
    lines = [[names[at] for at in order]]
    lines += [[(str(worker), f"{thousandths / 1000}", "7")[at] for at in order] for worker, thousandths in told]
    path = tmp_path / "job.csv"
    path.write_text("".join(",".join(cells) + "\n" for cells in lines))
    reading = WorkerTimes().read(path)
    of_worker, steps = {}, {}
    for worker, thousandths in told:
        step = of_worker[worker] = of_worker.get(worker, -1) + 1
        steps.setdefault(step, []).append((worker, thousandths * 1000))
    want, begin = [], 0
    for step, rows in sorted(steps.items()):
        want += [(step, worker, begin, begin + length) for worker, length in rows]
        begin += max(length for _, length in rows)
    found = frame(*reading.batches[0])[["step", "rank", "start_ns", "end_ns"]]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(want)
    assert (reading.world_size, reading.events, reading.status) == (len(of_worker), len(told), "ok")


def test_a_row_without_an_end_is_told(tmp_path):
    path = tmp_path / "job.csv"
    path.write_text("worker,batch_time_norm\n0,100\n1,150")
    reading = WorkerTimes().read(path)
    assert reading.events == 1 and reading.status == "partial" and "no end" in reading.error
