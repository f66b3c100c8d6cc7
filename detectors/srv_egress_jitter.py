"""Tokens leave the engine evenly and reach the client by fits and starts.

Why it hurts
    Who reads along sees the answer stop and go, and a stream that is paced never makes good what it stood still. The
    GPU has done its work, so none of its figures moves.

How it is seen
    For two windows of 30 s the time between tokens that 99 % of them keep at the gateway is twice what they keep in the
    engines of the model, or more. It is a host's where the interface drops what it sends, or must send it again: then
    only its part of the tokens is late, and as much less of all is looked at. Where no host shows anything it is the
    gateway or what stands between, and the finding is about the model. The price is what a token takes longer to the
    gateway than in the engine, over all of a request's, as a share of its time.

Look-alikes
    The engine's own time between tokens is long: `srv-prefill-decode-interference`, `kv-pressure`. Everything is late
    alike and nothing stands still: `srv-egress-backlog`. Only first tokens are late: `srv-ingress-loss`.

What to do
    Look at drops of the interface and its queues, spread interrupts over processors, pace what is sent, send several
    tokens at once; look at the gateway's own processors where all hosts are clean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import HELD_COUNT, OF_COUNT, RUNNING, Array, Engines, engines, quantile, ratio
from ._serving_network import (
    AGAIN,
    GATE_TOKEN_S,
    PORT_DROPS,
    PORT_PACKETS,
    SEGMENTS,
    TOKEN_S,
    Hosts,
    at_gateway,
    beyond,
    finding,
    hosts,
    over_usual,
    spread,
    struck,
)
from ._serving_network_worlds import NetPool

AWAY = "direction=transmit"  # of the worlds
LATE_S = 0.008  # that a token of one replica takes longer in the worlds
FITFUL, ALMOST = (0.28, 0.9, 0.95, 0.97, 1.0, 1.0), (0.3, 0.96, 0.991, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class SrvEgressJitter:
    """Thresholds: how much later the latest tokens are outside, what makes it a host's, and what that costs."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    late_ratio: float = 2.0  # of the engine's time between tokens {conditions A10}
    quantile_ratio: float = 0.99  # of the tokens {conditions A10}
    lost_ratio: float = 0.001  # of what a host sends, dropped or sent again {conditions A13, as of the way in}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {D}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host whose tokens leave fitfully, else one per model."""
        told = engines(tables)
        if not told.count(f"{GATE_TOKEN_S}_count").any():
            return
        found = hosts(told)
        suspect = self._suspect(tables, found)
        for model in dict.fromkeys(told.model.tolist()):
            yield from self._of_model(found, str(model), suspect)

    def _of_model(self, found: Hosts, model: str, suspect: Array) -> Iterator[Finding]:
        told = found.told
        gates, replicas = at_gateway(told, model)
        if not len(gates) or not len(replicas):
            return
        mine = np.array([found.model(place) == model for place in range(len(found.node))])
        mask = np.zeros(suspect.shape, dtype=bool)
        for place in np.flatnonzero(mine & suspect.any(axis=0)).tolist():
            part = _part(told, found.columns[place], replicas)
            mask[:, place] = suspect[:, place] & (self._late(told, gates, replicas, part) >= self.late_ratio)
        mask = lasting(mask, self.held_count, self.of_count)
        for place, subject in struck(found, mask):
            when = mask[:, place]
            each_s = over_usual(beyond(told, model, GATE_TOKEN_S, TOKEN_S), when)
            more_s = spread(found, place, each_s, TOKEN_S) * _tokens(told, found.columns[place])
            yield self._finding(told, found.columns[place], when, subject, more_s, model)
        alone = self._late(told, gates, replicas, 1.0) >= self.late_ratio
        alone &= ~suspect[:, mine].any(axis=1)
        whole = lasting(alone[:, None], self.held_count, self.of_count)[:, 0]
        if whole.any():
            each_s = over_usual(beyond(told, model, GATE_TOKEN_S, TOKEN_S), whole)
            more_s = each_s * _tokens(told, replicas)
            yield self._finding(told, replicas, whole, subjects.job(model), more_s, model)

    def _late(self, told: Engines, gates: Array, replicas: Array, part: float) -> Array:
        """Return [windows]: the time that the latest of `part` of the tokens keep at the gateway over the engines'."""
        share = 1.0 - (1.0 - self.quantile_ratio) * part
        ends = []
        for metric, columns in ((GATE_TOKEN_S, gates), (TOKEN_S, replicas)):
            bounds, counts = told.buckets(metric)
            ends.append(quantile(bounds, counts[:, columns].sum(axis=1, keepdims=True), share)[:, 0])
        return np.nan_to_num(ratio(ends[0], ends[1]))

    def _suspect(self, tables: Frames, found: Hosts) -> Array:
        """Return [windows, hosts]: where a host drops what it should send, or must send it again."""
        dropped = ratio(found.tcp(tables, PORT_DROPS, direction="transmit"), found.tcp(tables, PORT_PACKETS))
        again = ratio(found.tcp(tables, AGAIN), found.tcp(tables, SEGMENTS, direction="transmit"))
        return np.asarray(np.fmax(np.nan_to_num(dropped), np.nan_to_num(again)) > self.lost_ratio)

    def _finding(self, told: Engines, columns: Array, when: Array, subject: subjects.Subject, more_s: Array,
                 model: str) -> Finding:  # fmt: skip
        gates, replicas = at_gateway(told, model)
        part = _part(told, columns, replicas)
        times = float(self._late(told, gates, replicas, part)[when].mean())
        return finding(
            "srv-egress-jitter", told, columns, when, subject=subject, more_s=more_s, cost_ratio=self.cost_ratio,
            evidence=(
                Evidence("latest_tokens_over_engine", times, 1.0, self.late_ratio, "ratio"),
                Evidence("part_of_tokens", part, None, None, "ratio"),
            ),
            summary=f"the latest tokens of {subject.id} reach the gateway {times:.1f} times as far apart as they leave "
            "the engine",
            advice="look at what the interface drops and at its queues, and at the processors of gateway and tokeniser",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: time between tokens at the gateway over the engines', on hosts that lose what they send."""
        outside, inside = (
            f"histogram_quantile({self.quantile_ratio:g}, sum by (model, le) (rate({metric}_bucket[2m])))"
            for metric in (GATE_TOKEN_S, TOKEN_S)
        )
        here = f"(sum by (node, instance, model) ({RUNNING}) * 0 + on (model) group_left () ({outside} / {inside}))"
        dropped = f'sum by (node, instance) (rate({PORT_DROPS}{{direction="transmit"}}[2m])) / on (node, instance) '
        dropped += f"sum by (node, instance) (rate({PORT_PACKETS}[2m])) > {self.lost_ratio:g}"
        again = f'rate({AGAIN}[2m]) / ignoring (direction) rate({SEGMENTS}{{direction="transmit"}}[2m])'
        return Rule(
            "SkewscopeSrvEgressJitter",
            f"{here} >= {self.late_ratio:g} and on (node, instance) ({dropped} or {again} > {self.lost_ratio:g})",
            30 * self.held_count, "warning", "tokens of {{ $labels.model }} leave {{ $labels.node }} fitfully",
            "tokens of {{ $labels.model }} are up to {{ $value | humanize }} times as far apart as in its engines, "
            "and {{ $labels.instance }} loses what it sends",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is the engine even, does a host drop or send again, is it the gateway."""
        return (
            Check("engine", "Are tokens far apart in the engine already?", f"{TOKEN_S}_sum", "rate", "> 0",
                  f"rate({TOKEN_S}_sum[5m]) / rate({TOKEN_S}_count[5m])", "see `srv-prefill-decode-interference`",
                  "see `drops`"),
            Check("drops", "Does an interface drop what it should send?", PORT_DROPS, "rate", "> 0",
                  f'rate({PORT_DROPS}{{direction="transmit"}}[5m])', "longer queues, more of them, pacing",
                  "see `again`", {"direction": "transmit"}, ("engine",)),
            Check("again", "Must a host send again?", AGAIN, "rate", "> 0.1", f"rate({AGAIN}[5m])",
                  "answers are lost on the way: look at the switch port and the cable",
                  "it is the gateway: look at its processors", after=("drops",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: even, nearly, a host, again, no host, cheap, a fitful engine, a moment, no gateway."""
        one = frozenset({"n1"})
        yield World("quiet", NetPool().told())
        yield World("near-miss", _fitful(ALMOST).told())
        yield World("drops", _fitful().told(), one)
        yield World("sent-again", NetPool().jitters(FITFUL, LATE_S).lose(AGAIN, 0.004).told(), one)
        yield World("gateway", NetPool().jitters(FITFUL, LATE_S).told(), frozenset({"chat"}))
        yield World("harmless", _fitful(late_s=0.0).told(), one)
        engine = _fitful()
        for bound, share in zip(("0.025", "0.05", "0.1", "0.2", "0.5", "+Inf"), FITFUL, strict=True):
            engine.serve("inter_token_latency_seconds_bucket", share * 31_200.0, bound=bound)
        yield World("look-alike-engine", engine.told())
        yield World("one-window", _fitful(until=11).told())
        lossy = NetPool(gateway=False).lose(PORT_DROPS, 0.004, AWAY)
        yield World("no-gateway", lossy.told())


def _part(told: Engines, columns: Array, replicas: Array) -> float:
    """Return which part of a model's tokens some replicas make."""
    count = told.count(f"{TOKEN_S}_count")
    return float(count[:, columns].sum() / max(count[:, replicas].sum(), 1.0))


def _tokens(told: Engines, columns: Array) -> Array:
    """Return the tokens of a request [windows]."""
    tokens, count = (told.count(f"{metric}_count")[:, columns].sum(axis=1)
                     for metric in (TOKEN_S, "skewscope_serving_request_seconds"))  # fmt: skip
    return ratio(tokens, count)


def _fitful(within: tuple[float, ...] = FITFUL, late_s: float = LATE_S, until: int | None = None) -> NetPool:
    """Return a pool of which one host drops what it sends, so that so many tokens come within each bound."""
    return NetPool().jitters(within, late_s, until=until).lose(PORT_DROPS, 0.004, AWAY, until=until)
