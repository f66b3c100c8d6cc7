"""What experiment trackers kept: W&B's system metrics and history (JSON lines, JSON, CSV), TensorBoard's event files.

Metrics of GPUs, host and network become `samples`; lengths of steps become `steps` that end when they were written.
All other scalars (losses and the like) are counted and left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Coded, Columns, Reading
from ..errors import Unreadable
from . import _wandb_rows
from ._bytes import COPY_AGAIN, whole
from ._scalar_names import Known, known
from ._telemetry_series import Series, columns
from ._tfevents import VERSION, Records, Scalar

NAME = re.compile(r"tfevents\.\d+\.(?P<host>.+?)(?:\.\d+){0,2}(?:\.v2)?(?:\.gz)?$")
LATEST_S, LONGEST_NS, LARGEST = 2.0**33, 10**16, 1e30
TOLD = 5
END_TO_END = "a step is taken to end when its length was written"
NO_CLOCK = "no times of day: times count from the start of the run"


class SystemMetrics:
    """Reads files of W&B and TensorBoard."""

    format: ClassVar[str] = "system-metrics"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a file.

        >>> SystemMetrics().sniff(b'{"system.gpu.0.gpu": 97.0, "_timestamp": 1700000000}', "wandb-events.jsonl")
        0.92
        """
        if VERSION in head[:64]:
            return 0.97
        return _wandb_rows.surety(head)

    def read(self, path: Path) -> Reading:
        """Return `samples` and `steps`; raises Unreadable where no scalar has a meaning here."""
        content, damage = whole(path)
        others = 0
        if VERSION in content[:64]:
            records = Records(content)
            scalars = list(records.scalars())
            damage, others = damage or records.damage, records.others
            host = str(found["host"]) if (found := NAME.search(path.name)) else ""
            dated = True
        else:
            rows = _wandb_rows.read(content)
            scalars, dated, damage = rows.scalars, rows.dated, damage or rows.damage
            host = _host(path)
        taken = [(one, what) for one in scalars if (what := known(one.tag)) != Known() and 0 <= one.wall_s < LATEST_S]
        if not taken:
            raise Unreadable(_nothing(scalars, others, damage), COPY_AGAIN if damage else "log times of steps")
        reading = Reading(str(path), self.format, node=host, events=len(scalars))
        reading.batches = [*_samples(taken, host), *_steps(taken)]
        reading.warnings = _warnings(reading, scalars, others, dated=dated)
        if damage:
            reading.status, reading.error = "partial", f"{damage}; {len(scalars)} values before that were read"
        return reading


def _host(path: Path) -> str:
    """Return the host of a run of W&B, which stands in the file beside it, else the one that the path tells."""
    try:
        told = msgspec.json.decode((path.parent / "wandb-metadata.json").read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        return ""
    return str(told.get("host", "")) if isinstance(told, dict) else ""


def _samples(taken: Iterable[tuple[Scalar, Known]], host: str) -> list[tuple[str, Columns]]:
    told: list[tuple[Series, ...]] = []
    place: dict[str, int] = {}
    numbers, values, t_ns = [], [], []
    for one, what in taken:
        if what.meaning is None or not abs(one.value) < LARGEST:
            continue
        if one.tag not in place:
            place[one.tag] = len(told)
            told.append((Series(what.meaning, what.device, node=host),))
        numbers.append(place[one.tag])
        values.append(max(1 - one.value / 100, 0.0) if what.idle else one.value)
        t_ns.append(round(one.wall_s * 1e9))
    found = columns(told, np.array(numbers, dtype=np.int64), np.array(values), np.array(t_ns, dtype=np.int64))
    return [("samples", found.columns)] if found.rows else []


def _steps(taken: Iterable[tuple[Scalar, Known]]) -> list[tuple[str, Columns]]:
    """Return steps and their loading of data; of a step that was written twice the later length counts."""
    lengths: dict[str, dict[int, tuple[float, float]]] = {"step": {}, "data": {}}
    for one, what in taken:
        length = one.value * what.per_ns
        if what.phase and one.step >= 0 and 0 < length < LONGEST_NS and "vs" not in re.split(r"[ _]", one.tag):
            lengths[what.phase][one.step] = (one.wall_s, length)
    wholes = lengths["step"]
    if not wholes:
        return []
    number = np.array(sorted(wholes), dtype=np.int64)
    end = np.array([round(wholes[step][0] * 1e9) for step in number.tolist()], dtype=np.int64)
    start = end - np.array([round(wholes[step][1]) for step in number.tolist()], dtype=np.int64)
    loads = [step for step in number.tolist() if step in lengths["data"]]
    at = np.searchsorted(number, loads)
    load = np.array([round(lengths["data"][step][1]) for step in loads], dtype=np.int64)
    code = np.repeat([0, 1], [len(number), len(loads)])
    loaded = np.minimum(start[at] + load, end[at])
    return [("steps", {
        "job": "job", "rank": -1, "step": np.concatenate([number, number[at]]), "phase": Coded(code, ["step", "data"]),
        "start_ns": np.concatenate([start, start[at]]), "end_ns": np.concatenate([end, loaded]),
        "source": SystemMetrics.format,
    })]  # fmt: skip


def _warnings(reading: Reading, scalars: Sequence[Scalar], others: int, *, dated: bool) -> list[str]:
    said = []
    left = Counter(one.tag for one in scalars if known(one.tag) == Known())
    if left or others:
        names = ", ".join(list(left)[:TOLD]) + (", ..." if len(left) > TOLD else "")
        what = f"{sum(left.values())} values of {len(left)} scalars" + (f" ({names})" if names else "")
        said.append(f"{what}{f' and {others} other records' if others else ''} have no meaning here: left out")
    if any(table == "steps" for table, _ in reading.batches):
        said.append(END_TO_END)
    if not dated:
        said.append(NO_CLOCK)
    if bad := sum(not math.isfinite(one.value) for one in scalars):
        said.append(f"{bad} values are not finite: left out")
    return said


def _nothing(scalars: Sequence[Any], others: int, damage: str) -> str:
    if damage and not scalars:
        return f"nothing before the damage ({damage})"
    tags = ", ".join(list(dict.fromkeys(one.tag for one in scalars))[:TOLD])
    return f"none of its {len(scalars) + others} values is a system metric or the length of a step" + (
        f" ({tags})" if tags else ""
    )
