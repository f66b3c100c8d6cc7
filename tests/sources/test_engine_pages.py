"""Saved metrics pages of inference engines: the same samples as the agent's collector makes of them."""

import os
from pathlib import Path

import pandas as pd
import pytest

from skewscope.catalogue import load
from skewscope.frames import frame
from skewscope.signals.identity import identify
from skewscope.sources import gather
from skewscope.sources.exposition_page import ExpositionPage

T0 = 1_700_000_000
LLAMA = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'
VLLM = f"""# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{{generation="0"}} 12345.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{LLAMA}}} 12.0
vllm:num_requests_running{{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"}} 3.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{{LLAMA}}} 0.71
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{{{LLAMA}}} 0.70
# TYPE vllm:request_success_total counter
vllm:request_success_total{{finished_reason="stop",{LLAMA}}} 90.0
vllm:request_success_total{{finished_reason="length",{LLAMA}}} 10.0
# TYPE vllm:request_success_created gauge
vllm:request_success_created{{finished_reason="stop",{LLAMA}}} 1.69e+09
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{le="0.1",{LLAMA}}} 3.0
vllm:time_to_first_token_seconds_bucket{{le="1.0",{LLAMA}}} 90.0
vllm:time_to_first_token_seconds_bucket{{le="+Inf",{LLAMA}}} 100.0
vllm:time_to_first_token_seconds_count{{{LLAMA}}} 100.0
vllm:time_to_first_token_seconds_sum{{{LLAMA}}} 45.5
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_sum{{{LLAMA}}} NaN
# TYPE vllm:nixl_xfer_time_seconds histogram
vllm:nixl_xfer_time_seconds_bucket{{le="0.01",{LLAMA}}} 90.0
vllm:nixl_xfer_time_seconds_sum{{{LLAMA}}} 0.9
"""
QWEN = 'engine_type="unified",model_name="Qwen/Qwen3-8B",pp_rank="0",tp_rank="0"'
SGLANG = f"""# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{QWEN}}} 7.0
# TYPE sglang:token_usage gauge
sglang:token_usage{{{QWEN}}} 0.28
# TYPE sglang:num_retracted_reqs gauge
sglang:num_retracted_reqs{{{QWEN}}} 2.0
# TYPE sglang:num_retracted_reqs_total counter
sglang:num_retracted_reqs_total{{{QWEN}}} 5.0
# TYPE sglang:eplb_balancedness summary
sglang:eplb_balancedness_sum{{forward_mode="decode",model_name="Qwen/Qwen3-8B"}} 60.0
sglang:eplb_balancedness_count{{forward_mode="decode",model_name="Qwen/Qwen3-8B"}} 100.0
# TYPE sglang:e2e_request_latency_seconds histogram
sglang:e2e_request_latency_seconds_bucket{{le="10.0",model_name="Qwen/Qwen3-8B"}} 11.0
sglang:e2e_request_latency_seconds_sum{{model_name="Qwen/Qwen3-8B"}} 33.0
"""
TENSORRT_LLM = """# TYPE trtllm_request_success_total counter
trtllm_request_success_total{engine_type="trtllm",finished_reason="stop",model_name="llama"} 6.0
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="llama"} 0.4
# TYPE trtllm_request_queue_time_seconds histogram
trtllm_request_queue_time_seconds_sum{engine_type="trtllm",model_name="llama"} 0.25
"""
GATEWAY = """# TYPE inference_extension_flow_control_queue_size gauge
inference_extension_flow_control_queue_size{fairness_id="a",priority="0",inference_pool="p",model_name="m"} 4.0
inference_extension_flow_control_queue_size{fairness_id="b",priority="0",inference_pool="p",model_name="m"} 3.0
"""


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves pages (name in the folder -> text)."""

    def save(pages: dict[str, str]) -> Path:
        for name, text in pages.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            os.utime(path, (T0, T0))
        return tmp_path

    return save


def samples(path: Path) -> pd.DataFrame:
    return pd.concat([frame(table, columns) for table, columns in ExpositionPage().read(path).batches
                      if table == "samples"])  # fmt: skip


def live(text: str, replica: str) -> set[tuple[str, str, float]]:
    """Return (metric, labels, value) of what the agent's collector makes of a page."""
    found = set()
    for name, values, number in load("agents.collectors._engine_page").samples(text, replica):
        labels = dict(zip(("engine", "model", "replica", "le"), values, strict=False))
        found.add((name, identify(name, labels)[3], number))
    return found


@pytest.mark.parametrize("page", [VLLM, SGLANG, TENSORRT_LLM, GATEWAY], ids=["vllm", "sglang", "trtllm", "gateway"])
def test_a_saved_page_says_what_the_agent_would_have_said(page, saved):
    path = saved({"n3-metrics.prom": page}) / "n3-metrics.prom"
    assert ExpositionPage().sniff(page.encode(), "any") == 0.95
    rows = samples(path)
    assert set(zip(rows["metric"], rows["labels"], rows["value"], strict=True)) == live(page, "n3")
    assert len(rows) == len(live(page, "n3")) > 0
    assert set(rows["node"]) == {"n3"} and set(rows["t_ns"]) == {T0 * 10**9}


def test_series_that_are_one_of_ours_are_added_and_the_fullest_cache_counts(saved):
    text = VLLM.replace('vllm:kv_cache_usage_perc{engine="0"', 'vllm:kv_cache_usage_perc{kind="a",engine="0"')
    rows = samples(saved({"n3.prom": text + f'vllm:kv_cache_usage_perc{{kind="b",{LLAMA}}} 0.9\n'}) / "n3.prom")
    by = {(metric.removeprefix("skewscope_serving_"), labels.rpartition("replica=")[2]): value
          for metric, labels, value in zip(rows["metric"], rows["labels"], rows["value"], strict=True)}  # fmt: skip
    assert by["kv_cache_usage_ratio", "n3"] == 0.9 and by["requests_finished_total", "n3"] == 100
    assert by["requests_running", "n3"] == 12 and by["requests_running", "n3/1"] == 3


def test_experts_are_told_as_well(saved):
    reading = ExpositionPage().read(saved({"n3.prom": SGLANG}) / "n3.prom")
    assert {"samples", "balance_reports"} <= {table for table, _ in reading.batches}


def test_a_gauge_is_no_counter(saved):
    rows = samples(saved({"n3.prom": SGLANG}) / "n3.prom")
    assert rows.loc[rows["metric"] == "skewscope_serving_preemptions_total", "value"].tolist() == [5.0]


def test_two_engines_of_a_host_are_two_replicas(saved):
    folder = saved({"n3/vllm-8000.prom": VLLM, "n3/vllm-8001.prom": VLLM})
    rows = pd.concat([samples(folder / f"n3/vllm-800{number}.prom") for number in (0, 1)])
    rows = rows[rows["metric"] == "skewscope_serving_kv_cache_usage_ratio"]
    assert {labels.rpartition("=")[2] for labels in rows["labels"]} == {"n3:8000", "n3:8001"}
    assert set(rows["node"]) == {"n3"}


def test_a_scrape_tells_replicas_apart_and_a_name_tells_the_time(saved):
    page = 'vllm:num_requests_running{instance="n%d:8000",model_name="m"} 1\n'
    text = "# TYPE vllm:num_requests_running gauge\n" + page % 1 + page % 2
    rows = samples(saved({f"vllm-{T0 + 60}.prom": text}) / f"vllm-{T0 + 60}.prom")
    assert sorted(zip(rows["node"], rows["labels"], strict=True)) == [
        ("n1", "engine=vllm,model=m,replica=n1:8000"), ("n2", "engine=vllm,model=m,replica=n2:8000"),
    ]  # fmt: skip
    assert set(rows["t_ns"]) == {(T0 + 60) * 10**9}


def page_at(second: int, *, full: bool) -> str:
    """Return a page of an engine that finishes 2 requests a second; a full cache puts half of them back."""
    done, back = 2 * second, second * full
    return "\n".join([
        "# TYPE vllm:num_requests_running gauge", f"vllm:num_requests_running{{{LLAMA}}} 32",
        "# TYPE vllm:num_requests_waiting gauge", f"vllm:num_requests_waiting{{{LLAMA}}} {20 * full}",
        "# TYPE vllm:kv_cache_usage_perc gauge", f"vllm:kv_cache_usage_perc{{{LLAMA}}} {0.99 if full else 0.6}",
        "# TYPE vllm:num_preemptions_total counter", f"vllm:num_preemptions_total{{{LLAMA}}} {back}",
        "# TYPE vllm:request_success_total counter",
        f'vllm:request_success_total{{finished_reason="stop",{LLAMA}}} {done}',
        "# TYPE vllm:e2e_request_latency_seconds histogram",
        f"vllm:e2e_request_latency_seconds_sum{{{LLAMA}}} {done * (9.0 if full else 5.0)}",
        f"vllm:e2e_request_latency_seconds_count{{{LLAMA}}} {done}", "",
    ])  # fmt: skip


def test_a_folder_of_pages_is_a_recording(saved, analyzed):
    """Three hosts, a page every 15 s for ten minutes; the cache of one is full."""
    folder = saved({
        f"n{host}/vllm-{T0 + second}.prom": page_at(second, full=host == 2)
        for host in (1, 2, 3) for second in range(0, 600, 15)
    })  # fmt: skip
    read = gather([str(folder)])
    assert not [one for one in read.inputs if one.status != "ok"]
    culprits = {(one["condition"], one["subject"]["id"]) for one in analyzed(folder)["findings"]
                if one["role"] == "culprit"}  # fmt: skip
    assert {condition for condition, _ in culprits} == {"kv-pressure"}
    assert all("n2" in subject for _, subject in culprits)
