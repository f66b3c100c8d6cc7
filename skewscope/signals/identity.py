"""Whom a series is about: its identity labels become columns, the others one text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from skewscope.metrics import METRICS

PARTS = ("_bucket", "_sum", "_count")
OF_PARTS = ("le", "quantile")  # labels that the text format adds to a histogram's or a summary's series
FIRST_PORTS = ("", "1")

_DECLARED = {metric.name: metric.labels for metric in METRICS}


def identify(metric: str, labels: Mapping[str, str]) -> tuple[str, str, int, str]:
    """Return (device, job, rank, labels) of a series; "" and -1 are unknown, labels stand in declared order.

    `gpu` names a device, else `device` with `port` does (the first port goes without its number); `job_id` is the job.
    `uuid` and labels that the metric does not declare, as a scrape adds them, are left out; of a metric that nobody
    declares all labels stay, sorted.

    >>> identify("skewscope_gpu_power_watts", {"gpu": "3", "uuid": "GPU-a", "kind": "instant"})
    ('gpu3', '', -1, 'kind=instant')
    >>> identify("skewscope_rdma_errors_total", {"error": "symbol", "device": "mlx5_0", "port": "2"})
    ('mlx5_0/2', '', -1, 'error=symbol')
    >>> identify("skewscope_steps_total", {"job_id": "j7", "rank": "17", "gpu": "1"})
    ('gpu1', 'j7', 17, '')
    """
    declared = _declared(metric)
    names = declared or tuple(sorted(labels))
    told = {name: labels[name] for name in (*names, *OF_PARTS) if labels.get(name)}
    told.pop("uuid", None)
    gpu, device = told.pop("gpu", ""), ""
    if gpu:
        device = f"gpu{gpu}"
    elif "gpu" not in declared and "device" in told:
        port = told.pop("port", "")
        device = told.pop("device") + ("" if port in FIRST_PORTS else f"/{port}")
    job = told.pop("job_id", "") or (told.pop("job", "") if "job" in declared else "")
    rank = told.pop("rank", "")
    text = ",".join(f"{name}={_plain(value)}" for name, value in told.items())
    return device, job, int(rank) if rank.isdecimal() and len(rank) < 10 else -1, text


@cache
def _declared(metric: str) -> tuple[str, ...]:
    """Return the labels that a metric, or the histogram that a part belongs to, declares; () where nobody does."""
    if metric in _DECLARED:
        return _DECLARED[metric]
    for part in PARTS:
        if metric.endswith(part) and metric.removesuffix(part) in _DECLARED:
            return _DECLARED[metric.removesuffix(part)]
    return ()


def _plain(value: str) -> str:
    """Return a value without the commas and line ends that would part the text."""
    return value.replace(",", ";").replace("\n", " ") if "," in value or "\n" in value else value
