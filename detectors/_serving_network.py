"""What rooms about the network of inference engines share: their hosts, what the gateway sees beyond, the price.

No engine sees what is lost between it and the gateway. So the price is worked out from outside: what a request of the
host's replicas takes longer from the gateway to its last token, and that as a share of its whole time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope import subjects
from skewscope.contracts import SEVERITIES, Evidence, Finding, Frames, Window
from skewscope.signals.view import signal
from skewscope.subjects import Subject

from ._prices import severity
from ._serving import GATEWAY, LEAST_BEFORE, PREFIX, REQUEST_S, Engines, gate_s, ratio

Array = np.ndarray[Any, Any]
FIRST_S, TOKEN_S = f"{PREFIX}time_to_first_token_seconds", f"{PREFIX}inter_token_latency_seconds"
GATE_FIRST_S, GATE_TOKEN_S = (f"{PREFIX}gateway_{what}" for what in
                              ("time_to_first_token_seconds", "inter_token_latency_seconds"))  # fmt: skip
SEGMENTS, AGAIN = "skewscope_tcp_segments_total", "skewscope_tcp_retransmitted_segments_total"
PORT_DROPS, PORT_SENT = "skewscope_ethernet_drops_total", "skewscope_ethernet_transmit_bytes_total"
PORT_PACKETS = "skewscope_ethernet_transmit_packets_total"


@dataclass(frozen=True)
class Hosts:
    """Hosts of engines: `node` [hosts], and the replicas (columns of `told`) of each."""

    told: Engines
    node: tuple[str, ...]
    columns: tuple[Array, ...]

    def tcp(self, tables: Frames, metric: str, take: str = "increase", **labels: str | tuple[str, ...]) -> Array:
        """Return what a host tells, [windows, hosts]: sums over its devices; NaN where nothing is told."""
        chosen: dict[str, Any] = dict(labels)
        found = signal(tables, metric, take=take, **chosen)
        values = np.full((len(self.told.t_ns), len(self.node)), np.nan)
        for place, node in enumerate(self.node):
            mine = found.values[:, found.node == node]
            known = np.isfinite(mine).any(axis=1)
            values[known, place] = np.nansum(mine[known], axis=1)
        return values

    def summed(self, values: Array) -> Array:
        """Return the sums over each host's replicas, [windows, hosts]."""
        return np.stack([values[:, mine].sum(axis=1) for mine in self.columns], axis=1)

    def model(self, place: int) -> str:
        """Return the model that a host serves, the first of several."""
        return str(self.told.model[self.columns[place][0]])


def hosts(told: Engines) -> Hosts:
    """Return the hosts on which engines run."""
    of = told.engine != GATEWAY
    nodes = tuple(dict.fromkeys(told.node[of].tolist()))
    return Hosts(told, nodes, tuple(np.flatnonzero(of & (told.node == node)) for node in nodes))


def at_gateway(told: Engines, model: str) -> tuple[Array, Array]:
    """Return (gateways, replicas) of a model, as columns."""
    mine = told.model == model
    return np.flatnonzero(mine & (told.engine == GATEWAY)), np.flatnonzero(mine & (told.engine != GATEWAY))


def mean_of(told: Engines, metric: str, columns: Array) -> Array:
    """Return the mean of a histogram over all that some replicas counted [windows], NaN where that is nothing."""
    spent, count = (told.count(f"{metric}_{part}")[:, columns].sum(axis=1) for part in ("sum", "count"))
    return ratio(spent, count)


def beyond(told: Engines, model: str, gate: str, engine: str) -> Array:
    """Return [windows]: by how much the gateway's mean is above that of the model's engines, NaN where untold."""
    gates, replicas = at_gateway(told, model)
    return np.asarray(mean_of(told, gate, gates) - mean_of(told, engine, replicas))


def over_usual(values: Array, mask: Array) -> Array:
    """Return `values` [windows] without what was usual before `mask`, where enough windows say so."""
    before = values[: int(np.flatnonzero(mask)[0])]
    before = before[np.isfinite(before)]
    return np.asarray(values - (np.median(before) if len(before) >= LEAST_BEFORE else 0.0))


def spread(found: Hosts, place: int, each_s: Array, metric: str) -> Array:
    """Return [windows]: seconds that all replicas of a model lose on average, as those of one host's alone."""
    told = found.told
    count = told.count(f"{metric}_count")
    _, replicas = at_gateway(told, found.model(place))
    return np.asarray(each_s * ratio(count[:, replicas].sum(axis=1), count[:, found.columns[place]].sum(axis=1)))


def price(told: Engines, columns: Array, mask: Array, more_s: Array) -> tuple[float, float, bool]:
    """Return (seconds, share of its time, known): what a request of these replicas loses outside of the engines.

    `more_s` [windows] is what each takes longer, NaN where nobody tells. It counts from the first to the last of
    `mask` [windows], by the requests that finished.
    """
    first, last = np.flatnonzero(mask)[[0, -1]]
    span = slice(first, last + 1)
    spent, count = (told.count(f"{REQUEST_S}_{part}")[:, columns].sum(axis=1)[span] for part in ("sum", "count"))
    own_s = ratio(spent, count) + gate_s(told, str(told.model[columns[0]]))[span]
    known = np.isfinite(own_s) & np.isfinite(more_s[span])
    if not known.any():
        return 0.0, 0.0, False
    more, weight = np.where(mask[span], more_s[span], 0.0)[known], count[known]
    lost_s = max(0.0, float((more * weight).sum() / weight.sum()))
    took_s = float((own_s[known] * weight).sum() / weight.sum()) + lost_s
    return lost_s, lost_s / took_s if took_s > 0 else 0.0, True


def finding(
    condition: str, told: Engines, columns: Array, mask: Array, *, subject: Subject, more_s: Array, cost_ratio: float,
    evidence: Iterable[Evidence], summary: str, advice: str,
) -> Finding:  # fmt: skip
    """Return the finding: the culprit where requests lose `cost_ratio` of their time, or where nobody tells that."""
    lost_s, share, known = price(told, columns, mask, more_s)
    first, last = np.flatnonzero(mask)[[0, -1]]
    window = Window(int(told.t_ns[first] - told.window_s * 1e9), int(told.t_ns[last]))
    role = "culprit" if share >= cost_ratio or not known else "context"
    least = "S3" if role == "culprit" else "S4"
    return Finding(
        condition=condition, subject=subject, role=role, severity=min(severity(share), least, key=SEVERITIES.index),
        confidence=0.9 if known else 0.7, window=window, lost_s=lost_s, lost_share=share, evidence=tuple(evidence),
        summary=f"{summary}; a request takes {lost_s:.2f} s ({share:.0%}) longer" if lost_s > 0 else summary,
        advice=advice,
    )  # fmt: skip


def struck(found: Hosts, mask: Array) -> Iterator[tuple[int, Subject]]:
    """Yield (place, subject) of each host in `mask` [windows, hosts]."""
    for place in np.flatnonzero(mask.any(axis=0)).tolist():
        yield place, subjects.node(found.node[place])
