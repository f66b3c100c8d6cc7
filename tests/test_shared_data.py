"""Every set of shared recordings against what its SOURCE.md says: what must be found, and that nothing false is.

Sets of which ranks, stages or hosts are known to be slow, or known not to be, are walked in test_known_truth and
test_real_jobs, loads of experts by themselves in detectors/test_moe_rooms. Here is the rest: single ranks, foreign
devices, broken files, inference, plugins' dumps, compilers' logs, and statistics that are no recordings.
"""

from __future__ import annotations

import pytest

from skewscope import commands

WALKED_ELSEWHERE = {
    "alibaba-minibatch-stragglers", "bytedance-straggler-whatif", "chakra-et", "derived-ncclargs-multirank",
    "local-flight-recorder", "local-gloo-kineto", "moe-routing-qwen15-moe", "param-dlrm-8rank-kineto",
    "param-linear-singlegpu-kineto", "pipit-nsys-sqlite", "real-jobs", "spdl-dataloader-32rank",
}  # fmt: skip
ONE_RANK = "only one rank was recorded"
NO_STEPS = "no rank's steps or collectives were recorded"
# What a single trace shows of a job: nobody can be blamed, and the report says why. (ranks of the job, why, told)
SINGLE = {
    "deepseek-profile-data/train.json.gz": (64, ONE_RANK, "kineto recordings of 1 of 64 ranks only"),
    "gpupuzzlers-kineto/addition_d2h_sync_final.json.gz": (1, NO_STEPS, "no step marks"),
    "gpupuzzlers-kineto/more_small_kernels.json.gz": (1, "", "taken for rank 0"),
    "hta-kineto-tests/cpu_only__rank-34.Jul_15_10_52_41.1074.pt.trace.json.gz": (
        300, ONE_RANK, "kineto recordings of 1 of 300 ranks only"),
    "hta-kineto-tests/critical_path__alexnet__benchmark_result_2869224_1695835535_trace.json.gz": (
        1, NO_STEPS, "no step marks"),
    "hta-kineto-tests/df_index_resolver__df_index_resolver.json.gz": (2, ONE_RANK, ""),
    "hta-kineto-tests/distributed_info_unavailable__distributed_info_not_found.json.gz": (
        1, ONE_RANK, "neither content nor name tells the rank"),
    "hta-kineto-tests/mtia_inference_trace__mtia_inference_rank_0.json.gz": (1, NO_STEPS, "no step marks"),
    "hta-kineto-tests/mtia_trace_single_rank__mtia_rank_0.json.gz": (1, ONE_RANK, ""),
    "hta-kineto-tests/nccl_parser_config__nccl_data.json.gz": (2, ONE_RANK, ""),
    "hta-kineto-tests/negative_queue_length_values_check__rank0.json.gz": (
        16, ONE_RANK, "kineto recordings of 1 of 16 ranks only"),
    "hta-kineto-tests/rank_non_gpu__rank_non_gpu.json.gz": (1, ONE_RANK, ""),
    "hta-kineto-tests/rank_unavailable__rank_not_found.json.gz": (
        1, ONE_RANK, "neither content nor name tells the rank"),
    "hta-kineto-tests/trace_diff__control__control.json.gz": (8, ONE_RANK, "kineto recordings of 1 of 8 ranks only"),
    "hta-kineto-tests/trace_diff__test__test.json.gz": (2, ONE_RANK, ""),
    "hta-kineto-tests/triton_example__triton_example.json.gz": (1, ONE_RANK, "taken for rank 0"),
    "tracelens-kineto/b200__eager_trace.json.gz": (8, "", "kineto recordings of 1 of 8 ranks only"),
    "tracelens-kineto/h100__Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz": (1, "", "taken for rank 0"),
    "tracelens-kineto/inference__sglang_decode__sglang_Qwen3-8B_decode.json.gz": (1, "", ""),
    "tracelens-kineto/inference__vllm_decode_full__graph_execution.json.gz": (1, "", ""),
}  # fmt: skip
MIXED = ("hta-kineto-tests", "tracelens-kineto", "gpupuzzlers-kineto")  # traces of many jobs in one folder
NO_RECORDINGS = {  # distributions, other tools' logs, one fleet's tables: nothing to tell a slow rank from
    "acme-cluster-telemetry-cdf": 12, "alibaba-gentd26-telemetry": 4, "greyhound-4gpu-failslow-log": 4,
    "stepfun-infinitehbd-faults": 3,
}  # fmt: skip
HOT = {
    "olmoe-1b-7b/arxiv", "olmoe-1b-7b/book", "olmoe-1b-7b/c4", "olmoe-1b-7b/tulu", "olmoe-dpo/tulu", "olmoe-sft/tulu",
}  # fmt: skip


def culprits(report):
    return {(one["condition"], one["subject"]["id"]) for one in report["findings"] if one["role"] == "culprit"}


def test_every_set_is_walked(shared):
    here = {path.split("/")[0] for path in (*SINGLE, *NO_RECORDINGS)}
    here |= {"moe-olmoe", "moe-synth", "nccl-profiler-plugin-traces", "tlparse-multirank-logs"}
    assert here | WALKED_ELSEWHERE == {path.name for path in shared.iterdir() if path.is_dir()}


@pytest.mark.parametrize("place", SINGLE, ids=lambda path: path.rpartition("/")[2][:40])
def test_a_single_rank_blames_nobody_and_says_why(place, shared, analyzed):
    report, (ranks, why, told) = analyzed(shared / place), SINGLE[place]
    assert culprits(report) == set()
    assert report["job"]["ranks"] == ranks
    verdict = report["summary"]["verdict"]
    assert verdict.startswith("Cannot be decided:") and why in verdict
    assert told in " ".join(report["warnings"])


@pytest.mark.parametrize("place", MIXED)
def test_traces_of_many_jobs_in_one_folder_are_not_compared(place, shared, analyzed):
    report = analyzed(shared / place)
    assert culprits(report) == set()
    errors = " ".join(one["error"] or "" for one in report["inputs"])
    assert "belongs to another job" in errors or "neither content nor name tells its rank" in errors


def test_kernels_of_deepep_are_communication_and_hidden(shared, analyzed):
    """A rule for names with "nccl" would see none; the authors overlap dispatch and combine with computation."""
    summary = analyzed(shared / "deepseek-profile-data/train.json.gz")["summary"]
    assert summary["communication_share"] > 0.5
    assert summary["communication_hidden_share"] > 0.9


def test_a_trace_without_communication_has_none(shared, analyzed):
    for name in ("trace_diff__control__control", "trace_diff__test__test"):
        assert analyzed(shared / f"hta-kineto-tests/{name}.json.gz")["summary"]["communication_share"] > 0.2
    for place in ("hta-kineto-tests/triton_example__triton_example.json.gz",
                  "hta-kineto-tests/mtia_trace_single_rank__mtia_rank_0.json.gz"):  # fmt: skip
        assert analyzed(shared / place)["summary"]["communication_share"] is None


@pytest.mark.parametrize("place", NO_RECORDINGS)
def test_what_is_no_recording_is_told_file_by_file(place, shared, capsys):
    assert commands.main(["analyze", str(shared / place)]) == 3
    told = capsys.readouterr().err
    assert told.count("not a recording that skewscope knows") == NO_RECORDINGS[place]
    assert "formats that can be read" in told and "Traceback" not in told


def test_experts_of_olmoe_are_hot_and_those_of_mixtral_are_not(shared, analyzed):
    report = analyzed(shared / "moe-olmoe/expert_counts.csv")
    assert culprits(report) == {("moe-hot-expert", name) for name in HOT}
    assert sum(one["job"].startswith("mixtral-8x7b/") for one in report["moe"]) == 3, "they are judged as well"


def test_an_even_router_and_one_with_an_auxiliary_loss_are_left_alone(shared, analyzed):
    """All loads made for tests in one folder: the uniform control and Mixtral's trace are no culprits."""
    found = culprits(analyzed(shared / "moe-synth"))
    assert found == {("moe-rank-imbalance", "tiny"), *(("moe-hot-expert", name) for name in (
        "dsv3_burst", "dsv3_r1-like", "dsv3_shift", "qwen3-235b_mild"))}  # fmt: skip


@pytest.mark.parametrize("name", ["trace-2762285-allreduce-single-node-4gpu.jsonl.gz",
                                  "example-plugin-p2p-dump-as-written.txt.gz"])  # fmt: skip
def test_a_handful_of_calls_blames_nobody(name, shared, analyzed):
    """One host thread launches on four GPUs in turn, so that the first one seems late each time."""
    report = analyzed(shared / "nccl-profiler-plugin-traces" / name)
    assert culprits(report) == set() and report["job"]["ranks"] == 4


def test_the_graph_with_other_collectives_is_told_of_the_right_rank(shared, analyzed):
    """Ranks 0 and 2 have the same schedule, rank 1 has two calls fewer: a hint, for no call was seen to fail."""
    report = analyzed(shared / "tlparse-multirank-logs")
    (found,) = report["findings"]
    assert (found["role"], found["condition"]) == ("context", "coll-desync")
    assert "graph 0_0_0 of rank1" in found["summary"] and "2 other ranks" in found["summary"]
