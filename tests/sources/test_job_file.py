import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.job_file import JobFile

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@drawn
@given(
    st.dictionaries(st.integers(0, 99), st.tuples(st.text(max_size=6), st.integers(-1, 15)), max_size=5),
    st.dictionaries(st.sampled_from(["dp", "tp", "pp", "ep", "cp", "vpp"]), st.none() | st.integers(-1, 64)),
    st.integers(1, 1 << 24), st.none() | st.integers(1, 99), st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_job_holds_what_was_written(tmp_path, places, axes, world, microbatches, chance):
    ranks = [{"local_rank": gpu, "host": host, "rank": rank} for rank, (host, gpu) in places.items()]
    told = [
        ("world_size", world),
        ("parallelism", axes),
        ("microbatches", microbatches),
        ("model", {"ü": []}),
        ("ranks", ranks),
    ]
    chance.shuffle(told)
    reading = read(tmp_path, json.dumps(dict(told)))
    known = {axis: size for axis, size in axes.items() if size and size > 0 and axis != "vpp"}
    assert reading.world_size == world and reading.job["parallelism"] == known
    assert reading.job["hosts"] == {rank: host for rank, (host, _) in places.items()}
    assert reading.job.get("microbatches") == microbatches
    rows = frame(*reading.batches[0])[["rank", "node", "gpu"]].values.tolist() if places else []
    assert rows == [[rank, host, gpu] for rank, (host, gpu) in places.items()]


@drawn
@given(st.integers(1, 4096), st.permutations(["dp", "pp", "tp", "ep"]), st.integers(1, 999), st.booleans())
def test_flat_yaml_in_any_order_holds_what_was_written(tmp_path, world, axes, size, noted):
    note = "  # as planned" if noted else ""
    lines = [f"{axis}_size: {size + at}{note}" for at, axis in enumerate(axes)]
    lines.insert(size % 4, f"world_size:  {world}{note}")
    reading = read(tmp_path, "\n".join(["trial_name: 7B", *lines]), "meta.yaml")
    assert reading.world_size == world
    assert reading.job["parallelism"] == {axis: size + at for at, axis in enumerate(axes)}
