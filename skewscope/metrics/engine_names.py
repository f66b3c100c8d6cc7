"""What inference engines call their metrics, and what we call them: for the live agent and for saved pages alike."""

from __future__ import annotations

from collections.abc import Mapping

_OURS = "skewscope_serving_"
# name of the engine -> name of ours; an engine renames now and then, so several of its names may mean the same
VLLM = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:request_success_total": "requests_finished_total",
    "vllm:kv_cache_usage_perc": "kv_cache_usage_ratio",
    "vllm:gpu_cache_usage_perc": "kv_cache_usage_ratio",
    "vllm:prompt_tokens_total": "prompt_tokens_total",
    "vllm:generation_tokens_total": "generation_tokens_total",
    "vllm:num_preemptions_total": "preemptions_total",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries_total",
    "vllm:gpu_prefix_cache_queries_total": "prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits_total",
    "vllm:gpu_prefix_cache_hits_total": "prefix_cache_hits_total",
    "vllm:spec_decode_num_draft_tokens_total": "draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total": "accepted_tokens_total",
    "vllm:time_to_first_token_seconds": "time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds": "inter_token_latency_seconds",
    "vllm:time_per_output_token_seconds": "inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds": "request_seconds",
    "vllm:request_queue_time_seconds": "queue_seconds",
    "vllm:nixl_xfer_time_seconds": "kv_transfer_seconds",
    "vllm:nixl_bytes_transferred": "kv_transfer_bytes",
    "vllm:nixl_num_failed_transfers_total": "kv_transfer_failures_total",
    "vllm:nixl_num_kv_expired_reqs_total": "kv_transfer_expired_total",
    "vllm:eplb_rearrangements_total": "moe_rebalances_total",
    "vllm:eplb_rebalance_events_total": "moe_rebalances_total",
    "vllm:eplb_rearrangement_seconds": "moe_rebalance_seconds",
}
SGLANG = {
    "sglang:num_running_reqs": "requests_running",
    "sglang:num_queue_reqs": "requests_waiting",
    "sglang:num_requests_total": "requests_finished_total",
    "sglang:token_usage": "kv_cache_usage_ratio",
    "sglang:prompt_tokens_total": "prompt_tokens_total",
    "sglang:generation_tokens_total": "generation_tokens_total",
    "sglang:num_retracted_requests_total": "preemptions_total",
    "sglang:num_retracted_reqs_total": "preemptions_total",
    "sglang:cached_tokens_total": "prefix_cache_hits_total",
    "sglang:cache_hit_rate": "prefix_cache_hit_ratio",
    "sglang:spec_accept_length": "accept_length_tokens",
    "sglang:time_to_first_token_seconds": "time_to_first_token_seconds",
    "sglang:inter_token_latency_seconds": "inter_token_latency_seconds",
    "sglang:time_per_output_token_seconds": "inter_token_latency_seconds",
    "sglang:e2e_request_latency_seconds": "request_seconds",
    "sglang:queue_time_seconds": "queue_seconds",
    "sglang:num_transfer_failed_reqs_total": "kv_transfer_failures_total",
    "sglang:eplb_balancedness": "moe_balance_ratio",
}
TENSORRT_LLM = {
    "trtllm_num_requests_running": "requests_running",
    "trtllm_num_requests_waiting": "requests_waiting",
    "trtllm_request_success_total": "requests_finished_total",
    "trtllm_kv_cache_utilization": "kv_cache_usage_ratio",
    "trtllm_kv_cache_hit_rate": "prefix_cache_hit_ratio",
    "trtllm_prompt_tokens_total": "prompt_tokens_total",
    "trtllm_generation_tokens_total": "generation_tokens_total",
    "trtllm_time_to_first_token_seconds": "time_to_first_token_seconds",
    "trtllm_time_per_output_token_seconds": "inter_token_latency_seconds",
    "trtllm_e2e_request_latency_seconds": "request_seconds",
    "trtllm_request_queue_time_seconds": "queue_seconds",
}
GATEWAY = {  # Kubernetes' gateway for inference, with flow control; Dynamo's frontend
    "inference_extension_flow_control_queue_size": "gateway_requests_waiting",
    "inference_extension_flow_control_request_queue_duration_seconds": "gateway_queue_seconds",
    "dynamo_frontend_queued_requests": "gateway_requests_waiting",
    "dynamo_frontend_time_to_first_token_seconds": "gateway_time_to_first_token_seconds",
    "dynamo_frontend_inter_token_latency_seconds": "gateway_inter_token_latency_seconds",
}
TOLD = {
    theirs: (engine, _OURS + ours)
    for engine, names in (("vllm", VLLM), ("sglang", SGLANG), ("tensorrt_llm", TENSORRT_LLM), ("gateway", GATEWAY))
    for theirs, ours in names.items()
}
TOLD |= {name.replace("trtllm_", "trtllm:", 1): told for name, told in TOLD.items() if name.startswith("trtllm_")}
HISTOGRAMS = {f"{_OURS}{name}" for name in ("time_to_first_token_seconds", "inter_token_latency_seconds",
                                            "request_seconds", "queue_seconds", "kv_transfer_seconds",
                                            "kv_transfer_bytes", "gateway_queue_seconds",
                                            "gateway_time_to_first_token_seconds",
                                            "gateway_inter_token_latency_seconds")}  # fmt: skip
SUMMARIES = {f"{_OURS}{name}" for name in ("moe_balance_ratio", "moe_rebalance_seconds")}  # told as sum and count
WORST = {f"{_OURS}{name}" for name in ("kv_cache_usage_ratio", "prefix_cache_hit_ratio", "accept_length_tokens")}
EXPORTS = tuple(dict.fromkeys(ours for _, ours in TOLD.values()))
PREFIXES = ("vllm:", "sglang:", "trtllm", "inference_extension_flow_control_", "dynamo_frontend_")
_GAUGES = ("sglang:num_retracted_reqs",)  # of the moment: no counter, though one has the same name and an ending
_SUFFIXES = ("_bucket", "_sum", "_count")


def known(name: str) -> tuple[str, str]:
    """Return the engine's name in TOLD and the suffix of a series, two empty strings for one without a meaning here.

    >>> known("vllm:request_success_total"), known("vllm:time_to_first_token_seconds_sum"), known("vllm:new")
    (('vllm:request_success_total', ''), ('vllm:time_to_first_token_seconds', '_sum'), ('', ''))
    """
    if not name.startswith(PREFIXES):
        return "", ""
    if name in TOLD:
        return ("", "") if TOLD[name][1] in HISTOGRAMS | SUMMARIES else (name, "")
    for suffix in _SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in TOLD:
            whole = TOLD[base][1] in HISTOGRAMS or (TOLD[base][1] in SUMMARIES and suffix != "_bucket")
            return (base, suffix) if whole else ("", "")
    # A counter of the text format may stand without its ending.
    return (f"{name}_total", "") if f"{name}_total" in TOLD and name not in _GAUGES else ("", "")


def who(theirs: str, labels: Mapping[str, str], endpoint: str) -> tuple[str, str, str]:
    """Return engine, model and replica of a series: `endpoint`, and the engine behind it where several answer there.

    >>> who("vllm:num_requests_running", {"engine": "1", "model_name": "m"}, "a:1")
    ('vllm', 'm', 'a:1/1')
    """
    part = labels.get("engine") or labels.get("dp_rank") or ""
    replica = f"{endpoint}/{part}" if part not in ("", "0") else endpoint
    return TOLD[theirs][0], labels.get("model_name") or labels.get("model") or "", replica
