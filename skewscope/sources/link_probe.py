"""Link probes: ping-pong between pairs of ranks, a JSON list of `{src, dst, metric, value}` per rank that probed.

`rtt_us` is a round trip in microseconds, `bw_mbps` a speed in megabits per second. An empty list is a rank that
probed nobody, which is not a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes

METRICS = {"rtt_us": ("latency_ns", 1e3), "bw_mbps": ("speed_bytes_per_s", 1e6 / 8)}


class Probe(msgspec.Struct):
    """One measurement of one pair."""

    src: int
    dst: int
    metric: str
    value: float | None


class LinkProbe:
    """Reads `link_probe_rankN.json`."""

    format: ClassVar[str] = "link-probe"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a list of probes; an empty list only under a probe's name."""
        text = head.strip()
        if text == b"[]":
            return 0.6 if "probe" in name else 0.0
        start = text[:2048]
        known = all(key in start for key in (b'"src"', b'"dst"', b'"metric"', b'"value"'))
        return 0.9 if text.startswith(b"[") and known else 0.0

    def read(self, path: Path) -> Reading:
        """Return one row of `links` per probed pair; raises Unreadable where the list is not whole."""
        content, damage = _bytes.whole(path)
        try:
            probes = msgspec.json.decode(content, type=list[Probe])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"not a whole list of probes: {damage or error}") from None
        pairs: dict[tuple[int, int], dict[str, float]] = {}
        skipped = 0
        for probe in probes:
            column, scale = METRICS.get(probe.metric, ("", 0.0))
            if not column or probe.value is None or probe.value <= 0:
                skipped += 1
                continue
            pairs.setdefault((probe.src, probe.dst), {})[column] = probe.value * scale
        sources = {src for src, _ in pairs}
        reading = Reading(str(path), self.format, sources.pop() if len(sources) == 1 else -1, events=len(probes))
        if skipped:
            reading.warnings.append(f"{skipped} of {len(probes)} probes have no positive value of {', '.join(METRICS)}")
        latency = np.array([found.get("latency_ns", -1.0) for found in pairs.values()])
        row = {
            "src": [f"rank{src}" for src, _ in pairs], "dst": [f"rank{dst}" for _, dst in pairs], "medium": "probe",
            "speed_bytes_per_s": np.array([found.get("speed_bytes_per_s", np.nan) for found in pairs.values()]),
            "latency_ns": np.rint(latency).astype(np.int64), "source": self.format,
        }  # fmt: skip
        reading.batches = [("links", row)] if pairs else []
        if damage:
            reading.status, reading.error = "partial", damage
        return reading
