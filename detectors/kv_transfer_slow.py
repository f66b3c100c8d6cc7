"""KV cache comes too slowly from the replica that read the prompt to the one that answers.

Why it hurts
    Where prompts and answers have GPUs of their own, an answer cannot begin before the keys and values of its prompt
    have come over the network. The first token is late by the transfer, and the cache is held at both ends meanwhile.

How it is seen
    For two windows of 30 s transfers of a replica take more than 20 % of the time to the first token, or come at half
    of the usual speed or less (that of the other replicas of its pool or its own before, whichever is higher), or
    transfers fail or expire. The price is the time that a request takes longer, as a share of its time.

Look-alikes
    A slow prefill: the transfer begins late and is short. Longer prompts: more bytes at the same speed.
    `nic-phy-degraded`, `fabric-congestion`, `nic-saturation`: why it may be slow; they name the port.
    `srv-admission-backlog`: the first token is late by the queue.

What to do
    Send layer by layer while the prompt is read, pin the transfer to the rail of the GPU, check that it goes by RDMA
    and not by a fallback, send larger pieces, change how many replicas read and answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import lasting

from ._serving import (
    HELD_COUNT,
    LEAST_BEFORE,
    OF_COUNT,
    PREFIX,
    Array,
    Engines,
    Struck,
    engines,
    finding,
    ratio,
    struck,
)
from ._serving_worlds import Pool

TRANSFER_S, BYTES = f"{PREFIX}kv_transfer_seconds", f"{PREFIX}kv_transfer_bytes"
FAILED, EXPIRED = f"{PREFIX}kv_transfer_failures_total", f"{PREFIX}kv_transfer_expired_total"
FIRST_S = f"{PREFIX}time_to_first_token_seconds"


@dataclass(frozen=True)
class KvTransferSlow:
    """Thresholds: the transfer's share of the first token's time, its speed, and what that costs."""

    category: ClassVar[str] = "kv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    first_ratio: float = 0.20  # of the time to the first token {conditions A9}
    speed_ratio: float = 0.5  # of the usual bytes per second {conditions A9: of the link; D: of the usual}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica whose transfers are slow or fail, or for their model's pool."""
        told = engines(tables)
        seconds = told.count(f"{TRANSFER_S}_sum")
        failed = told.count(FAILED) + told.count(EXPIRED)
        if not seconds.any() and not failed.any():
            return
        share = ratio(told.each(TRANSFER_S), told.each(FIRST_S))
        speed = ratio(told.count(f"{BYTES}_sum"), seconds)
        usual = np.fmax(peer_median(speed, told.model), own_median(speed, before=LEAST_BEFORE)[None])
        mask = (share > self.first_ratio) | (speed <= self.speed_ratio * usual) | (failed > 0)
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who, share, speed, usual)

    def _finding(self, told: Engines, who: Struck, share: Array, speed: Array, usual: Array) -> Finding:
        part, fast, before = who.mean(share), who.mean(speed), who.mean(usual)
        failed = float((told.count(FAILED) + told.count(EXPIRED))[np.ix_(who.mask, who.columns)].sum())
        evidence = [Evidence("transfers_failed", failed, 0.0, 0.0, "count")]
        if np.isfinite(part):
            evidence.append(Evidence("transfer_share_of_first_token", part, None, self.first_ratio, "ratio"))
        if np.isfinite(fast):
            evidence.append(Evidence("transfer_bytes_per_s", fast, before, self.speed_ratio * before, "bytes/s"))
        slow = f"take {part:.0%} of the time to the first token" if np.isfinite(part) else "do not end"
        at = f" at {fast / 1e9:.2f} GB/s, where {before / 1e9:.2f} is usual" if np.isfinite(fast) else ""
        return finding(
            "kv-transfer-slow", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"transfers of KV cache to {who.subject.id} {slow}{at}; {failed:.0f} failed or expired",
            advice="check that transfers go by RDMA on the GPU's own rail, and send layer by layer",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the transfer's share of the time to the first token."""
        each = {name: f"rate({name}_sum[2m]) / rate({name}_count[2m])" for name in (TRANSFER_S, FIRST_S)}
        return Rule(
            "SkewscopeKvTransferSlow", f"({each[TRANSFER_S]}) / ({each[FIRST_S]}) > {self.first_ratio:g}",
            30 * self.held_count, "warning", "KV cache comes slowly to {{ $labels.replica }}",
            "transfers of KV cache take {{ $value | humanizePercentage }} of the time to the first token of "
            "{{ $labels.replica }} on {{ $labels.instance }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how long, do they fail, how many bytes, is the port well."""
        wire = "skewscope_rdma_receive_bytes_total"
        return (
            Check("long", "Do transfers take long?", f"{TRANSFER_S}_sum", "rate", "> 0",
                  f"rate({TRANSFER_S}_sum[5m]) / rate({FIRST_S}_sum[5m])",
                  f"where that is above {self.first_ratio:g} see `bytes`", "see `failed`"),
            Check("failed", "Do transfers fail?", FAILED, "rate", "> 0", f"rate({FAILED}[5m])",
                  "look into the log of the connector", "see `expired`"),
            Check("expired", "Is cache dropped before it is fetched?", EXPIRED, "rate", "> 0",
                  f"rate({EXPIRED}[5m])", "too few replicas answer: change the ratio", "transfers end"),
            Check("bytes", "How much is sent a second?", f"{BYTES}_sum", "rate", "> 1e9",
                  f"rate({BYTES}_sum[5m]) / rate({TRANSFER_S}_sum[5m])", "there is much to send: layer by layer",
                  "see `wire`", after=("long",)),
            Check("wire", "Does it come by RDMA?", wire, "rate", "> 1e8", f"rate({wire}[5m])",
                  "many small pieces, or the path: see `fabric-congestion`", "it fell back to another path",
                  after=("bytes",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, below the lines, longer prompts, a slow prefill, a moment, slow, failing, all."""
        here = frozenset({"n0/127.0.0.1:8000"})
        yield World("quiet", _sent().told())
        yield World("near-miss", _sent(0.018, first_s=0.1).told())
        yield World("look-alike-long-prompts", _sent(0.03, first_s=0.2, size=3 * 288e6).told())
        yield World("look-alike-slow-prefill", _sent(0.01, first_s=1.0).told())
        yield World("one-window", _sent(1.0, first_s=1.1, until=11).told())
        yield World("slow", _sent(2.0, first_s=2.1).told(), here)
        yield World("much-of-the-first-token", _sent(0.015, first_s=0.07).told(), here)
        yield World("half-speed", _sent(0.021, first_s=0.2).told(), here)
        yield World("failing", _sent().serve("kv_transfer_failures_total", 2.0, nodes=["n0"]).told(), here)
        yield World("expired", _sent().serve("kv_transfer_expired_total", 2.0, nodes=["n0"]).told(), here)
        yield World("everywhere", _sent(2.0, first_s=2.1, nodes=()).told(), frozenset({"chat"}))


def _sent(
    each_s: float = 0.01, *, first_s: float = 0.1, size: float = 288e6, until: int | None = None,
    nodes: tuple[str, ...] = ("n0",),
) -> Pool:  # fmt: skip
    """Return a pool of which some replicas wait so long for each transfer, and so long for the first token."""
    pool = Pool(kv_transfer_seconds_sum=1.2, kv_transfer_seconds_count=120.0, kv_transfer_bytes_count=120.0,
                kv_transfer_bytes_sum=120 * 288e6)  # fmt: skip
    pool.serve("kv_transfer_seconds_sum", 120.0 * each_s, nodes=nodes, until=until)
    pool.serve("kv_transfer_bytes_sum", 120.0 * size, nodes=nodes, until=until)
    pool.serve("time_to_first_token_seconds_sum", 120.0 * first_s, nodes=nodes, until=until)
    return pool.slower(0.2, nodes=nodes, until=until) if first_s > 1.5 else pool
