import json

import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.job_file import JobFile


def read(folder, text, name="job.json"):
    path = folder / name
    path.write_text(text)
    return JobFile().read(path)


def test_json_gives_ranks_hosts_and_axes(tmp_path):
    ranks = [{"rank": 0, "host": "a", "local_rank": 0}, {"rank": 1, "host": "b", "local_rank": 0}]
    text = json.dumps({"world_size": 2, "ranks": ranks, "parallelism": {"dp": 2, "tp": 1, "x": 3}, "microbatches": 8})
    reading = read(tmp_path, text)
    assert reading.world_size == 2 and reading.rank == -1
    assert reading.job == {"parallelism": {"dp": 2, "tp": 1}, "hosts": {0: "a", 1: "b"}, "microbatches": 8}
    assert frame(*reading.batches[0])["node"].tolist() == ["a", "b"]


def test_flat_yaml(tmp_path):
    reading = read(tmp_path, "trial_name: AR\ndp_size: 4\npp_size: 4\ntp_size: 4\nworld_size: 64\n", "meta-AR.yaml")
    assert reading.world_size == 64 and reading.job["parallelism"] == {"dp": 4, "tp": 4, "pp": 4}


@pytest.mark.parametrize("text", ['{"world_size": "many"}', '{"world_size": 0}', "{", '{"ranks": []}', "dp_size: 4\n"])
def test_damage_is_unreadable(tmp_path, text):
    with pytest.raises(Unreadable):
        read(tmp_path, text)


def test_labels_are_not_jobs():
    assert JobFile().sniff(b'{"culprit_ranks": [5], "world_size": 8, "ranks": 8}', "truth.json") == 0.0
    assert JobFile().sniff(b'{"world_size": 8, "ranks": []}', "x") > 0.5
    assert JobFile().sniff(b"world_size: 8\ndp_size: 8\n", "meta.yaml") > 0.5
