"""The one list of exported metrics, with kind, unit and meaning: alert texts, boards and the agent take names here."""

from __future__ import annotations

from . import acting, agent, collective, finding, gpu, host, nic, pcie, serving
from ._metric import Metric

__all__ = ["AREAS", "METRICS", "Metric", "metric"]

AREAS = {
    "gpu": gpu.METRICS,
    "nic": nic.METRICS,
    "pcie": pcie.METRICS,
    "host": host.METRICS,
    "collective": collective.METRICS,
    "serving": serving.METRICS,
    "agent": agent.METRICS,
    "finding": (*finding.METRICS, *acting.METRICS),
}
METRICS = tuple(metric for metrics in AREAS.values() for metric in metrics)
_BY_NAME = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """Return one metric by name; raises KeyError for a name that nobody exports.

    >>> metric("skewscope_finding_active").kind
    'gauge'
    """
    return _BY_NAME[name]
