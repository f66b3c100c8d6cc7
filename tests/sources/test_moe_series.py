"""Pages of engines' metrics; the numbers expected are worked out by hand in each test."""

import pytest

from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.exposition_page import ExpositionPage

TIMES = (1_700_000_000, 1_700_000_060, 1_700_000_120)


def page(tmp_path, *pages):
    path = tmp_path / "engine.prom"
    path.write_text("".join(f"{at}\n" + "\n".join(lines) + "\n" for at, lines in zip(TIMES, pages, strict=False)))
    assert ExpositionPage().sniff(path.read_bytes(), path.name) == 0.95
    return gather([path])


def experts(*rows):
    lines = ["# TYPE vllm:eplb_tokens_routed_to_expert counter"]
    name = "vllm:eplb_tokens_routed_to_expert_total"
    for layer, row in enumerate(rows):
        labels = [f'engine="0",layer_idx="{layer}",logical_expert_id="{expert}"' for expert in range(len(row))]
        lines += [f"{name}{{{label}}} {count}" for label, count in zip(labels, row, strict=True)]
    return lines


def reports(recording, *names):
    return recording.tables["balance_reports"][list(names)].values.tolist()


def test_counters_of_experts_are_differences_between_pages(tmp_path):
    recording = page(tmp_path, experts([10, 20], [15, 15]), experts([15, 40], [30, 25]), experts([2, 3], [4, 1]))
    (loads,) = of_tables(recording.tables)
    assert loads.counts.tolist() == [[[5, 20], [15, 10]], [[2, 3], [4, 1]]]  # between the last two it began anew


def test_one_page_tells_all_since_the_start(tmp_path):
    (loads,) = of_tables(page(tmp_path, experts([10, 20], [15, 15])).tables)
    assert loads.counts.tolist() == [[[10, 20], [15, 15]]]


def test_tokens_of_ranks_are_a_balance(tmp_path):
    lines = ["# TYPE vllm:eplb_tokens_routed_to_ep_rank counter"] + [
        f'vllm:eplb_tokens_routed_to_ep_rank{{layer_idx="4",dst_ep_rank="{rank}"}} {count}'
        for rank, count in enumerate((10, 30, 20))
    ]
    assert reports(page(tmp_path, lines), "layer", "definition", "balance_ratio", "mean_tokens", "max_tokens") == [
        [4, "ranks", 20 / 30, 20, 30]
    ]  # fmt: skip


def heat(*tokens):
    total, lines = 0, ["# TYPE sglang:eplb_gpu_physical_count histogram"]
    for rank, count in enumerate(tokens):
        total += count
        lines.append(f'sglang:eplb_gpu_physical_count_bucket{{layer="3",le="{rank}.0"}} {total}')
    return [*lines, f'sglang:eplb_gpu_physical_count_bucket{{layer="3",le="+Inf"}} {total}',
            'sglang:eplb_gpu_physical_count_sum{layer="3"} 99']  # fmt: skip


def test_the_histogram_of_gpus_is_a_heat_map(tmp_path):
    recording = page(tmp_path, heat(5, 5, 5, 5), heat(15, 45, 25, 35))
    assert reports(recording, "layer", "definition", "balance_ratio", "mean_tokens", "max_tokens") == [
        [3, "ranks", 25 / 40, 25, 40]  # the second page less the first: 10, 40, 20, 30
    ]


def test_summaries_of_sglang_are_means_between_pages(tmp_path):
    def lines(total, count):
        labels = '{forward_mode="decode",model_name="m"}'
        return ["# TYPE sglang:eplb_balancedness summary", f"sglang:eplb_balancedness_sum{labels} {total}",
                f"sglang:eplb_balancedness_count{labels} {count}"]  # fmt: skip

    assert reports(page(tmp_path, lines(60, 100), lines(110, 200)), "phase", "definition", "balance_ratio") == [
        ["decode", "sglang", 0.5]
    ]


def test_gauges_of_vllm_and_of_vllm_ascend(tmp_path):
    lines = [
        "# TYPE vllm:eplb_balancedness_p50 gauge", "vllm:eplb_balancedness_p50 0.7", "vllm:eplb_balancedness_min 0.4",
        'eplb:expert_hotness:current_mean{rank="0",phase="decode"} 2.0', 'eplb:expert_hotness:current_max{rank="0"} 4',
        'eplb:expert_hotness:imbalance{rank="0",phase="current",layer="5"} 1.25',
        'eplb:expert_hotness:imbalance{rank="0",phase="update",layer="5"} 1',
    ]  # fmt: skip
    assert sorted(reports(page(tmp_path, lines), "definition", "layer", "balance_ratio")) == [
        ["ascend", -1, 0.5], ["ascend", 5, 0.8], ["ascend-forecast", 5, 1.0], ["ascend-worst", -1, 0.25],
        ["vllm-min", -1, 0.4], ["vllm-p50", -1, 0.7],
    ]  # fmt: skip


def test_rearrangements_between_pages_are_events(tmp_path):
    def lines(count, seconds):
        return ["# TYPE vllm:eplb_rearrangements counter", f"vllm:eplb_rearrangements_total {count}",
                f"vllm:eplb_rearrangement_seconds_sum {seconds}", "vllm:eplb_balancedness_avg 0.8"]  # fmt: skip

    recording = page(tmp_path, lines(3, 40), lines(3, 40), lines(5, 44.5))
    rows = recording.tables["events"][["t_ns", "event", "message"]].values.tolist()
    assert rows == [[TIMES[2] * 10**9, "moe-rebalance", "experts rearranged 2 times in 4.50 s"]]


def test_series_without_their_labels_mean_nothing(tmp_path):
    recording = page(tmp_path, ["# TYPE vllm:eplb_x gauge", "vllm:eplb_balancedness_avg 0.8",
                                'vllm:eplb_tokens_routed_to_expert{layer_idx="x",logical_expert_id="1"} 4',
                                'vllm:eplb_tokens_routed_to_expert{layer_idx="1",logical_expert_id="99999999"} 4',
                                "vllm:eplb_balancedness_min NaN", "vllm:eplb_balancedness_p90 -3"])  # fmt: skip
    assert not len(recording.tables["expert_loads"]) and reports(recording, "balance_ratio") == [[0.8]]
    assert any("2 series of 1 names without a meaning here" in warning for warning in recording.warnings)


def test_a_page_of_an_engine_and_of_a_gpu_gives_both(tmp_path):
    recording = page(tmp_path, [*experts([1, 3]), 'DCGM_FI_DEV_SM_CLOCK{gpu="0",Hostname="n1"} 1500'])
    assert len(recording.tables["samples"]) == 1 and len(recording.tables["expert_loads"]) == 2


@pytest.mark.parametrize("text", ["shop_requests_running 3\n", "# TYPE shop:token_usage gauge\n"])
def test_pages_of_others_are_claimed_little(text):
    assert ExpositionPage().sniff(text.encode(), "x.prom") <= 0.3
