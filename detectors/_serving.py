"""What rooms about inference engines share: replicas as columns, pools of one model, who is struck, and the price.

Engines make no steps. What is lost there are seconds of requests: the time of a request from the gateway to its last
token, against what it was before. So `lost_s` of these rooms is seconds per request at the subject, and `lost_share`
the share of its time, which at a given number of requests under way is the share of capacity that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import SEVERITIES, Evidence, Finding, Frames, Window
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.view import TAKES, parsed, remembered
from skewscope.subjects import Subject

from ._prices import severity

Array = np.ndarray[Any, Any]
PREFIX = "skewscope_serving_"
GATEWAY = "gateway"  # the engine label of what stands before the replicas of a model
RUNNING, WAITING = f"{PREFIX}requests_running", f"{PREFIX}requests_waiting"
USED = f"{PREFIX}kv_cache_usage_ratio"
FINISHED, PREEMPTED = f"{PREFIX}requests_finished_total", f"{PREFIX}preemptions_total"
GATE_WAITING = f"{PREFIX}gateway_requests_waiting"
REQUEST_S, GATE_S = f"{PREFIX}request_seconds", f"{PREFIX}gateway_queue_seconds"
HALF = 0.5  # of a pool at once: then it is no single replica's
LEAST_BEFORE = 4  # windows that say what was usual before
HELD_COUNT, OF_COUNT = 2, 3  # windows {conditions A9: 60 s}
FULL_RATIO = 0.9  # of the KV cache {llm-d V, conditions A9}
THRASH_RATIO = 0.2  # preemptions per finished request {conditions A13}
FALLING_RATIO = 1.5  # the fullest batch over the emptiest, while requests wait {conditions A9}


@dataclass(frozen=True)
class Rows:
    """What one metric told: window, replica and upper bound (NaN: no bucket) of each number."""

    at: Array
    column: Array
    bound: Array
    numbers: Mapping[str, Array]


@dataclass(frozen=True)
class Engines:
    """All replicas: `node`, `name`, `model` and `engine` [replicas]; what they tell comes as [windows, replicas]."""

    t_ns: Array
    window_s: float
    node: Array
    name: Array
    model: Array
    engine: Array
    rows: Mapping[str, Rows]

    def __len__(self) -> int:
        return len(self.node)

    def gauge(self, metric: str, take: str = "mean") -> Array:
        """Return a gauge, NaN where it is not told."""
        found = np.full((len(self.t_ns), len(self)), np.nan)
        rows = self.rows.get(metric)
        if rows is not None:
            better = np.fmin if take == "low" else np.fmax
            better.at(found, (rows.at, rows.column), rows.numbers[take])
        return found

    def count(self, metric: str) -> Array:
        """Return how much a counter grew in each window, 0 where it is not told."""
        found = np.zeros((len(self.t_ns), len(self)))
        rows = self.rows.get(metric)
        if rows is not None:
            np.add.at(found, (rows.at, rows.column), np.nan_to_num(rows.numbers["increase"]))
        return found

    def each(self, metric: str) -> Array:
        """Return the mean of a histogram in each window, NaN where nothing was counted."""
        return ratio(self.count(f"{metric}_sum"), self.count(f"{metric}_count"))

    def buckets(self, metric: str) -> tuple[Array, Array]:
        """Return (bounds, cumulative counts [windows, replicas, bounds]) of a histogram, bounds ascending."""
        rows = self.rows.get(f"{metric}_bucket")
        if rows is None:
            return np.zeros(0), np.zeros((len(self.t_ns), len(self), 0))
        bounds, place = np.unique(rows.bound, return_inverse=True)
        found = np.zeros((len(self.t_ns), len(self), len(bounds)))
        np.add.at(found, (rows.at, rows.column, place), np.nan_to_num(rows.numbers["increase"]))
        return bounds, found

    def pools(self) -> Iterator[tuple[str, Array]]:
        """Yield (model, replicas that serve it), without what is no engine."""
        for model in np.unique(self.model):
            mine = np.flatnonzero((self.model == model) & (self.engine != GATEWAY))
            if len(mine):
                yield str(model), mine

    def subject(self, column: int) -> Subject:
        """Return the subject of one replica."""
        return subjects.replica(str(self.node[column]), str(self.name[column]))


def ratio(values: Array, over: Array) -> Array:
    """Return values / over, NaN where there is nothing to divide by.

    >>> ratio(np.array([6.0, 1.0]), np.array([3.0, 0.0])).tolist()
    [2.0, nan]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(over > 0, values / over, np.nan))


def engines(tables: Frames) -> Engines:
    """Return what the table `windows` tells of inference engines; worked out once a table."""
    return remembered(tables["windows"], "engines", lambda: _engines(tables["windows"]))


def _engines(table: pd.DataFrame) -> Engines:
    names = table["metric"].cat.categories
    wanted = np.array([str(name).startswith(PREFIX) and not str(name).endswith("endpoint_up") for name in names])
    every_ns = remembered(table, "times", lambda: np.unique(table["t_ns"].to_numpy()))
    window_s = float(table["window_ns"].iloc[0]) / 1e9 if len(table) else 1.0
    codes = table["metric"].cat.codes.to_numpy()
    some = table[wanted[codes]] if len(names) and len(table) else table.iloc[:0]
    told = [parsed(str(text)) for text in some["labels"].cat.categories]
    text = some["labels"].cat.codes.to_numpy()
    node = some["node"].astype(object).to_numpy()
    keys = [(str(host), told[code].get("replica", ""),
             told[code].get("model", ""), told[code].get("engine", "")) for host, code in
            zip(node, text, strict=True)]  # fmt: skip
    order = sorted(set(keys))
    place = {key: column for column, key in enumerate(order)}
    column = np.array([place[key] for key in keys], dtype=np.int64)
    bounds = np.array([float(one.get("le", "nan").replace("+Inf", "inf")) for one in told])
    parts = [np.array([key[part] for key in order], dtype=object) for part in range(4)]
    bound = bounds[text] if len(told) else np.zeros(0)
    rows = _cut(some, np.searchsorted(every_ns, some["t_ns"].to_numpy()), column, bound)
    return Engines(every_ns, window_s, parts[0], parts[1], parts[2], parts[3], rows)


def _cut(some: pd.DataFrame, at: Array, column: Array, bound: Array) -> dict[str, Rows]:
    codes = some["metric"].cat.codes.to_numpy()
    names, numbers = some["metric"].cat.categories, {take: some[name].to_numpy() for take, name in TAKES.items()}
    found = {}
    for code in np.unique(codes).tolist():
        mine = np.flatnonzero(codes == code)
        cut = {take: values[mine] for take, values in numbers.items()}
        found[str(names[code])] = Rows(at[mine], column[mine], bound[mine], cut)
    return found


@dataclass(frozen=True)
class Struck:
    """Replicas that show the same: `columns`, `mask` [windows] when, and whom it is about."""

    columns: Array
    mask: Array
    subject: Subject

    def mean(self, values: Array) -> float:
        """Return the mean of known `values` [windows, replicas] over these replicas and windows, NaN for none."""
        some = values[np.ix_(self.mask, self.columns)]
        some = some[np.isfinite(some)]
        return float(some.mean()) if len(some) else float("nan")


def struck(told: Engines, mask: Array) -> Iterator[Struck]:
    """Yield who is in `mask` [windows, replicas]: a model's pool where half of it is at once, else single replicas."""
    for model, pool in told.pools():
        mine = mask[:, pool]
        hit = pool[mine.any(axis=0)]
        if len(pool) > 1 and (mine.sum(axis=1) >= max(2.0, HALF * len(pool))).any():
            yield Struck(hit, np.asarray(mine.any(axis=1)), subjects.job(model))
        else:
            yield from (Struck(np.array([one]), mask[:, one], told.subject(int(one))) for one in hit)


def price(told: Engines, who: Struck) -> tuple[float, float]:
    """Return (seconds, share of its time) by which a request of these replicas takes longer; (0, 0) if unknown.

    What is usual is the median of the windows before, else of the other replicas of the pool meanwhile.
    """
    first, last = np.flatnonzero(who.mask)[[0, -1]]
    spent, count = (_of_requests(told, part)[:, who.columns].sum(axis=1) for part in ("sum", "count"))
    each = ratio(spent, count) + gate_s(told, str(told.model[who.columns[0]]))
    before = each[:first][np.isfinite(each[:first])]
    if len(before) >= LEAST_BEFORE:
        usual_s = float(np.median(before))
    else:
        others = peer_median(told.each(REQUEST_S), told.model)[first : last + 1, who.columns]
        usual_s = float(np.median(others[np.isfinite(others)])) if np.isfinite(others).any() else float("nan")
    known = np.isfinite(each[first : last + 1])
    weight = count[first : last + 1][known]
    if not weight.sum() > 0 or not np.isfinite(usual_s):
        return 0.0, 0.0
    took_s = float((each[first : last + 1][known] * weight).sum() / weight.sum())
    lost_s = max(0.0, took_s - usual_s)
    return lost_s, lost_s / took_s if took_s > 0 else 0.0


def _of_requests(told: Engines, part: str) -> Array:
    return told.count(f"{REQUEST_S}_{part}")


def gate_waiting(told: Engines, model: str) -> Array:
    """Return how many requests of a model wait at its gateway [windows], NaN where no gateway tells."""
    shown = told.gauge(GATE_WAITING)[:, told.model == model]
    return np.where(np.isfinite(shown).any(axis=1), np.nansum(shown, axis=1), np.nan)


def gate_s(told: Engines, model: str) -> Array:
    """Return what a request of a model waits at its gateway [windows], 0 where no gateway tells."""
    mine = (told.model == model) & (told.engine == GATEWAY)
    spent, count = (told.count(f"{GATE_S}_{part}")[:, mine].sum(axis=1) for part in ("sum", "count"))
    return np.nan_to_num(ratio(spent, count))


def other_waits(told: Engines) -> Array:
    """Return [windows, replicas]: where requests wait for KV cache, for preempted ones, or for a batch to end.

    What was so in the window before still counts: a batch falls and is filled again.
    """
    found = is_full(told) | is_thrashing(told, THRASH_RATIO) | is_falling(told, FALLING_RATIO)
    found[1:] |= found[:-1].copy()
    return found


def calm(rate: Array, queued: Array) -> Array:
    """Return the median of each column of `rate` [windows, columns] while nothing is queued, 0 where that never is."""
    free = np.where(~queued & (rate > 0), rate, np.nan)
    return np.nan_to_num(own_median(free))


def is_full(told: Engines, least: float = FULL_RATIO) -> Array:
    """Return [windows, replicas]: where the KV cache is full and requests are put back for it."""
    return np.asarray((told.gauge(USED) > least) & (told.count(PREEMPTED) > 0))


def is_thrashing(told: Engines, least: float) -> Array:
    """Return [windows, replicas]: where there are more preemptions per finished request than that."""
    return np.asarray(told.count(PREEMPTED) > least * np.maximum(told.count(FINISHED), 1.0))


def is_falling(told: Engines, least: float) -> Array:
    """Return [windows, replicas]: where a batch has emptied so far though requests wait all the time."""
    high, low = told.gauge(RUNNING, "high"), told.gauge(RUNNING, "low")
    waits = told.gauge(WAITING, "low") > 0
    high = np.where(waits, high, np.nan)
    before = np.vstack([np.full((1, high.shape[1]), np.nan), high[:-1]])
    return np.asarray(waits & (np.fmax(high, before) >= least * np.maximum(low, 1.0)))


def finding(
    condition: str, told: Engines, who: Struck, *, cost_ratio: float, evidence: Iterable[Evidence], summary: str,
    advice: str, least: str = "S4",
) -> Finding:  # fmt: skip
    """Return the finding: the culprit where requests lose `cost_ratio` of their time, or where nobody tells that."""
    lost_s, share = price(told, who)
    unknown = not _of_requests(told, "count")[:, who.columns].any()
    priced = f"{summary}; a request takes {lost_s:.2f} s ({share:.0%}) longer" if lost_s > 0 else summary
    first, last = np.flatnonzero(who.mask)[[0, -1]]
    window = Window(int(told.t_ns[first] - told.window_s * 1e9), int(told.t_ns[last]))
    return Finding(
        condition=condition, subject=who.subject, role="culprit" if share >= cost_ratio or unknown else "context",
        severity=min(severity(share), least, key=SEVERITIES.index), confidence=0.7 if unknown else 0.9, window=window,
        lost_s=lost_s, lost_share=share, evidence=tuple(evidence), summary=priced, advice=advice,
    )  # fmt: skip


def quantile(bounds: Array, counts: Array, share: float) -> Array:
    """Return the value below which `share` of what was counted lies [windows, replicas], NaN where that is nothing.

    `counts` [windows, replicas, bounds] are cumulative; within a bucket values are taken to lie evenly, and above the
    last finite bound at that bound.

    >>> float(quantile(np.array([1.0, 2.0, np.inf]), np.array([[[50.0, 100.0, 100.0]]]), 0.75)[0, 0])
    1.5
    """
    counts = np.maximum.accumulate(counts, axis=2)  # a bound that is not told counts what is below it
    total = counts.max(axis=2)
    wanted = share * total
    place = np.argmax(counts >= wanted[..., None], axis=2)
    lower = np.concatenate(([0.0], bounds))[place]
    upper = np.where(np.isfinite(bounds[place]), bounds[place], lower)
    padded = np.concatenate([np.zeros((*total.shape, 1)), counts], axis=2)
    below = np.take_along_axis(padded, place[..., None], axis=2)[..., 0]
    inside = np.take_along_axis(counts, place[..., None], axis=2)[..., 0] - below
    part = np.where(inside > 0, (wanted - below) / np.maximum(inside, 1e-9), 1.0)
    return np.asarray(np.where(total > 0, lower + (upper - lower) * part, np.nan))
