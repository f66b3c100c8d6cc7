"""Inference engines of the node: their own metrics under common names."""

from __future__ import annotations

from ._metric import Metric

_REPLICA = ("engine", "model", "replica")
_ENGINES = {"engine": ("vllm", "sglang", "tensorrt_llm", "gateway")}

# fmt: off
METRICS = tuple(Metric(name, kind, unit, meaning, _REPLICA, _ENGINES) for name, kind, unit, meaning in (
    ("skewscope_serving_requests_running", "gauge", "", "Requests that an engine is working on"),
    ("skewscope_serving_requests_waiting", "gauge", "", "Requests that wait for room in an engine"),
    ("skewscope_serving_requests_finished_total", "counter", "", "Requests that an engine finished"),
    ("skewscope_serving_kv_cache_usage_ratio", "gauge", "ratio", "Share of the KV cache in use, 1 is full"),
    ("skewscope_serving_prompt_tokens_total", "counter", "", "Prompt tokens that an engine read"),
    ("skewscope_serving_generation_tokens_total", "counter", "", "Tokens that an engine generated"),
    ("skewscope_serving_preemptions_total", "counter", "", "Requests put back into the queue for lack of KV cache"),
    ("skewscope_serving_prefix_cache_queries_total", "counter", "", "Tokens looked up in the prefix cache"),
    ("skewscope_serving_prefix_cache_hits_total", "counter", "", "Tokens found in the prefix cache"),
    ("skewscope_serving_prefix_cache_hit_ratio", "gauge", "ratio", "Share of tokens found in the prefix cache, where "
     "the engine tells only that"),
    ("skewscope_serving_draft_tokens_total", "counter", "", "Tokens proposed by speculative decoding"),
    ("skewscope_serving_accepted_tokens_total", "counter", "", "Proposed tokens that were accepted"),
    ("skewscope_serving_accept_length_tokens", "gauge", "tokens", "Mean tokens that one speculative step yields"),
    ("skewscope_serving_time_to_first_token_seconds", "histogram", "seconds",
     "Seconds from a request's arrival to its first token"),
    ("skewscope_serving_inter_token_latency_seconds", "histogram", "seconds", "Seconds between tokens of a request"),
    ("skewscope_serving_request_seconds", "histogram", "seconds", "Seconds from a request's arrival to its last token"),
    ("skewscope_serving_queue_seconds", "histogram", "seconds", "Seconds that a request waited in the engine"),
    ("skewscope_serving_kv_transfer_seconds", "histogram", "seconds", "Seconds that a transfer of KV cache took from "
     "the replica that read the prompt to the one that answers"),
    ("skewscope_serving_kv_transfer_bytes", "histogram", "bytes", "Bytes of one transfer of KV cache"),
    ("skewscope_serving_kv_transfer_failures_total", "counter", "", "Transfers of KV cache that failed"),
    ("skewscope_serving_kv_transfer_expired_total", "counter", "", "Requests whose KV cache was dropped as nobody "
     "fetched it in time"),
    ("skewscope_serving_gateway_requests_waiting", "gauge", "", "Requests that wait in the gateway before the engines "
     "of a model"),
    ("skewscope_serving_gateway_queue_seconds", "histogram", "seconds", "Seconds that a request waited in the "
     "gateway"),
    ("skewscope_serving_gateway_time_to_first_token_seconds", "histogram", "seconds",
     "Seconds from a request's arrival at the gateway to the first token that comes back there"),
    ("skewscope_serving_gateway_inter_token_latency_seconds", "histogram", "seconds",
     "Seconds between the tokens of a request as they come back to the gateway"),
    ("skewscope_serving_moe_balance_ratio", "summary", "ratio", "Balance of the ranks that hold experts in a forward "
     "pass, by the engine's own definition, sum and count"),
    ("skewscope_serving_moe_rebalances_total", "counter", "", "Times that an engine moved experts between ranks"),
    ("skewscope_serving_moe_rebalance_seconds", "summary", "seconds", "Seconds in which an engine moved experts, sum "
     "and count"),
)) + (
    Metric("skewscope_serving_endpoint_up", "gauge", "", "1 where the engine's metrics page answered, else 0",
           ("replica",)),
)
