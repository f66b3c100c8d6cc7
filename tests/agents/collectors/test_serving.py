from __future__ import annotations

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from skewscope.catalogue import load, room
from skewscope.contracts import Place
from skewscope.errors import NoData, Unreadable, UsageError

page = load("agents.collectors._engine_page")

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 12.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.71
vllm:gpu_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.70
vllm:prefix_cache_queries_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 5000.0
vllm:prefix_cache_queries_created{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1250.0
vllm:num_preemptions_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 2.0
vllm:prompt_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1.234567e+06
vllm:generation_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 345678.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="meta-llama/Llama-3.1-8B"} 90.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="meta-llama/Llama-3.1-8B"} 10.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 30.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 12.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 9.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="meta-llama/Llama-3.1-8B"} 90.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="meta-llama/Llama-3.1-8B"} 100.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="meta-llama/Llama-3.1-8B"} 100.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="meta-llama/Llama-3.1-8B"} 45.5
vllm:inter_token_latency_seconds_sum{engine="0",model_name="meta-llama/Llama-3.1-8B"} 9.5
vllm:inter_token_latency_seconds_count{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1000.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="meta-llama/Llama-3.1-8B"} NaN
vllm:something_new{engine="0"} 5
python_gc_objects_collected_total{generation="0"} 12345.0
"""
SGLANG = """# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"} 7.0
sglang:num_queue_reqs{engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"} 1.0
sglang:token_usage{engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"} 0.28
sglang:cache_hit_rate{engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"} 0.5
sglang:spec_accept_length{engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"} 2.5
sglang:prompt_tokens_total{model_name="Qwen/Qwen3-8B"} 8.128902e+06
sglang:generation_tokens_total{model_name="Qwen/Qwen3-8B"} 7.557572e+06
sglang:num_requests_total{model_name="Qwen/Qwen3-8B"} 11.0
sglang:e2e_request_latency_seconds_bucket{le="10.0",model_name="Qwen/Qwen3-8B"} 11.0
sglang:e2e_request_latency_seconds_bucket{le="+Inf",model_name="Qwen/Qwen3-8B"} 11.0
sglang:e2e_request_latency_seconds_sum{model_name="Qwen/Qwen3-8B"} 33.0
sglang:e2e_request_latency_seconds_count{model_name="Qwen/Qwen3-8B"} 11.0
"""
TENSORRT_LLM = """# TYPE trtllm_request_success_total counter
trtllm_request_success_total{engine_type="trtllm",finished_reason="stop",model_name="llama"} 6.0
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="llama"} 0.4
trtllm_kv_cache_hit_rate{engine_type="trtllm",model_name="llama"} 0.1
trtllm_time_to_first_token_seconds_sum{engine_type="trtllm",model_name="llama"} 1.5
trtllm_time_to_first_token_seconds_count{engine_type="trtllm",model_name="llama"} 6.0
trtllm_request_queue_time_seconds_sum{engine_type="trtllm",model_name="llama"} 0.25
trtllm_request_queue_time_seconds_count{engine_type="trtllm",model_name="llama"} 6.0
"""


def told(text, replica="a:1"):
    found = defaultdict(dict)
    for name, labels, value in page.samples(text, replica):
        assert labels not in found[name.removeprefix("skewscope_serving_")]
        found[name.removeprefix("skewscope_serving_")][labels] = value
    return found


def test_vllm():
    assert list(parsed(VLLM)), "it is the real format"
    found = told(VLLM)
    who = ("vllm", "meta-llama/Llama-3.1-8B", "a:1")
    assert found["requests_running"] == {who: 12, (*who[:2], "a:1/1"): 3}
    assert found["kv_cache_usage_ratio"] == {who: 0.71}, "the new name comes first and the old one is not added"
    assert found["requests_finished_total"] == {who: 100}
    assert found["prefix_cache_hits_total"][who] / found["prefix_cache_queries_total"][who] == 0.25
    assert found["accepted_tokens_total"] == {who: 12} and found["draft_tokens_total"] == {who: 30}
    assert found["time_to_first_token_seconds_bucket"] == {(*who, "0.1"): 3, (*who, "1.0"): 90, (*who, "+Inf"): 100}
    assert found["time_to_first_token_seconds_sum"] == {who: 45.5}
    assert found["inter_token_latency_seconds_count"] == {who: 1000}
    assert "request_seconds_sum" not in found, "NaN is unknown"
    assert found["prompt_tokens_total"] == {who: 1234567}


def test_sglang_and_tensorrt_llm():
    found = told(SGLANG)
    who = ("sglang", "Qwen/Qwen3-8B", "a:1")
    assert found["requests_running"] == {who: 7} and found["requests_waiting"] == {who: 1}
    assert found["accept_length_tokens"] == {who: 2.5} and found["prefix_cache_hit_ratio"] == {who: 0.5}
    assert found["request_seconds_bucket"][*who, "+Inf"] == 11
    found = told(TENSORRT_LLM)
    who = ("tensorrt_llm", "llama", "a:1")
    assert found["kv_cache_usage_ratio"] == {who: 0.4} and found["requests_finished_total"] == {who: 6}
    assert found["queue_seconds_sum"] == {who: 0.25}


def test_transfers_of_kv_cache():
    who = ("vllm", "m", "a:1")
    labels = 'engine="0",model_name="m"'
    found = told(
        f'vllm:nixl_xfer_time_seconds_bucket{{{labels},le="0.01"}} 90.0\n'
        f'vllm:nixl_xfer_time_seconds_bucket{{{labels},le="+Inf"}} 100.0\n'
        f"vllm:nixl_xfer_time_seconds_sum{{{labels}}} 0.9\nvllm:nixl_xfer_time_seconds_count{{{labels}}} 100.0\n"
        f"vllm:nixl_bytes_transferred_sum{{{labels}}} 2.9e+10\nvllm:nixl_bytes_transferred_count{{{labels}}} 100.0\n"
        f"vllm:nixl_post_time_seconds_sum{{{labels}}} 0.1\nvllm:nixl_num_failed_notifications_total{{{labels}}} 7.0\n"
        f"vllm:nixl_num_failed_transfers_total{{{labels}}} 2.0\nvllm:nixl_num_kv_expired_reqs_total{{{labels}}} 1.0\n"
    )
    assert found["kv_transfer_seconds_sum"] == {who: 0.9} and found["kv_transfer_seconds_bucket"][*who, "0.01"] == 90
    assert found["kv_transfer_bytes_sum"] == {who: 2.9e10} and found["kv_transfer_bytes_count"] == {who: 100}
    assert found["kv_transfer_failures_total"] == {who: 2} and found["kv_transfer_expired_total"] == {who: 1}
    failed = told('sglang:num_transfer_failed_reqs_total{model_name="m"} 3.0')
    assert failed["kv_transfer_failures_total"] == {("sglang", "m", "a:1"): 3}


def test_what_waits_at_the_gateway_of_a_model():
    name = "inference_extension_flow_control"
    pool = 'inference_pool="p",model_name="m"'
    found = told(
        f'{name}_queue_size{{fairness_id="a",priority="0",{pool}}} 4.0\n'
        f'{name}_queue_size{{fairness_id="b",priority="0",{pool}}} 3.0\n'
        f'{name}_request_queue_duration_seconds_sum{{outcome="Dispatched",{pool}}} 12.5\n'
        f'{name}_request_queue_duration_seconds_count{{outcome="Dispatched",{pool}}} 50.0\n'
        f"{name}_pool_saturation{{{pool}}} 0.5\n"
    )
    who = ("gateway", "m", "a:1")
    assert found["gateway_requests_waiting"] == {who: 7}, "of all flows"
    assert found["gateway_queue_seconds_sum"] == {who: 12.5} and found["gateway_queue_seconds_count"] == {who: 50}


def test_what_engines_tell_of_experts():
    who, other = ("sglang", "R1", "a:1"), ("vllm", "R1", "a:1")
    found = told(
        'sglang:eplb_balancedness_sum{forward_mode="decode",model_name="R1"} 60.0\n'
        'sglang:eplb_balancedness_sum{forward_mode="extend",model_name="R1"} 20.0\n'
        'sglang:eplb_balancedness_count{forward_mode="decode",model_name="R1"} 100.0\n'
        'sglang:eplb_balancedness_count{forward_mode="extend",model_name="R1"} 40.0\n'
        'sglang:eplb_balancedness{forward_mode="extend",model_name="R1",quantile="0.5"} 0.7\n'
        'vllm:eplb_rearrangements_total{engine="0",model_name="R1"} 3.0\n'
        'vllm:eplb_rebalance_events_total{engine="0",model_name="R1"} 3.0\n'
        'vllm:eplb_rearrangement_seconds_bucket{engine="0",le="1.0",model_name="R1"} 1.0\n'
        'vllm:eplb_rearrangement_seconds_sum{engine="0",model_name="R1"} 6.5\n'
        'vllm:eplb_rearrangement_seconds_count{engine="0",model_name="R1"} 3.0\n'
    )  # fmt: skip
    assert found == {
        "moe_balance_ratio_sum": {who: 80}, "moe_balance_ratio_count": {who: 140},
        "moe_rebalances_total": {other: 3}, "moe_rebalance_seconds_sum": {other: 6.5},
        "moe_rebalance_seconds_count": {other: 3},
    }  # fmt: skip


def test_a_histogram_with_many_bounds_is_thinned():
    lines = [f'vllm:request_queue_time_seconds_bucket{{le="{bound}.0",model_name="m"}} {bound}' for bound in range(100)]
    found = told("\n".join([*lines, 'vllm:request_queue_time_seconds_bucket{le="+Inf",model_name="m"} 100']))
    bounds = [labels[-1] for labels in found["queue_seconds_bucket"]]
    assert len(bounds) <= page.MOST_BOUNDS + 1 and bounds[-1] == "+Inf"
    assert all(value == 100 or value == float(labels[-1]) for labels, value in found["queue_seconds_bucket"].items())


@pytest.mark.parametrize(
    "line",
    [
        "vllm:num_requests_running",
        "vllm:num_requests_running{",
        "vllm:num_requests_running{} x",
        'vllm:num_requests_running{model_name="a} 5',
        "vllm:num_requests_running +Inf",
        "vllm:queue_time_seconds",
        "vllm:",
        "trtllm",
        "\x00",
    ],
)
def test_lines_that_are_none_are_left_out(line):
    assert page.samples(line + "\n" + 'vllm:num_requests_waiting{model_name="m"} 1', "a:1")[-1][2] == 1


def test_label_values_are_unescaped():
    assert page.samples(r'vllm:num_requests_waiting{model_name="a\"b\\n}c"} 1', "r")[0][1][1] == 'a"b\\n}c'


class Engine(ThreadingHTTPServer):
    def __init__(self, text: str = VLLM, status: int = 200) -> None:
        self.text, self.status, self.asked = text, status, []
        self.let_go = threading.Event()
        self.let_go.set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.replica = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the reader hung up, as it should


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.let_go.wait(5)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def engine():
    servers = []

    def start(*arguments, **more):
        servers.append(Engine(*arguments, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.let_go.set()
        server.shutdown()
        server.server_close()


class Node:
    def __init__(self, *replicas: str, **options: str) -> None:
        self.now_s = 100.0
        urls = ", ".join(f"http://{replica}/metrics" for replica in replicas)
        self.place = Place(options={"serving.urls": urls} | options, clock_s=lambda: self.now_s)
        self.collector = room("agents.collectors", "serving").kind()(self.place)

    def look(self):
        self.now_s += 1
        found = defaultdict(dict)
        for name, labels, value in self.collector.collect():
            found[name.removeprefix("skewscope_serving_")][labels] = value
        self.collector.wait(5)
        return found


def test_without_addresses_there_is_no_data():
    with pytest.raises(NoData, match="serving.urls"):
        Node().look()


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/metrics", "127.0.0.1:8000", "http://", "file:///etc/passwd", "http://127.0.0.1:x/"]
)
def test_addresses_that_cannot_be_meant_are_refused(url):
    with pytest.raises(UsageError, match="serving.urls"):
        Node(**{"serving.urls": url}).look()


def test_other_machines_are_refused_unless_allowed(engine):
    with pytest.raises(UsageError, match="serving.allow-remote"):
        Node(**{"serving.urls": "http://10.1.2.3:8000/metrics"}).look()
    node = Node(**{"serving.urls": "http://127.0.0.2:1/metrics", "serving.allow-remote": "on"})
    node.look()
    assert node.look()["endpoint_up"] == {("127.0.0.2:1",): 0}


def test_pages_are_fetched_every_5_seconds(engine):
    one, two = engine(), engine(SGLANG)
    node = Node(one.replica, two.replica)
    assert not node.look()
    for _ in range(4):
        found = node.look()
    assert found["endpoint_up"] == {(one.replica,): 1, (two.replica,): 1}
    assert len(found["requests_running"]) == 3
    assert one.asked == ["/metrics"]
    node.look()
    assert one.asked == ["/metrics"] * 2


def test_one_that_fails_does_not_hide_the_others(engine):
    good, bad, large = engine(), engine(status=503), engine("vllm:x 1\n" * 600_000)
    node = Node(bad.replica, good.replica, large.replica)
    node.look()
    found = node.look()
    assert found["endpoint_up"] == {(bad.replica,): 0, (good.replica,): 1, (large.replica,): 0}
    assert found["requests_running"]


def test_nobody_waits_for_a_slow_one_and_its_old_values_go(engine, monkeypatch):
    slow = engine()
    node = Node(slow.replica)
    node.look()
    assert node.look()["requests_running"]
    slow.let_go.clear()
    monkeypatch.setattr(load("agents.collectors.serving"), "DEADLINE_S", 0.2)
    node.now_s += 5
    node.look()
    found = node.look()
    assert found["endpoint_up"] == {(slow.replica,): 0} and not found["requests_running"]


def test_a_page_that_never_ends_is_cut(engine):
    serving = load("agents.collectors.serving")
    with pytest.raises(Unreadable, match="larger"):
        serving.fetch(f"http://{engine('x' * (5 << 20)).replica}/metrics")


def test_when_tokens_come_back_to_the_frontend():
    name, labels = "dynamo_frontend", 'model="m"'
    found = told(
        f'{name}_inter_token_latency_seconds_bucket{{{labels},le="0.05"}} 90.0\n'
        f'{name}_inter_token_latency_seconds_bucket{{{labels},le="+Inf"}} 100.0\n'
        f"{name}_inter_token_latency_seconds_sum{{{labels}}} 3.0\n"
        f"{name}_inter_token_latency_seconds_count{{{labels}}} 100.0\n"
        f"{name}_time_to_first_token_seconds_sum{{{labels}}} 1.5\n{name}_queued_requests{{{labels}}} 2.0\n"
        f"{name}_input_sequence_tokens_sum{{{labels}}} 900.0\n"
    )
    who = ("gateway", "m", "a:1")
    assert found["gateway_inter_token_latency_seconds_bucket"] == {(*who, "0.05"): 90, (*who, "+Inf"): 100}
    assert found["gateway_inter_token_latency_seconds_sum"] == {who: 3}
    assert found["gateway_time_to_first_token_seconds_sum"] == {who: 1.5} and found["gateway_requests_waiting"] == {
        who: 2
    }
