import numpy as np

from skewscope.simulate import simulate
from skewscope.simulate.scenario import parse


def made(requests_per_s=2.0, faults=()):
    job = {"name": "chat", "kind": "serving", "ranks": 16, "tp": 4, "steps": 600, "requests_per_s": requests_per_s}
    return simulate(parse({"jobs": [job], "faults": list(faults)}, "serving"), 2)


def shown(simulation, metric):
    table = simulation.tables["windows"]
    return table[(table["metric"] == f"skewscope_serving_{metric}").to_numpy()]


def test_what_came_is_finished_or_waits():
    one = next(iter(made(9.0).serving.values()))
    left = one.arrived.sum(axis=0) - one.finished.sum(axis=0)
    assert (left >= 0).all() and left.sum() > 0


def test_more_load_means_longer_waits():
    quiet, full = made(1.0), made(9.0)
    waits = [shown(one, "queue_seconds_sum")["increase_value"].sum() for one in (quiet, full)]
    assert waits[1] > waits[0]
    used = [shown(one, "kv_cache_usage_ratio")["mean_value"].mean() for one in (quiet, full)]
    assert 0 < used[0] < used[1] < 1


def test_a_slow_gpu_slows_its_replica_only():
    slow = {"condition": "gpu-slow-silent", "target": "n000/gpu5", "severity": 0.5, "shape": "steady", "onset": 0.0}
    between = [next(iter(one.serving.values())).between_s.mean(axis=0) for one in (made(), made(faults=[slow]))]
    assert np.flatnonzero(between[1] > 1.2 * between[0]).tolist() == [1]


def test_there_is_no_training_where_nobody_trains():
    assert "step_times" not in made().tables and not made().runs
