"""The network of engines' hosts, what the gateway sees, and ranks that split attention."""

import numpy as np
import pytest

from skewscope.simulate import simulate
from skewscope.simulate.attention import balance
from skewscope.simulate.scenario import parse

FAULTS = ("srv-ingress-loss", "srv-egress-backlog", "srv-egress-jitter", "srv-dp-attention-imbalance")
FIRST, TOKEN = "serving_gateway_time_to_first_token_seconds", "serving_gateway_inter_token_latency_seconds"


def made(condition="", severity=0.25, seed=2, **more):
    job = {"name": "chat", "kind": "serving", "ranks": 32, "tp": 4, "steps": 300, **more}
    faults = [{"condition": condition, "severity": severity, "shape": "steady"}] if condition else []
    return simulate(parse({"jobs": [job], "faults": faults}, "serving"), seed)


def shown(one, metric, labels="", node=""):
    table = one.tables["windows"]
    mine = (table["metric"] == f"skewscope_{metric}").to_numpy()
    rows = table[mine & table["labels"].astype(str).str.contains(labels, regex=False).to_numpy()]
    rows = rows[(rows["node"] == node).to_numpy()] if node else rows
    onset_ns = one.truth["faults"][0]["onset_ns"]
    early, late = (rows["t_ns"] <= onset_ns).to_numpy(), (rows["t_ns"] > onset_ns + 30 * 10**9).to_numpy()
    column = "increase_value" if rows["increase_value"].notna().any() else "mean_value"
    return [float(rows[part][column].sum()) / max(int(part.sum()), 1) for part in (early, late)]


def each(one, metric):
    spent, count = (shown(one, f"{metric}_{part}") for part in ("sum", "count"))
    return [spent[at] / count[at] for at in (0, 1)]


@pytest.mark.parametrize("condition", FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_requests_pay_the_share_that_a_fault_takes(condition, seed):
    (told,) = made(condition, 0.2, seed, attention_ranks=4).truth["faults"]
    assert told["lost_share"] == pytest.approx(0.2, abs=0.02)
    replica = condition == "srv-dp-attention-imbalance"
    assert told["subject"] == (f"{told['node']}/chat-{told['ranks'][0] // 4}" if replica else told["node"])


def test_engines_see_nothing_of_what_happens_outside():
    for condition in FAULTS[:3]:
        one = made(condition)
        before, after = each(one, "serving_request_seconds")
        assert after == pytest.approx(before, rel=0.1), condition


def test_lost_segments_come_twice_or_are_dropped_and_first_tokens_are_late():
    one = made("srv-ingress-loss")
    node = one.truth["faults"][0]["node"]
    before, after = (
        sum(shown(one, f"tcp_{what}_total", node=node)[at] for what in ("duplicate_segments", "drops")) for at in (0, 1)
    )
    total = shown(one, "tcp_segments_total", "direction=receive", node)[1]
    assert before < 1e-3 * total < after
    assert each(one, FIRST)[1] > 2 * each(one, FIRST)[0]
    assert each(one, TOKEN)[1] == pytest.approx(each(one, TOKEN)[0], rel=0.1)


def test_what_waits_is_what_leaves_meanwhile():
    one = made("srv-egress-backlog")
    (told,) = one.truth["faults"]
    before, after = shown(one, "tcp_send_queue_bytes", node=told["node"])
    sent = shown(one, "ethernet_transmit_bytes_total", node=told["node"])[1] / 30.0
    assert after > 10 * before and after / sent == pytest.approx(told["lost_s_per_step"], rel=0.35)
    longest = shown(one, "tcp_send_queue_max_bytes", node=told["node"])[1]
    assert longest < 0.1 * after


def test_fitful_tokens_are_few_and_late():
    one = made("srv-egress-jitter")
    node = one.truth["faults"][0]["node"]
    dropped = shown(one, "ethernet_drops_total", "direction=transmit", node)
    assert dropped[0] == 0 and dropped[1] > 0
    counts = [shown(one, f"{TOKEN}_bucket", f"le={bound}") for bound in ("0.05", "+Inf")]
    within = [counts[0][at] / counts[1][at] for at in (0, 1)]
    assert within[0] - within[1] == pytest.approx(0.06 * 2 / 8, rel=0.5)


def test_ranks_of_attention_share_the_work_and_one_gets_more():
    one = made("srv-dp-attention-imbalance", 0.3, attention_ranks=4, requests_per_s=4.0)
    name = one.truth["faults"][0]["subject"].partition("/")[2]
    whole = made("srv-dp-attention-imbalance", 0.3, requests_per_s=4.0)
    metric = "serving_generation_tokens_total"
    ranks = [shown(one, metric, f"replica={name}" + (f"/{rank}" if rank else ","))[1] for rank in range(1, 4)]
    table = one.tables["windows"]
    mine = table[(table["metric"] == f"skewscope_{metric}").to_numpy()]
    labels = mine["labels"].astype(str)
    late = (mine["t_ns"] > one.truth["faults"][0]["onset_ns"] + 30 * 10**9).to_numpy()
    names = [f"replica={name}", *(f"replica={name}/{rank}" for rank in range(1, 4))]
    sums = [float(mine[(labels.str.endswith(text)).to_numpy() & late]["increase_value"].sum()) for text in names]
    assert np.mean(sums) / max(sums) == pytest.approx(float(balance(np.array([0.3]))[0]), abs=0.05)
    assert len(ranks) == 3 and min(ranks) > 0
    total = whole.tables["windows"]
    same = total[
        ((total["metric"] == f"skewscope_{metric}") & total["labels"].astype(str).str.endswith(name)).to_numpy()
    ]
    same = same[(same["t_ns"] > one.truth["faults"][0]["onset_ns"] + 30 * 10**9).to_numpy()]
    assert sum(sums) == pytest.approx(float(same["increase_value"].sum()), rel=1e-3)


def test_an_even_load_is_even():
    assert balance(np.array([0.0]))[0] == 1.0
