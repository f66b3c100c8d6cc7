"""The recorded series that alerts compare with: step times of each job over minutes and over an hour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..metrics import metric
from .alert import Alert, reads, wrapped
from .scenes import Scene, track
from .tracks import Track

STEPS, SECONDS, HISTOGRAM = "skewscope_steps_total", "skewscope_step_seconds_total", "skewscope_step_duration_seconds"
MEAN, P50, HOUR, LONGEST = (f"skewscope:step_seconds:{name}" for name in ("mean_2m", "p50_10m", "p50_1h", "max_10m"))
STEP_S = 0.5
RANK = {"job_id": "llm", "rank": "0", "gpu": "0", "instance": "n0:9709", "job": "skewscope-fast"}
NODE = {"job_id": "llm", "instance": "n0:9709", "job": "skewscope-fast"}


def rules() -> list[dict[str, Any]]:
    """Return the recording rules, each after those it reads."""
    mean = f"sum by (job_id) (rate({SECONDS}[2m])) / sum by (job_id) (rate({STEPS}[2m]) > 0)"
    told = {
        MEAN: mean,
        P50: f"quantile_over_time(0.5, {MEAN}[10m])",
        HOUR: f"quantile_over_time(0.5, {MEAN}[1h])",
        LONGEST: longest(),
    }
    return [{"record": name, "expr": wrapped(expr)} for name, expr in told.items()]


def longest() -> str:
    """Return the expression of how long the longest step of the last 10 min was at least.

    That is the lower bound of the highest bucket that has grown: of steps in it no more is known.
    """
    count = f"sum by (job_id) (increase({HISTOGRAM}_count[10m]))"
    parts = [f"{bound:g} * (({count} - {_up_to(bound)}) > bool 0.5) > 0"
             for bound in reversed(metric(HISTOGRAM).buckets)]  # fmt: skip
    return " or ".join([*parts, f"0 * {count}"])


def _up_to(bound: float) -> str:
    texts = "|".join(dict.fromkeys((f"{bound:g}", repr(bound)))).replace(".", r"\\.")
    return f'sum by (job_id) (increase({HISTOGRAM}_bucket{{le=~"{texts}"}}[10m]))'


def needed(alert: Alert) -> bool:
    """Return whether an alert reads recorded series."""
    return any(":" in name for name in reads(alert.expr))


def scenes(alert: Alert) -> Iterator[Scene]:
    """Yield the scenes of an alert on recorded series: steps that become long, or single long ones, by its number."""
    line = float(alert.expr.split()[-1])
    if LONGEST in reads(alert.expr):
        yield Scene("fires, survives a scrape gap, resolves", _spikes(_bound_over(line)), 1.0, ("",), True)
        yield Scene("silent just below", _spikes(_bound_over(line) - 1))
        return
    yield Scene("fires, survives a scrape gap, resolves", _slower(line * 1.02), 1.0, ("",), True)
    yield Scene("silent just below", _slower(line * 0.98))


def _slower(ratio: float) -> tuple[Track, ...]:
    return (track(STEPS, RANK, 1 / STEP_S, 1 / STEP_S / ratio), track(SECONDS, RANK, 1.0, 1.0))


def _bound_over(line: float) -> int:
    """Return the number of the lowest bucket whose steps are surely longer than so many usual steps."""
    return int(np.searchsorted(metric(HISTOGRAM).buckets, line * STEP_S, side="right")) + 1


def _spikes(bucket: int) -> tuple[Track, ...]:
    """Return usual steps, and one in a hundred that falls into a bucket."""
    bounds = metric(HISTOGRAM).buckets
    each = 1 / STEP_S
    parts = [track(f"{HISTOGRAM}_bucket", {**NODE, "le": repr(bound)}, each * (bound >= STEP_S),
                   each * (bound >= STEP_S) * (1.0 if place >= bucket else 0.99))
             for place, bound in enumerate(bounds)]  # fmt: skip
    return (*_slower(1.0), *parts, track(f"{HISTOGRAM}_count", NODE, each, each))


def tests() -> list[dict[str, Any]]:
    """Return the test of promtool for the recorded series: steps of half a second, one in a hundred of 1.2 s."""
    from .timeline import notation

    times = np.arange(0.0, 5400.0, 13.0)
    shown = _spikes(int(np.searchsorted(metric(HISTOGRAM).buckets, 1.2)))
    series = [{"series": one.series, "values": notation(one.values(times, 600, 5400))} for one in shown]
    asked = [(MEAN, STEP_S), (P50, STEP_S), (HOUR, STEP_S), (LONGEST, 1.0)]
    return [{
        "name": "recorded series of steps of half a second, few of 1.2 s", "interval": "13s", "input_series": series,
        "promql_expr_test": [
            {"expr": f"round({name}, 0.001)", "eval_time": "80m",
             "exp_samples": [{"labels": '{job_id="llm"}', "value": value}]} for name, value in asked],
    }]  # fmt: skip
