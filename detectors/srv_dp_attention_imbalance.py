"""Ranks of one replica that split attention by requests get unequal work: all wait for the fullest.

Why it hurts
    Attention is each rank's own, what follows is everybody's: experts and the exchange before them begin when the last
    rank is done. An iteration is as long as the fullest rank's, and slots of the others stand empty.

How it is seen
    Engines tell of each rank. The mean over the ranks of the tokens that they read and make, over those of the fullest
    one, is below 0.8 in two windows of 30 s of three, or on average over three or eight; and so far below that the
    fullest rank is beyond what chance makes of so few requests. The price is what requests of the replica take longer.

Look-alikes
    `srv-flow-skew`: replicas get unequal requests, each splits its own evenly. `moe-rank-imbalance`: after attention;
    tokens of all ranks are as many. Few requests: chance alone gives one rank twice the others'. Ranks that one window
    fills and another empties are even on average, and within a window nobody tells.

What to do
    Let the engine give requests to the rank with fewest tokens and wait a little so that all ranks start prompts
    together (TensorRT-LLM: `attention_dp_config` with `timeout_iters` and `batching_wait_iters`; SGLang: balance by
    tokens, not round robin).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    GATEWAY,
    HELD_COUNT,
    OF_COUNT,
    PREFIX,
    RUNNING,
    Array,
    Engines,
    Struck,
    engines,
    finding,
    ratio,
)
from ._serving_worlds import REPLICA, USUAL, Pool

READ, MADE = f"{PREFIX}prompt_tokens_total", f"{PREFIX}generation_tokens_total"
RANKS = 4  # of the worlds' replicas


@dataclass(frozen=True)
class SrvDpAttentionImbalance:
    """Thresholds: how uneven ranks are, beyond chance, for how long, and what that costs."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    balance_ratio: float = 0.8  # mean over fullest {conditions A9}
    chance_z: float = 4.0  # of the spread of as many requests {D}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A9: 100 iterations are 3 s and more}
    of_count: int = OF_COUNT
    long_count: int = 8  # windows together, where so few requests come that fewer windows say nothing {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica whose ranks are uneven."""
        told = engines(tables)
        replicas = _replicas(told)
        if not replicas:
            return
        tokens = told.count(READ) + told.count(MADE)
        requests = told.count(FINISHED) + np.nan_to_num(told.gauge(RUNNING))
        for columns in replicas:
            now = tokens[:, columns], requests[:, columns]
            uneven = lasting(self._uneven(*now)[:, None], self.held_count, self.of_count)[:, 0]
            for count in (self.of_count, self.long_count):
                uneven |= self._uneven(*(_summed(one, count) for one in now))
            if uneven.any():
                yield self._finding(told, Struck(columns, uneven, told.subject(int(columns[0]))), tokens)

    def _uneven(self, tokens: Array, requests: Array) -> Array:
        """Return [windows]: where the fullest rank has more than the mean and chance account for."""
        chance = 1.0 / (1.0 + ratio(np.full(len(requests), self.chance_z), np.sqrt(requests.mean(axis=1))))
        return np.asarray(_balance(tokens) < np.fmin(self.balance_ratio, np.nan_to_num(chance)))

    def _finding(self, told: Engines, who: Struck, tokens: Array) -> Finding:
        mine = tokens[np.ix_(who.mask, who.columns)].sum(axis=0)
        seen, fullest = float(mine.mean() / mine.max()), str(told.name[who.columns[int(mine.argmax())]])
        evidence = [
            Evidence("mean_over_fullest", seen, 1.0, self.balance_ratio, "ratio"),
            Evidence("ranks", float(len(mine)), None, None, "count"),
        ]
        return finding(
            "srv-dp-attention-imbalance", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"the {len(mine)} attention ranks of {who.subject.id} work at {seen:.0%} of the fullest, {fullest}",
            advice="give requests to the rank with fewest tokens, and let ranks start prompts together",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the mean of the ranks' tokens over the fullest's, beyond what chance makes."""
        base = f'label_replace(rate({MADE}[3m]) + rate({READ}[3m]), "base", "$1", "replica", "([^/]*).*")'
        done = f'label_replace(increase({FINISHED}[3m]), "base", "$1", "replica", "([^/]*).*")'
        by = "by (base, model, node, instance)"
        return Rule(
            "SkewscopeSrvDpAttentionImbalance",
            f"avg {by} ({base}) / max {by} ({base}) < {self.balance_ratio:g} "
            f"and (max {by} ({base}) / avg {by} ({base}) - 1) * sqrt(avg {by} ({done})) >= {self.chance_z:g}",
            30 * (self.held_count - 1), "warning", "attention ranks of {{ $labels.base }} are uneven",
            "the ranks of {{ $labels.base }} on {{ $labels.instance }} work at {{ $value | humanizePercentage }} of "
            "the fullest",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: are the ranks uneven, in prompts or in answers, are the replicas too."""
        return (
            Check("made", "Does one rank make more tokens than the others?", MADE, "rate", "> 0", f"rate({MADE}[5m])",
                  "long answers meet on it: balance by tokens that are under way", "see `read`"),
            Check("read", "Does one rank read more?", READ, "rate", "> 0", f"rate({READ}[5m])",
                  "long prompts meet on it: let ranks start prompts together", "see `running`", after=("made",)),
            Check("running", "Are requests uneven over whole replicas?", RUNNING, "mean", "> 0", RUNNING,
                  "see `srv-flow-skew`", "see `moe-rank-imbalance`", after=("read",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: even, nearly, uneven, cheap, little, a moment, a while, few requests, uneven replicas."""
        one = frozenset({f"n1/{REPLICA}"})
        yield World("quiet", _split().told())
        yield World("near-miss", _split(1.24).told())
        yield World("uneven", _split(1.8, lost=0.25).told(), one)
        yield World("harmless", _split(1.8).told(), one)
        yield World("little", _split(1.42, lost=0.1).told(), one)
        yield World("one-window", _split(1.75, until=11).told())
        yield World("a-while", _split(1.35, until=14).told())
        yield World("few-requests", _split(1.8, requests=0.02).told())
        alone = Pool().serve("generation_tokens_total", 62_400.0, nodes=["n1"]).serve(
            "prompt_tokens_total", 216e3, nodes=["n1"])  # fmt: skip
        yield World("look-alike-flow", alone.told())


def _replicas(told: Engines) -> list[Array]:
    """Return the ranks of each replica that has several, as columns: they share a page, which names them behind a /."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for column in np.flatnonzero(told.engine != GATEWAY).tolist():
        base = str(told.name[column]).partition("/")[0]
        found.setdefault((str(told.node[column]), str(told.model[column]), base), []).append(column)
    return [np.array(columns) for columns in found.values() if len(columns) > 1]


def _balance(tokens: Array) -> Array:
    """Return the mean over the fullest [windows], NaN where nothing was done.

    >>> _balance(np.array([[1.0, 3.0]])).tolist()
    [0.6666666666666666]
    """
    return ratio(tokens.mean(axis=1), tokens.max(axis=1))


def _summed(values: Array, count: int) -> Array:
    """Return the sums over `count` windows up to each one, 0 where there are not so many.

    >>> _summed(np.array([[1.0], [2.0], [3.0]]), 2)[:, 0].tolist()
    [0.0, 3.0, 5.0]
    """
    found = np.zeros(values.shape)
    sums = np.cumsum(values, axis=0)
    found[count - 1 :] = sums[count - 1 :]
    found[count:] -= sums[:-count]
    return found


def _split(most: float = 1.0, *, requests: float = 1.0, lost: float = 0.0, until: int | None = None) -> Pool:
    """Return a pool whose replicas have four ranks; one of n1 gets `most` times the mean from a window on."""
    pool = Pool()
    for rank in range(RANKS):
        labels = f"engine=vllm,model=chat,replica={REPLICA}" + (f"/{rank}" if rank else "")
        part = most if rank == 2 else (RANKS - most) / (RANKS - 1)
        parts = {READ: part, MADE: part, f"{PREFIX}request_seconds_sum": 1.0 / (1.0 - lost)}
        for name, value in USUAL.items():
            metric, usual = f"{PREFIX}{name}", requests * value / RANKS
            pool.put(metric, usual, labels=labels)
            pool.put(metric, parts.get(metric, 1.0) * usual, labels=labels, nodes=["n1"], since=10, until=until)
    return pool
