"""Small pools of replicas for `cases()`: one engine on each of four hosts, windows of 30 s."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ._live_worlds import TABLES, Array, Fleet

REPLICA = "127.0.0.1:8000"  # of every host: the agent names an engine by its page
USUAL = {  # what a healthy replica shows; counters grow by so much in a window
    "requests_running": 40.0, "requests_waiting": 0.0, "kv_cache_usage_ratio": 0.5, "requests_finished_total": 120.0,
    "prompt_tokens_total": 108e3, "generation_tokens_total": 31_200.0, "preemptions_total": 0.0,
    "request_seconds_sum": 960.0, "request_seconds_count": 120.0, "time_to_first_token_seconds_sum": 12.0,
    "time_to_first_token_seconds_count": 120.0, "inter_token_latency_seconds_sum": 936.0,
    "inter_token_latency_seconds_count": 31_200.0,
}  # fmt: skip


class Pool(Fleet):
    """Replicas of the model `chat` on n0 to n3."""

    def __init__(self, replicas: int = 4, **usual: float) -> None:
        super().__init__(nodes=replicas, gpus=0, nics=0)
        for metric, value in {**USUAL, **usual}.items():
            self.serve(metric, value, since=0)

    def serve(
        self, metric: str, value: float | Array, *, nodes: Iterable[str] = (), since: int = 10,
        until: int | None = None, engine: str = "vllm", bound: str = "",
    ) -> Pool:  # fmt: skip
        """Set what replicas on these hosts (on all) show from a window on."""
        name = REPLICA if engine != "gateway" else "127.0.0.1:9090"
        labels = f"engine={engine},model=chat,replica={name}" + (f",le={bound}" if bound else "")
        shown = np.resize(value, self.windows_count)[since:until] if isinstance(value, np.ndarray) else value
        self.put(f"skewscope_serving_{metric}", shown, labels=labels, nodes=nodes, since=since, until=until)
        return self

    def slower(self, share: float, *, nodes: Iterable[str] = (), since: int = 10, until: int | None = None) -> Pool:
        """Let this share of a request's time be lost from a window on."""
        total_s = USUAL["request_seconds_sum"] / (1.0 - share)
        return self.serve("request_seconds_sum", total_s, nodes=nodes, since=since, until=until)

    def told(self) -> TABLES:
        """Return all tables; there is no training job."""
        return self.tables(job=False)
