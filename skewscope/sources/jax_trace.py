"""Profiles of JAX and XLA (`jax.profiler.trace`): the Chrome JSON trace of the viewer, and `xplane.pb` itself.

Each device of the host is a rank: XLA runs one program on all of them. Files of several hosts, read together, are
numbered on, host by host in the order of their names. The JSON counts from the start of the profile; `xplane.pb` tells
when that was, and holds all events where the viewer's JSON may be thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from . import _device_tables, _jax_chrome, _jax_lanes, _jax_xplane
from ._bytes import COPY_AGAIN, whole

PROFILE_CLOCK = "times count from the start of the profile, not from 1970: give the xplane.pb beside it for that"
DEVICES = "each device is taken as a rank, numbered by host name, then by device"


class JaxTrace:
    """Reads `plugins/profile/*/*.trace.json.gz` and `*.xplane.pb`."""

    format: ClassVar[str] = "jax-trace"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a profile.

        >>> text = b'{"displayTimeUnit":"ns","metadata":{"highres-ticks":true},"traceEvents":['
        >>> JaxTrace().sniff(text, "vm.trace.json.gz"), JaxTrace().sniff(b'{"schemaVersion": 1, "traceEvents": [', "")
        (0.97, 0.0)
        """
        if head.lstrip()[:1] == b"{":
            return _jax_chrome.surety(head)
        return _jax_xplane.surety(head)

    def read(self, path: Path) -> Reading:
        """Return `steps`, `ops` and `collectives` of each device; raises Unreadable where no device worked."""
        return _read(path, detail=False)

    def read_detail(self, path: Path) -> Reading:
        """Return what `read` does, and `operators` and `device_work`."""
        return _read(path, detail=True)


def _read(path: Path, *, detail: bool) -> Reading:
    content, damage = whole(path)
    is_json = content.lstrip()[:1] == b"{"
    profile = _jax_chrome.profile(content, damage) if is_json else _jax_xplane.profile(content, damage)
    processes = _jax_lanes.processes(profile, detail=detail)
    if not processes:
        raise Unreadable(
            "no device of XLA in the profile" + (f" ({profile.damage})" if profile.damage else ""),
            COPY_AGAIN if profile.damage else "trace at least one step that runs on a TPU or GPU",
        )
    found = []
    for rank, process in enumerate(processes):
        process.rank = rank
        found.append(_device_tables.tables(process, profile.base_ns, JaxTrace.format, detail=detail))
    batches: list[tuple[str, Columns]] = [
        (table, _with_ranks(columns)) for one in found for table, columns in one.batches
    ]
    reading = Reading(
        str(path), JaxTrace.format, node=profile.host, world_size=-1, events=profile.events, batches=batches,
        warnings=[*([] if profile.dated else [PROFILE_CLOCK]), DEVICES, *_device_tables.said(found)],
        job={"join": number_hosts, "devices": len(processes)},
    )  # fmt: skip
    if profile.damage:
        reading.status = "partial"
        reading.error = f"{profile.damage}; {profile.events} events before that were read; {COPY_AGAIN}"
    return reading


def _with_ranks(columns: Columns) -> dict[str, Any]:
    """Return columns with one rank per row, so that files of several hosts can be numbered on."""
    rows = len(columns["start_ns"])
    return {**columns, "rank": np.full(rows, columns["rank"], dtype=np.int64)}


def number_hosts(readings: Sequence[Reading]) -> dict[str, str]:
    """Give the devices of several hosts numbers of their own, in place; of two files of a profile the richer counts."""
    chosen: dict[tuple[Path, str], Reading] = {}
    refused: dict[str, str] = {}
    for reading in sorted(readings, key=_poverty):
        place = Path(reading.path)
        key = (place.parent, place.name.partition(".xplane")[0].partition(".trace.json")[0])
        first = chosen.setdefault(key, reading)
        if first is not reading:
            refused[reading.path] = f"the same profile as {first.path}, which tells more"
    offset = 0
    for _, reading in sorted(chosen.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        if offset:
            reading.batches = [(table, {**columns, "rank": columns["rank"] + offset})
                               for table, columns in reading.batches]  # fmt: skip
        devices = reading.job.pop("devices")
        if reading.node:
            reading.job["hosts"] = {offset + device: reading.node for device in range(devices)}
        offset += devices
    for reading in readings:
        reading.job.pop("devices", None)
        reading.world_size = offset
    return refused


def _poverty(reading: Reading) -> tuple[bool, bool, str]:
    """Return what makes one of two files of a profile the lesser one: no steps, or being the viewer's JSON."""
    stepless = all(table != "steps" for table, _ in reading.batches)
    return stepless, reading.path.removesuffix(".gz").endswith(".json"), reading.path
