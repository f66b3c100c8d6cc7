import numpy as np
import pytest

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


SHARES = {  # condition -> what the struck replica shows more of
    "srv-early-stop-skew": "queue_seconds_sum", "kv-pressure": "kv_cache_usage_ratio",
    "srv-preempt-thrash": "preemptions_total", "srv-prefill-decode-interference": "prompt_tokens_total",
    "kv-transfer-slow": "kv_transfer_seconds_sum",
}  # fmt: skip


def struck(condition, severity=0.0, seed=2, shape="steady"):
    job = {"name": "chat", "kind": "serving", "ranks": 32, "tp": 4, "steps": 300, "transfer_s": 0.008}
    fault = {"condition": condition, "severity": severity, "shape": shape}
    return simulate(parse({"jobs": [job], "faults": [fault]}, "serving"), seed)


def of(made, replica, metric):
    rows = shown(made, metric)
    rows = rows[rows["labels"].astype(str).str.endswith(f"replica={replica}").to_numpy()]
    late = (rows["t_ns"] > made.truth["faults"][0]["onset_ns"]).to_numpy()
    column = "increase_value" if rows["increase_value"].notna().any() else "mean_value"
    return [float(rows[part][column].sum()) / max(part.sum(), 1) for part in (~late, late)]


@pytest.mark.parametrize("condition", SHARES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_replica_shows_its_fault_and_requests_pay_the_share_that_it_takes(condition, seed):
    made = struck(condition, 0.25, seed)
    (told,) = made.truth["faults"]
    assert told["subject"].partition("/")[0] == told["node"] and len(told["ranks"]) == 4
    replica = told["subject"].partition("/")[2]
    assert replica == f"chat-{told['ranks'][0] // 4}"
    before, after = of(made, replica, SHARES[condition])
    assert after > 1.3 * before
    other = next(f"chat-{at}" for at in range(8) if f"chat-{at}" != replica)
    usual = of(made, other, SHARES[condition])
    assert usual[1] <= 1.2 * usual[0]
    assert told["lost_share"] == pytest.approx(0.25, abs=0.06 if condition.startswith("srv-prefill") else 0.02)


def test_what_the_gateway_holds_back_waits_there_and_not_in_the_engines():
    made = struck("srv-ingress-starvation", 0.3)
    before, after = of(made, "chat-gateway", "gateway_requests_waiting")
    assert before == 0 and after > 10
    assert sum(of(made, f"chat-{at}", "requests_waiting")[1] for at in range(8)) < 1
    assert made.truth["faults"][0]["subject"] == "chat"


def test_a_burst_fills_queues_up_to_where_clients_go_away():
    made = struck("srv-admission-backlog", 2.0)
    waiting = shown(made, "requests_waiting")["mean_value"]
    assert waiting.max() == pytest.approx(320.0)
    assert made.truth["faults"][0]["lost_share"] > 0.5
    skewed = struck("srv-flow-skew", 2.0)
    assert (skewed.serving[0].waiting.max(axis=0) > 100).sum() == 1


def test_batches_that_are_not_refilled_fall_within_a_window():
    made = struck("srv-early-stop-skew", 0.25)
    replica = made.truth["faults"][0]["subject"].partition("/")[2]
    rows = shown(made, "requests_running")
    rows = rows[rows["labels"].astype(str).str.endswith(replica).to_numpy()]
    assert (rows["high_value"] / rows["low_value"]).max() == pytest.approx(2.0, rel=0.05)


def test_counts_of_tokens_by_their_time_are_cumulative_and_whole():
    made = struck("srv-prefill-decode-interference", 0.25)
    rows = shown(made, "inter_token_latency_seconds_bucket")
    rows = rows[(rows["t_ns"] == rows["t_ns"].max()).to_numpy() & rows["labels"].astype(str).str.contains("chat-0,")]
    bounds = rows["labels"].astype(str).str.rpartition("le=")[2].str.replace("+Inf", "inf").astype(float)
    counts = rows["last_value"].to_numpy()[np.argsort(bounds.to_numpy())]
    assert (np.diff(counts) >= 0).all() and (counts == np.round(counts)).all()
    tokens = shown(made, "inter_token_latency_seconds_count")
    mine = tokens["labels"].astype(str).str.endswith("chat-0") & (tokens["t_ns"] == tokens["t_ns"].max())
    assert counts[-1] == pytest.approx(float(tokens[mine.to_numpy()]["last_value"].iloc[0]), rel=1e-3)
