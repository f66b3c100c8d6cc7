"""Work of the devices with the host's launch of each piece: arrays that launch, queue and idle views share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.contracts import Frames
from skewscope.errors import NoData
from skewscope.signals.view import remembered

from ._needed import HOW

Array = np.ndarray[Any, Any]

DEVICE = ("kernel", "memcpy", "memset", "communication")
UNLAUNCHED = ("Communication kernels have no launch times here: their gaps are unknown. A detailed reading has them "
              "(skewscope view --detail).")  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """All device work of all ranks, arrays of shape [n]: times in ns of the rank's clock, -1 where unknown.

    `launch` is when the host's call began, `launch_end` when it returned; `of_kind` are numbers into DEVICE.
    """

    rank: Array
    step: Array
    stream: Array
    start: Array
    end: Array
    launch: Array
    launch_end: Array
    of_kind: Array
    notes: tuple[str, ...] = ()

    def known(self) -> Array:
        """Return the rows whose launch is known."""
        return np.flatnonzero(self.launch >= 0)


def launched(tables: Frames) -> Launched:
    """Return the device work with its launches: from a detailed reading where there is one, else from ops.

    Raises NoData where no device work was recorded.
    """
    detail = tables.get("device_work")
    if detail is not None and len(detail):
        return remembered(detail, "views-launched", lambda: _detailed(tables))
    ops, collectives = tables["ops"], tables["collectives"]
    if not len(ops) or not ops["op"].isin(DEVICE).any():
        raise NoData(f"no device work among the ops; {HOW['ops']}")
    known, made = remembered(ops, "views-launched", lambda: (collectives, _light(tables)))
    return made if known is collectives else _light(tables)


def _detailed(tables: Frames) -> Launched:
    rows = tables["device_work"]
    kind = _numbers(rows["kind"])
    kept = kind >= 0
    names = ("rank", "step", "stream", "start_ns", "end_ns", "launch_ns", "launch_end_ns")
    rank, step, stream, start, end, launch, launch_end = (rows[name].to_numpy()[kept] for name in names)
    return Launched(rank, step, stream, start, end, launch, launch_end, kind[kept])


def _light(tables: Frames) -> Launched:
    ops, calls = tables["ops"], tables["collectives"]
    kind = _numbers(ops["op"])
    kept = kind >= 0
    sources = ops["source"][kept]
    whole = (calls["start_ns"] >= 0) & (calls["end_ns"] >= 0) & (calls["stream"] >= 0)
    timed = (whole & calls["source"].isin(sources.unique())).to_numpy()
    rank, step, stream, start, end = [
        np.concatenate([ops[name].to_numpy()[kept], calls[name].to_numpy()[timed]])
        for name in ("rank", "step", "stream", "start_ns", "end_ns")
    ]
    unknown = np.full(int(timed.sum()), -1)
    launches = [
        np.concatenate([ops[name].to_numpy()[kept], calls[name].to_numpy()[timed] if name in calls else unknown])
        for name in ("launch_ns", "launch_end_ns")
    ]
    kinds = np.concatenate([kind[kept], np.full(len(unknown), DEVICE.index("communication"))])
    without = bool(len(unknown)) and bool((launches[0][-len(unknown) :] < 0).all())
    notes = (UNLAUNCHED,) if without else ()
    return Launched(rank, step, stream, start, end, launches[0], launches[1], kinds, notes)


def _numbers(column: Any) -> Array:  # noqa: ANN401 - a coded column
    """Return the place in DEVICE of each row of a coded column, -1 for others."""
    places = np.array([DEVICE.index(str(name)) if name in DEVICE else -1 for name in column.cat.categories] or [-1])
    return np.asarray(places[column.cat.codes.to_numpy()])
