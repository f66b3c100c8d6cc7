"""Members of one communicator issue different operations, types or sizes under the same number.

Why it hurts
    The code of the ranks has taken different paths. The call hangs, or worse, completes and mixes up numbers of
    different meaning: the loss diverges later and nobody knows why.

How it is seen
    Dumps are joined by communicator and sequence number; the members' operation, element type and input size must be
    equal (sizes not for all-to-all, send, receive, scatter and gather, whose shares may differ). The first mismatch of
    a group counts, since all later ones follow from it. The ranks in a clear minority are named. Not to be confused
    with `coll-missing-rank`: there the numbers differ, not the operations. Where the compiler's logs are there, ranks
    whose compiled graphs call other collectives are named as context: stages of a pipeline may, others will hang.

What to do
    Compare the stacks of both sides: a branch that depends on the rank, on data, or on a batch that only some ranks
    have. Tell the owner of the code; hardware is not involved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Window, World
from skewscope.frames import frame
from skewscope.stats import segments

from . import _worlds

UNEVEN = ("all_to_all", "send", "recv", "scatter", "gather", "barrier")


@dataclass(frozen=True)
class CollDesync:
    """Threshold: the largest share of members that still counts as a minority."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("collectives", "events")

    minority_ratio: float = 0.25

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank in a minority, or per group where the members are split."""
        calls = _comparable(tables["collectives"])
        named: set[str] = set()
        for call in _first_mismatches(calls):
            for finding in self._findings(call):
                if finding.subject.id not in named:
                    named.add(finding.subject.id)
                    yield finding
        yield from _compiled(tables["events"])

    def _findings(self, call: pd.DataFrame) -> Iterable[Finding]:
        sides = call.groupby("what", sort=False)["rank"].apply(lambda ranks: sorted(map(int, ranks)))
        sides = sides.sort_values(key=lambda ranks: -ranks.map(len), kind="stable")
        usual, others = str(sides.index[0]), [rank for ranks in sides.iloc[1:] for rank in ranks]
        clear = len(others) <= self.minority_ratio * len(call)
        share = len(others) / len(call)
        number = int(call["seq"].iloc[0])
        stacks = {str(what): str(rows["stack"].iloc[0]) for what, rows in call.groupby("what", sort=False)}
        told = "; ".join(
            f"rank {_some(ranks)} issued {what}{stacks[str(what)] and f' at {stacks[str(what)]}'}"
            for what, ranks in sides.items()
        )
        group = str(call["group"].iloc[0])
        who = [subjects.rank("job", rank) for rank in others] if clear else [subjects.group("job", group)]
        for subject in who:
            yield Finding(
                "coll-desync", subject, "culprit", "S1", 0.95 if clear else 0.6,
                _window(call), 0.0, 0.0,
                (Evidence("minority_share", share, 0.0, self.minority_ratio, "ratio"),
                 Evidence("call_number", number, None, None, "number")),
                f"call {number} of group {group} is {usual} on {len(call) - len(others)} of {len(call)} ranks, "
                f"but not on rank {_some(others)}: {told}",
                "compare the stacks of both sides and tell the owner of the code",
            )  # fmt: skip

    def alert(self) -> None:
        """Return nothing: only dumps show it."""

    def cases(self) -> Iterable[World]:
        """Return worlds: equal calls, sizes that differ or are not told, another operation on a rank, a split group."""
        whole = _worlds.dumps(_worlds.lockstep(4, 20))
        uneven = whole
        for rank in range(4):
            uneven = _worlds.changed(uneven, rank, 7, op="all_to_all", message_bytes=4096 * (rank + 1))
        yield World("quiet", whole)
        yield World("near-miss", uneven)
        yield World("size-unknown", _worlds.changed(whole, 1, 9, message_bytes=-1))
        yield World("operation", _worlds.changed(whole, 2, 7, op="broadcast"), frozenset({"job/rank2"}))
        yield World("size", _worlds.changed(whole, 1, 9, message_bytes=8192), frozenset({"job/rank1"}))
        yield World("compiled-alike", whole | {"events": _schedules("all_reduce", "all_reduce", "all_reduce")})
        other = _schedules("all_reduce, all_gather", "all_reduce", "all_reduce, all_gather")
        yield World("compiled-otherwise", whole | {"events": other}, frozenset({"job"}))
        split = _worlds.changed(_worlds.changed(whole, 0, 5, dtype="Half"), 3, 5, dtype="Half")
        yield World("split", split, frozenset({"job/group:0"}))


def _compiled(events: pd.DataFrame) -> Iterable[Finding]:
    """Yield context about the first graph that ranks compiled with other collectives in it."""
    rows = events[(events["event"] == "compile-schedule").to_numpy()]
    told = [str(message).partition(": ") for message in rows["message"]]
    rows = rows.assign(graph=[one[0] for one in told], calls=[one[2] for one in told])
    for name, part in rows.groupby("graph", sort=True):
        device = part["device"].astype(str)
        sides = device.groupby(part["calls"]).unique()
        if len(sides) < 2 or device.nunique() < 2:
            continue
        rare = str(sides.map(len).sort_values(kind="stable").index[0])
        who = ", ".join(sorted(sides[rare])[:8])
        yield Finding(
            "coll-desync", subjects.job("job"), "context", "S3", 0.5,
            Window(int(part["t_ns"].min()), int(part["t_ns"].max())), 0.0, 0.0,
            (Evidence("minority_share", len(sides[rare]) / device.nunique(), 0.0, None, "ratio"),),
            f"{name} of {who} calls {rare}, unlike that of {device.nunique() - len(sides[rare])} other ranks",
            "unless these are stages of a pipeline, look for a branch that depends on the rank",
        )  # fmt: skip
        return


def _comparable(collectives: pd.DataFrame) -> pd.DataFrame:
    """Return the calls that the recorder numbered itself, sorted by call, with `code` of what was called."""
    rows = (collectives["op_class"] == "") & (collectives["op"] != "coalesced") & (collectives["state"] != "")
    columns = ["job", "source", "group", "seq", "rank", "op", "dtype", "message_bytes", "ready_ns", "stack"]
    calls = collectives.loc[rows.to_numpy(), columns]
    order = np.lexsort((calls["rank"], calls["seq"], calls["group"].cat.codes, calls["source"].cat.codes))
    return calls.iloc[order]


def _first_mismatches(calls: pd.DataFrame) -> Iterable[pd.DataFrame]:
    """Return the rows of the first mismatched call of each group, earliest first, with `what` in words."""
    if not len(calls):
        return
    group = calls["group"].cat.codes.to_numpy()
    over = segments.runs(calls["source"].cat.codes.to_numpy(), group, calls["seq"].to_numpy())
    size = calls["message_bytes"].to_numpy()
    size = np.where(size < 0, segments.maximum(size, over)[over.of], size)  # a call under way may not tell its size
    size = np.where(np.isin(np.asarray(calls["op"].astype(object)), UNEVEN), -1, size)
    differs = np.zeros(len(over.first), dtype=bool)
    for values in (calls["op"].cat.codes.to_numpy(), calls["dtype"].cat.codes.to_numpy(), size):
        differs |= segments.minimum(values, over) != segments.maximum(values, over)
    found: dict[int, int] = {}
    for place in np.flatnonzero(differs):
        found.setdefault(int(group[over.first[place]]), int(place))
    ready = calls["ready_ns"].to_numpy()[over.first]
    for call in sorted(found.values(), key=lambda place: int(ready[place])):
        rows = np.flatnonzero(over.of == call)
        part = calls.iloc[rows]
        yield part.assign(what=_words(part, size[rows]))


def _schedules(*calls: str) -> pd.DataFrame:
    """Return what the compiler's logs of some ranks tell of one graph."""
    messages = [f"graph 0_0_0: {one}" for one in calls]
    device = [f"rank{rank}" for rank in range(len(calls))]
    return frame("events", {"t_ns": 10**18, "device": device, "event": "compile-schedule", "message": messages})


def _words(part: pd.DataFrame, size: np.ndarray[Any, Any]) -> list[str]:
    sizes = [f" of {bytes_} bytes" if bytes_ >= 0 else "" for bytes_ in size]
    return [f"{op} {dtype}{text}" for op, dtype, text in zip(part["op"], part["dtype"], sizes, strict=True)]


def _window(call: pd.DataFrame) -> Window:
    return Window(int(call["ready_ns"].min()), int(call["ready_ns"].max()))


def _some(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
