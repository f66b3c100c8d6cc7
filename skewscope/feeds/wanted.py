"""Which metrics the rooms read: what a feed need not hand on is as much as what it must."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from skewscope import signals
from skewscope.catalogue import load
from skewscope.metrics import METRICS

from ..sources._exposition_names import PARTS

NAME = re.compile(r"skewscope_(?:[a-z0-9_]|\{\w+\})+")
BLANK = re.compile(r"\\\{\w+\\\}")


@cache
def wanted() -> frozenset[str]:
    """Return the sample names that any room, runbook or price reads, parts of histograms included.

    They are taken from what stands in the rooms' files, so that a new room touches no other; a name with a blank, as
    `skewscope_rdma_{way}_packets_total`, stands for all that fit.

    >>> "skewscope_steps_total" in wanted(), "skewscope_http_requests_total" in wanted()
    (True, False)
    """
    folders = [*load("detectors").__path__, *signals.__path__]
    texts = [path.read_text("utf-8") for folder in folders for path in sorted(Path(folder).glob("*.py"))]
    written = {hit.rstrip("_") for text in texts for hit in NAME.findall(text)}
    fits = re.compile("|".join(sorted(BLANK.sub("[a-z0-9_]+", re.escape(name)) for name in written)))
    return frozenset(
        metric.name + part
        for metric in METRICS
        if metric.kind != "recorded" and _read(metric.name, fits)
        for part in PARTS.get(metric.kind, ("",))
    )


def _read(name: str, fits: re.Pattern[str]) -> bool:
    return any(fits.fullmatch(name + part) for part in ("", "_bucket", "_sum", "_count"))
