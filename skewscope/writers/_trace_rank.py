"""One rank's slices: steps, phases, what it did, its collectives, and where its time went by the analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ._trace_clock import Clock
from ._trace_tracks import Slices, texts

Array = np.ndarray[Any, Any]
COPIES = ("memcpy", "memset")
HOST = ("cpu", "data", "gc", "runtime", "host", "launch", "sync", "checkpoint", "eval")
PARTS = (("input_ns", "waiting for input"), ("compute_ns", "compute"), ("gc_ns", "garbage collection"),
         ("checkpoint_ns", "checkpoint"), ("own_ns", "other own work"), ("transfer_ns", "exposed transfer"),
         ("wait_ns", "waiting"), ("idle_ns", "idle"))  # fmt: skip
INSIDE_OWN = ("input_ns", "compute_ns", "gc_ns", "checkpoint_ns")
NEVER = " (never ended)"
OPEN = ("started", "scheduled", "timed-out")


def phases(rows: pd.DataFrame, clock: Clock, rank: int) -> Slices:
    """Return the phases of a rank inside its steps."""
    phase = rows["phase"].array
    args = {name: rows[name].to_numpy() for name in ("step", "microbatch", "work_tokens")}
    return _slices("phases", rows, clock, rank, phase, args)


def steps(rows: pd.DataFrame, derived: pd.DataFrame, clock: Clock, rank: int) -> Slices:
    """Return the steps of a rank; where none are recorded, those that the analysis found."""
    if not len(rows):
        number = derived["step"].to_numpy()
        return numbered(number, derived["start_ns"].to_numpy(), derived["end_ns"].to_numpy(), {})
    start, end = (clock.moved(rank, rows[name].to_numpy()) for name in ("start_ns", "end_ns"))
    return numbered(rows["step"].to_numpy(), start, end, {"work_tokens": rows["work_tokens"].to_numpy()})


def numbered(number: Array, start: Array, end: Array, args: Mapping[str, Any]) -> Slices:
    """Return steps with these numbers as slices."""
    values, codes = np.unique(number, return_inverse=True)
    return Slices("steps", start, np.maximum(end, start), codes, [f"step {value}" for value in values.tolist()],
                  {"step": number, **args})  # fmt: skip


def operations(rows: pd.DataFrame, clock: Clock, rank: int) -> Iterator[tuple[str, Slices]]:
    """Yield the operations of a rank, one track per kind and stream, with its name."""
    op = rows["op"].array
    kinds = np.array([_kind(str(name)) for name in op.categories])[op.codes] if len(rows) else np.zeros(0, dtype=object)
    stream = rows["stream"].to_numpy()
    for kind, what in (("compute", "stream"), ("copies", "copies, stream"), ("host", "host thread")):
        mine = kinds == kind
        for number in np.unique(stream[mine]).tolist():
            part = rows[mine & (stream == number)]
            args = {name: part[name].to_numpy() for name in ("step", "microbatch", "message_bytes", "seq")}
            args["op"] = (part["op"].array.codes, texts(part["op"].array.categories))
            yield (
                f"{what} {number}",
                _slices(kind, part, clock, rank, _either(part["name"].array, part["op"].array), args),
            )


def _kind(op: str) -> str:
    return "copies" if op in COPIES else "host" if op in HOST else "compute"


def _either(name: Any, op: Any) -> pd.Categorical:  # noqa: ANN401 - categorical arrays
    """Return the name of each row, its operation where it has none."""
    names = texts(name.categories)
    if "" not in names:
        return name  # type: ignore[no-any-return]
    without = np.asarray(name.codes) == names.index("")
    if not without.any():
        return name  # type: ignore[no-any-return]
    codes = np.where(without, len(names) + np.asarray(op.codes), name.codes)
    every = names + texts(op.categories)
    place = {text: at for at, text in enumerate(dict.fromkeys(every))}
    moved = np.array([place[text] for text in every])
    return pd.Categorical.from_codes(moved[codes], categories=pd.Index(list(place), dtype=object))


def collectives(rows: pd.DataFrame, clock: Clock, rank: int, until_ns: int) -> Iterator[tuple[str, Slices]]:
    """Yield the calls of a rank, one track per recorder and stream; open ones last until `until_ns`."""
    sources = rows["source"].array
    stream = rows["stream"].to_numpy()
    pairs = np.asarray(sources.codes, dtype=np.int64) * (1 << 32) + stream
    for pair in np.unique(pairs).tolist():
        part = rows[pairs == pair]
        source, number = str(part["source"].iloc[0]), int(part["stream"].iloc[0])
        where = f"stream {number}" if number >= 0 else "calls"
        yield f"communication, {where} ({source or 'unknown'})", _calls(part, clock, rank, until_ns)


def _calls(rows: pd.DataFrame, clock: Clock, rank: int, until_ns: int) -> Slices:
    ready, begin, end, told = (rows[name].to_numpy() for name in ("ready_ns", "start_ns", "end_ns", "duration_ns"))
    start = clock.moved(rank, np.where(ready >= 0, ready, begin))
    still = np.asarray(rows["state"].isin(OPEN)) & (end < 0)
    until = np.where(end >= 0, clock.moved(rank, end), np.where(told >= 0, start + told, start))
    until = np.maximum(np.where(still, until_ns, until), start)
    op = rows["op"].array
    names = texts(op.categories)
    args: dict[str, Any] = {
        name: rows[name].to_numpy() for name in ("step", "seq", "group_size", "message_bytes", "peer")
    }
    for name in ("group", "dtype", "algo", "proto", "state", "stack"):
        column = rows[name].array
        args[name] = (np.asarray(column.codes, dtype=np.int64), texts(column.categories))
    codes = np.asarray(op.codes, dtype=np.int64) + np.where(still, len(names), 0)
    return Slices("communication", start, until, codes, [*names, *(name + NEVER for name in names)], args)


def blame(rows: pd.DataFrame) -> Slices:
    """Return where each step's time went: parts of a step one after another, in no order of time.

    Parts that are longer together than the step (work beside a transfer) are drawn shorter, all by the same share;
    `part_us` is how long each really took.
    """
    told = np.stack([np.maximum(np.nan_to_num(rows[name].to_numpy(dtype=float)), 0.0) for name, _ in PARTS])
    own = [name for name, _ in PARTS].index("own_ns")
    inside = [at for at, (name, _) in enumerate(PARTS) if name in INSIDE_OWN]
    told[own] = np.maximum(told[own] - told[inside].sum(axis=0), 0.0)
    start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
    fits = np.minimum(1.0, (end - start) / np.maximum(told.sum(axis=0), 1.0))
    edges = start + np.rint(np.cumsum(told * fits, axis=0)).astype(np.int64)
    until = np.minimum(edges, end)
    begin = np.vstack([start, until[:-1]])
    names = [name for _, name in PARTS]
    label = np.tile(np.arange(len(PARTS))[:, None], (1, len(rows)))
    wait, culprit = [name for name, _ in PARTS].index("wait_ns"), rows["wait_for_rank"].to_numpy()
    whom, codes = np.unique(culprit, return_inverse=True)
    label[wait] = np.where(culprit >= 0, len(names) + codes, label[wait])
    names += [f"waiting for rank {rank}" for rank in whom.tolist()]
    kept = until > begin
    waits_for = np.where(label >= len(PARTS), culprit, -1)
    args = {"step": np.broadcast_to(rows["step"].to_numpy(), kept.shape)[kept], "part_us": told[kept] / 1e3,
            "waits_for_rank": waits_for[kept]}  # fmt: skip
    return Slices("blame", begin[kept], until[kept], label[kept], names, args)


def _slices(kind: str, rows: pd.DataFrame, clock: Clock, rank: int, name: Any, args: Mapping[str, Any]) -> Slices:  # noqa: ANN401
    start, end = (clock.moved(rank, rows[column].to_numpy()) for column in ("start_ns", "end_ns"))
    return Slices(kind, start, np.maximum(end, start), np.asarray(name.codes, dtype=np.int64),
                  texts(name.categories), args)  # fmt: skip
