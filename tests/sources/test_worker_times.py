from pathlib import Path

import numpy as np
import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.worker_times import WorkerTimes

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
