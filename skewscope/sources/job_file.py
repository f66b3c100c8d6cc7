"""Descriptions of a job: `job.json` (world size, hosts, parallelism) and the flat `meta-*.yaml` of what-if traces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes

AXES = ("dp", "tp", "pp", "ep", "cp")
LARGEST = 1 << 24  # ranks; more is damage
NOT_A_JOB = (b'"traceEvents"', b'"entries"', b'"culprit_ranks"', b'"scenario"')


class Place(msgspec.Struct):
    """Where one rank runs."""

    rank: int
    host: str = ""
    local_rank: int = -1


class Job(msgspec.Struct):
    """What a job file says; everything else in it is left alone."""

    world_size: int
    ranks: list[Place] | int | None = None
    parallelism: dict[str, Any] | None = None
    microbatches: int | None = None


class JobFile:
    """Reads job descriptions."""

    format: ClassVar[str] = "job-file"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a description of a job."""
        if head.lstrip().startswith(b"{"):
            if any(key in head for key in NOT_A_JOB) or b'"world_size"' not in head:
                return 0.0
            told = b'"parallelism"' in head or b'"ranks"' in head
            return 0.9 if told else 0.3 if len(head) < 4096 else 0.0
        if b"\0" in head:
            return 0.0
        lines = set(re.findall(rb"^(\w+):", head, re.M))
        return 0.9 if b"world_size" in lines and lines & {b"dp_size", b"pp_size", b"tp_size"} else 0.0

    def read(self, path: Path) -> Reading:
        """Return `ranks` where hosts are listed, and world size and parallelism; raises Unreadable."""
        content, damage = _bytes.whole(path)
        job = _written(content) if content.lstrip().startswith(b"{") else _flat(content)
        if damage or not 0 < job.world_size <= LARGEST:
            raise Unreadable(damage or f"a world size of {job.world_size} cannot be")
        places = [place for place in job.ranks if place.rank >= 0] if isinstance(job.ranks, list) else []
        axes = job.parallelism or {}
        parallelism = {axis: axes[axis] for axis in AXES if isinstance(axes.get(axis), int) and axes[axis] > 0}
        reading = Reading(str(path), self.format, world_size=job.world_size, events=len(places))
        reading.job = {"parallelism": parallelism, "hosts": {place.rank: place.host for place in places}}
        if isinstance(job.microbatches, int):
            reading.job["microbatches"] = job.microbatches
        if places:
            row = {
                "job": "job", "rank": [place.rank for place in places], "node": [place.host for place in places],
                "gpu": [place.local_rank for place in places],
            }  # fmt: skip
            reading.batches = [("ranks", row)]
        return reading


def _written(content: bytes) -> Job:
    try:
        return msgspec.json.decode(content, type=Job, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"not a job description: {error}"[:300], "write world_size and ranks as numbers") from None


def _flat(content: bytes) -> Job:
    lines = re.findall(r"^(\w+):[ \t]*(\d{1,9})\s*(?:#.*)?$", content.decode("utf-8", "replace"), re.M)
    found = {key: int(number) for key, number in lines}
    if "world_size" not in found:
        raise Unreadable("no line 'world_size: N'")
    return Job(found["world_size"], parallelism={axis: found.get(f"{axis}_size") for axis in AXES})
