"""Small pools of replicas behind a gateway for `cases()`, with the network of their hosts; windows of 30 s."""

from __future__ import annotations

from collections.abc import Iterable

from ._serving_network import AGAIN, PORT_DROPS, PORT_PACKETS, PORT_SENT, SEGMENTS
from ._serving_worlds import USUAL, Pool

COUNT = 15e4  # segments of a host in a window, each way: 5,000 a second
SENT_BYTES = 9e6  # in them, without what stands before each
TOKENS, REQUESTS = USUAL["inter_token_latency_seconds_count"], USUAL["request_seconds_count"]
TOKEN_S = USUAL["inter_token_latency_seconds_sum"] / TOKENS
FIRST_S = USUAL["time_to_first_token_seconds_sum"] / REQUESTS
BOUNDS = ("0.025", "0.05", "0.1", "0.2", "0.5", "+Inf")
WITHIN = (0.3, 0.98, 1.0, 1.0, 1.0, 1.0)  # of an engine's tokens, up to each bound


class NetPool(Pool):
    """Replicas on n0 to n3, whose hosts send and receive, and the gateway on n0."""

    def __init__(self, *, gateway: bool = True, busy: float = 1.0) -> None:
        super().__init__()
        for way in ("receive", "transmit"):
            self.put(SEGMENTS, busy * COUNT, labels=f"direction={way}")
        self.put(PORT_PACKETS, busy * COUNT, devices=["eth0"]).put(
            PORT_SENT, busy * (SENT_BYTES + 66.0 * COUNT), devices=["eth0"]
        )
        self.lose(AGAIN, 2e-5, nodes=self.nodes, since=0)
        for bound, share in zip(BOUNDS, WITHIN, strict=True):
            self.serve("inter_token_latency_seconds_bucket", share * TOKENS, bound=bound, since=0)
        if gateway:
            self._shown(0.004, 0.0, WITHIN, 0, None)

    def lose(
        self, metric: str, share: float, labels: str = "", *, nodes: Iterable[str] = ("n1",), since: int = 10,
        until: int | None = None,
    ) -> NetPool:  # fmt: skip
        """Let this share of a host's segments be counted by a metric from a window on."""
        devices = ["eth0"] if metric == PORT_DROPS else [""]
        self.put(metric, share * COUNT, labels=labels, nodes=nodes, devices=devices, since=since, until=until)
        return self

    def later(self, seconds: float, *, since: int = 10, until: int | None = None) -> NetPool:
        """Let the first token of one replica's requests come so much later to the gateway."""
        self._shown(0.004 + seconds / len(self.nodes), 0.0, WITHIN, since, until)
        return self

    def jitters(
        self, within: tuple[float, ...], token_s: float, *, since: int = 10, until: int | None = None
    ) -> NetPool:
        """Let so many tokens come back within the bounds, and each token of one replica this much later."""
        self._shown(0.004, token_s / len(self.nodes), within, since, until)
        return self

    def _shown(self, first_s: float, token_s: float, within: tuple[float, ...], since: int, until: int | None) -> None:
        count = len(self.nodes)
        for metric, each_s, number in (
            ("time_to_first_token_seconds", FIRST_S + first_s, count * REQUESTS),
            ("inter_token_latency_seconds", TOKEN_S + token_s, count * TOKENS),
        ):
            for part, value in (("sum", each_s * number), ("count", number)):
                self._gate(f"{metric}_{part}", value, since=since, until=until)
        for bound, share in zip(BOUNDS, within, strict=True):
            metric, value = "inter_token_latency_seconds_bucket", share * count * TOKENS
            self._gate(metric, value, since=since, until=until, bound=bound)

    def _gate(self, metric: str, value: float, *, since: int, until: int | None, bound: str = "") -> None:
        self.serve(f"gateway_{metric}", value, nodes=["n0"], engine="gateway", since=since, until=until, bound=bound)
