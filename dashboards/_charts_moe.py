"""Charts of expert loads: the gap ladder over layers, and which expert of which layer gets how many tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from skewscope.errors import UsageError
from skewscope.moe.advice import advise, hot_experts
from skewscope.moe.diagnosis import Diagnosis, diagnose, key
from skewscope.moe.ladder import Ladder
from skewscope.signals.view import remembered

from ._chart import BLUE, GREEN, GREY, PINK, RED, SKY, Chart, Tables, bin_edges, layout

RUNGS = (  # attribute, name, colour, dash
    ("ceiling", "noise ceiling", GREY, "dot"), ("bound", "replication bound", SKY, "dash"),
    ("group_bound", "group bound", PINK, "dash"), ("plan", "plan, own window", GREEN, "dot"),
    ("held_out", "plan, later windows", BLUE, "solid"), ("now", "now", RED, "solid"),
)  # fmt: skip
MOST_EXPERTS, MOST_LAYERS = 512, 128
HOT = 8.0  # times the mean, where colours end


def moe(tables: Tables) -> list[Chart]:
    """Return ladder and map of the job and phase with the least balance; [] where no loads of experts are recorded."""
    rows = tables.get("expert_loads")
    if rows is None or not len(rows):
        return []
    try:
        found = remembered(rows, key(tables), lambda: diagnose(tables))
    except UsageError:
        return []
    if not found:
        return []
    worst = min(found, key=lambda one: float(one.ladder.now.mean()) if one.ladder is not None else 1.0)
    more = f"{len(found) - 1} other phases or jobs are in the JSON." if len(found) > 1 else ""
    made = [_heat(worst, more)]
    return [_ladder(worst, worst.ladder, more), *made] if worst.ladder is not None else made


def _ladder(found: Diagnosis, rungs: Ladder, more: str) -> Chart:
    layers = found.loads.layers.tolist()
    figure = go.Figure()
    for name, said, colour, dash in RUNGS:
        values = getattr(rungs, name)
        if np.isfinite(values).any():
            figure.add_scatter(
                x=layers, y=np.round(values, 4).tolist(), name=said,
                mode="lines" if len(layers) > 2 else "lines+markers",
                line={"color": colour, "dash": dash, "width": 3 if name == "now" else 2},
                hovertemplate="layer %{x}<br>%{y:.3f}",
            )  # fmt: skip
    layout(figure, "layer of the model", "balance of GPUs (mean / maximum)", hovermode="x unified")
    figure.update_yaxes(range=[0, 1.03])
    limits = ", ".join(f"{count} {name}" for name, count in _counted(rungs.binding()))
    said = (
        f"Balance of {rungs.gpus} GPUs{' in ' + found.loads.phase if found.loads.phase else ''} is "
        f"{rungs.now.mean():.3f}; chance leaves {rungs.ceiling.mean():.3f}. "
        f"What binds: {rungs.limit} (layers: {limits})."
    )
    rows = [
        (text, *(_number(float(one)) for one in (values.mean(), values.min())), str(layers[int(values.argmin())]))
        for text, values in ((text, getattr(rungs, name)) for name, text, _, _ in reversed(RUNGS))
        if np.isfinite(values).all()
    ]
    note = f"{found.layout.basis[:1].upper()}{found.layout.basis[1:]}. {' '.join(_sentence(found))} {more}".strip()
    return Chart("moe-ladder", f"Gap ladder of experts{_phase(found)}", said, figure,
                 ("balance", "mean over layers", "worst layer", "which"), tuple(rows), note)  # fmt: skip


def _heat(found: Diagnosis, more: str) -> Chart:
    total = found.judged.sum(axis=0)
    ratio = total / np.maximum(total.mean(axis=1, keepdims=True), 1e-9)
    drawn, across = _binned(ratio)
    # Colours are of the logarithm: twice the mean and half of it are as far from it.
    values = np.log2(np.clip(drawn, 1.0 / HOT, HOT))
    ticks = [1.0 / HOT, 0.5, 1.0, 2.0, HOT]
    figure = go.Figure(
        go.Heatmap(
            z=values.astype(np.float32), x=across, y=[str(layer) for layer in found.loads.layers[: len(drawn)]],
            zmin=-np.log2(HOT), zmax=np.log2(HOT), zmid=0, meta="diverging", customdata=np.round(drawn, 3),
            colorbar={"title": {"text": "times the mean"}, "thickness": 14, "tickvals": np.log2(ticks).tolist(),
                      "ticktext": [f"{tick:g}" for tick in ticks]},
            hovertemplate="layer %{y}<br>expert %{x}<br>%{customdata} times the mean<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "expert (as the router numbers it)", "layer of the model").update_yaxes(
        autorange="reversed", type="category"
    )
    figure.update_layout(height=420 if len(drawn) > 24 else 320)
    hottest = hot_experts(found, 10)
    layer, expert, times = hottest[0]
    said = (
        f"The busiest expert is {expert} of layer {layer} with {times:.1f} times the mean of its layer; the median "
        f"layer's busiest has {float(np.median(found.hottest)):.1f} times, an even router would show "
        f"{float(np.median(found.even_hottest)):.2f}."
    )
    rows = tuple((str(layer), str(expert), f"{times:.2f}") for layer, expert, times in hottest)
    note = "Each cell shows the busiest of several experts." if ratio.shape[1] > MOST_EXPERTS else ""
    return Chart("moe-experts", f"Tokens of experts by layer{_phase(found)}", said, figure,
                 ("layer", "expert", "times the mean"), rows, f"{note} {more}".strip())  # fmt: skip


def _binned(ratio: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], list[int]]:
    across = bin_edges(ratio.shape[1], MOST_EXPERTS)
    return np.maximum.reduceat(ratio[:MOST_LAYERS], across, axis=1), across.tolist()


def _sentence(found: Diagnosis) -> list[str]:
    return [f"{one.text[:1].upper()}{one.text[1:]}." for one in advise(found)[:3]]


def _counted(names: list[str]) -> list[tuple[str, int]]:
    return sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: -pair[1])


def _number(value: float) -> str:
    return f"{value:.3f}"


def _phase(found: Diagnosis) -> str:
    return f", {found.loads.phase}" if found.loads.phase else ""
