"""Serving: replicas of inference engines: KV cache, queues, and latencies against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.reports import wording
from skewscope.signals.view import parsed

from .._lines import left_out, lines
from .._page import HOW, Block, Control, nothing
from .._selection import Selection
from .._view import View

Array = np.ndarray[Any, Any]
TITLE, MOST_ROWS = "Replicas", 30
PREFIX = "skewscope_serving_"
NO_ENGINES = "Let the agent read the engines' metrics pages (vLLM, SGLang, TensorRT-LLM), and watch it."


@dataclass(frozen=True)
class Quantity:
    """One quantity of replicas: `metric`, over `per` where it is a mean of a histogram; how it is shown."""

    key: str
    title: str
    metric: str
    take: str
    per: str = ""
    unit: str = ""
    factor: float = 1.0


ALL = (
    Quantity("itl", "time between tokens", "inter_token_latency_seconds_sum", "increase_value",
             "inter_token_latency_seconds_count", "ms", 1e3),
    Quantity("ttft", "time to first token", "time_to_first_token_seconds_sum", "increase_value",
             "time_to_first_token_seconds_count", "ms", 1e3),
    Quantity("queue", "time in the queue", "queue_seconds_sum", "increase_value", "queue_seconds_count", "ms", 1e3),
    Quantity("kv", "KV cache in use", "kv_cache_usage_ratio", "mean_value", "", "%", 100.0),
    Quantity("waiting", "requests waiting", "requests_waiting", "mean_value"),
    Quantity("running", "requests running", "requests_running", "mean_value"),
    Quantity("tokens", "tokens per second", "generation_tokens_total", "increase_value", "window", "1/s"),
    Quantity("preemptions", "preemptions per second", "preemptions_total", "increase_value", "window", "1/s"),
)  # fmt: skip


class Serving:
    """The page of inference replicas."""

    path: ClassVar[str] = "/serving"
    title: ClassVar[str] = "Serving"
    order: ClassVar[int] = 10
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return one quantity of all replicas over time, and all quantities of each in the table."""
        if view.empty:
            return (nothing("replicas", TITLE, "nothing is loaded", HOW),)
        tables = {one.key: _series(view, one) for one in ALL}
        there = [one for one in ALL if len(tables[one.key])]
        if not there:
            return (nothing("replicas", TITLE, "no metrics of inference engines are loaded", NO_ENGINES),)
        drawn = next((one for one in there if one.key == selection.show), there[0])
        return (_block(there, drawn, tables),)


def _series(view: View, one: Quantity) -> pd.DataFrame:
    """Return the quantity as [windows, replicas], replicas as columns; empty where nobody tells it."""
    top = _pivot(view, one.metric, one.take)
    if not len(top) or not one.per:
        return top * one.factor if len(top) else top
    if one.per == "window":
        return top / (float(view.tables["windows"]["window_ns"].iloc[0]) / 1e9)
    count = _pivot(view, one.per, one.take)
    return (top / count.where(count > 0)).reindex_like(top) * one.factor if len(count) else top.iloc[:0]


def _pivot(view: View, metric: str, take: str) -> pd.DataFrame:
    windows = view.tables.get("windows", pd.DataFrame())
    name = f"{PREFIX}{metric}"
    if not len(windows) or name not in windows["metric"].cat.categories:
        return pd.DataFrame()
    rows = windows[(windows["metric"] == name).to_numpy()]
    replica = {text: _replica(str(text)) for text in rows["labels"].unique()}
    named = pd.DataFrame({
        "t_ns": rows["t_ns"].to_numpy(), "replica": rows["labels"].astype(object).map(replica).to_numpy(),
        "value": rows[take].to_numpy(),
    })  # fmt: skip
    return named.pivot_table(index="t_ns", columns="replica", values="value", aggfunc="sum")


def _replica(labels: str) -> str:
    """Return the name of a replica.

    >>> _replica("engine=vllm,model=chat-70b,replica=chat-3")
    'chat-3 (chat-70b)'
    """
    told = parsed(labels)
    name = told.get("replica", "") or labels
    return f"{name} ({told['model']})" if told.get("model") else name


def _block(there: Sequence[Quantity], drawn: Quantity, tables: dict[str, pd.DataFrame]) -> Block:
    made = tables[drawn.key]
    middle = made.median(axis=0)
    worst_first = middle.sort_values(ascending=drawn.key == "tokens").index.tolist()
    names = [str(name) for name in made.columns]
    order = [names.index(str(name)) for name in worst_first]
    figure = lines(made.index.to_numpy(), made.to_numpy(), names, f"{drawn.title} ({drawn.unit or '1'})", order)
    replicas = [*worst_first, *sorted({str(name) for one in there for name in tables[one.key].columns} - {*names})]
    rows = tuple(
        (name, *(wording.number(float(tables[one.key][name].median())) if name in tables[one.key] else "-"
                 for one in there))
        for name in replicas[:MOST_ROWS]
    )  # fmt: skip
    usual = float(middle.median())
    first = float(middle[worst_first[0]])
    versus = f", {wording.ratio(first / usual)} of the median replica" if usual > 0 else ""
    said = (
        f"{worst_first[0]} has the {'fewest' if drawn.key == 'tokens' else 'most'} {drawn.title}: "
        f"{wording.number(first)} {drawn.unit}".rstrip()
        + f" at the median{versus}, of {len(names)}."
    )
    columns = ("replica", *(f"{one.title} ({one.unit})" if one.unit else one.title for one in there))
    options = tuple(("" if one is there[0] else one.key, one.title) for one in there)
    control = Control("Draw", "show", options, "" if drawn is there[0] else drawn.key)
    note = " ".join((left_out(len(names)), "The table holds medians over time.")).strip()
    return Block("replicas", TITLE, said, figure, columns, rows, note, controls=(control,))
