"""Records of one rank to columns of the canonical tables, on the clock of its host."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ..spool import KINDS, OPS, Group, Header, layout
from ..spool.layout import BLOCKING, EXPERTS_A_RECORD, FAILED
from . import _ring_steps
from ._ring_activity import Story, activity
from ._ring_records import EXPERTS

Array = np.ndarray[Any, Any]
Batch = tuple[str, Columns]

AXES = ("dp", "tp", "pp", "cp", "ep")
POINT_TO_POINT = ("send", "recv")
WHOLE_NAME = 23  # bytes: a longer name may have been cut, so that two groups share it
FULL_LISTS = 8  # so many of a group's first ranks list all its members; more would be quadratic in ranks
STALLED_NS = 5_000_000_000  # a call that was open for so long at the last sign of life, or failed then, may hang
STALLED_RATIO = 3  # if it is also so much longer than the longest that came to an end
MOST_OPEN = 4096  # calls of a group under way at once; the table of begun calls has no checksum
STATES = ("completed", "", "timed-out")
SOURCE = "ring-spool"


def batches(header: Header, records: Array, offset_ns: int, span: _ring_steps.Span) -> list[Batch]:
    """Return the tables of one rank.

    `offset_ns` is what its records' times want to become the world's time, `span` the first and last step that count.
    """
    rows = {name: records[records["kind"] == KINDS.index(name)] for name in KINDS[1:]}
    names = group_names(header)
    calls = _collectives(header, rows["collective"], names, offset_ns, span)
    made: list[Batch] = [
        ("ranks", _rank(header)), ("groups", _groups(header, names)), ("collectives", calls),
        ("steps", _ring_steps.table(header.rank, rows, offset_ns, span, SOURCE)),
        ("expert_loads", _expert_loads(header, rows["experts"])), ("events", _marks(header, rows["mark"], offset_ns)),
    ]  # fmt: skip
    done = activity(_story(records, rows, offset_ns, span), header.rank) if len(rows["phase"]) else None
    made += [("ops", done)] if done is not None else []
    return [*[batch for batch in made if _length(batch[1])], *_stalled(header, rows["collective"], names, offset_ns)]


def group_names(header: Header) -> list[str]:
    """Return what each place of the group table is called: the name in the job, with the group's number if in doubt.

    In doubt is a name that another group of this rank has too or that may have been cut, and that of a group whose
    members are not known, so that nothing else would tell it from its siblings.
    """
    names = [group.name if group else "" for group in header.groups]
    return [_called(group, names.count(group.name) > 1) if group else "?" for group in header.groups]


def _called(group: Group, twice: bool) -> str:
    sure = group.name and not twice and len(group.name.encode()) <= WHOLE_NAME and group.ranks()
    return group.name if sure else f"{group.name}-{group.id:016x}".lstrip("-")


def parallelism(header: Header) -> dict[str, int]:
    """Return the sizes of the parallel axes that the groups' roles tell."""
    return {group.role: group.size for group in header.groups if group and group.role in AXES}


def _rank(header: Header) -> Columns:
    place = {group.role: group.rank for group in header.groups if group and group.role in AXES}
    return {
        "job": "job", "rank": np.array([header.rank]), "node": header.node, "gpu": header.device,
        "gpu_uuid": header.gpu_uuid, "start_ns": header.started_ns,
        "end_ns": header.realtime_ns if header.closed else -1, **place,
    }  # fmt: skip


def _groups(header: Header, names: list[str]) -> Columns:
    rows = [
        (name, member, group) for name, group in zip(names, header.groups, strict=True) if group
        for member in _listed(group, header.rank)
    ]  # fmt: skip
    return {
        "job": "job", "group": [row[0] for row in rows], "rank": np.array([row[1] for row in rows], dtype=np.int64),
        "description": [row[2].role for row in rows],
        "group_size": np.array([row[2].size for row in rows], dtype=np.int64), "source": SOURCE,
    }  # fmt: skip


def _listed(group: Group, rank: int) -> tuple[int, ...]:
    members = group.ranks()
    return members if rank in members[:FULL_LISTS] else (rank,)


def _collectives(
    header: Header, rows: Array, names: list[str], offset_ns: int, span: _ring_steps.Span
) -> Columns:  # fmt: skip
    """Return one row per finished call; on a GPU only the measured time counts, the host's times are its launch."""
    rank = header.rank
    on_device = rows["device_ns"] >= 0
    start = np.where(on_device, -1, rows["start_ns"] + offset_ns)
    failed = (rows["flags"] & FAILED) > 0
    finished = ~on_device & ~failed & (rows["end_ns"] >= rows["start_ns"])
    state = failed * (1 + (rows["end_ns"] - rows["start_ns"] >= STALLED_NS))
    op = np.where(rows["op"] < len(OPS), rows["op"], 0)
    group, op_class, peer = _keys(rank, rows, names)
    return {
        "job": "job", "step": _ring_steps.numbers(rows, span), "rank": rank, "group": group, "op_class": op_class,
        "group_size": _sizes(header, rows), "seq": rows["seq"].astype(np.int64), "op": Coded(op, OPS), "peer": peer,
        "message_bytes": rows["size"].astype(np.int64), "ready_ns": start, "start_ns": start,
        "end_ns": np.where(finished, rows["end_ns"] + offset_ns, -1), "duration_ns": rows["device_ns"],
        "blocking": (rows["flags"] & BLOCKING) > 0, "state": Coded(state, STATES), "source": SOURCE,
    }  # fmt: skip


def _keys(rank: int, rows: Array, names: list[str]) -> tuple[Coded, Coded, Array]:
    """Return group, op_class and peer of each call; transfers are counted per channel, `p2p:SRC-DST`."""
    pair = np.isin(rows["op"], [OPS.index(op) for op in POINT_TO_POINT])
    peer = np.where(pair, rows["extra"].astype(np.int64) - 1, -1)
    sends = rows["op"] == OPS.index("send")
    place = np.minimum(rows["group"], len(names)).astype(np.int64)
    pairs, channel = np.unique(np.where(pair, peer * 2 + sends, -1), return_inverse=True)
    channels = [f"p2p:{_ends(rank, int(one) // 2, bool(one % 2))}" for one in pairs]
    group = Coded(np.where(pair, len(names) + 1 + channel, place), [*names, "?", *channels])
    lost = pair & (peer < 0) | ~pair & (np.array([*names, "?"])[place] == "?")  # nothing joins it to other ranks
    return group, Coded(np.where(lost, 2, pair.astype(np.int64)), ["", "p2p", f"p2p@{rank}"]), peer


def _ends(rank: int, peer: int, sends: bool) -> str:
    if peer < 0:
        return f"?-{rank}"
    return f"{rank}-{peer}" if sends else f"{peer}-{rank}"


def _sizes(header: Header, rows: Array) -> Array:
    sizes = np.array([group.size if group else -1 for group in header.groups] + [-1])
    pair = np.isin(rows["op"], [OPS.index(op) for op in POINT_TO_POINT])
    return np.where(pair, 2, sizes[np.minimum(rows["group"], len(header.groups))])


def _expert_loads(header: Header, rows: Array) -> Columns:
    """Return the routed tokens of each expert, summed over the calls of a step."""
    eight = rows.view(EXPERTS)
    counted = np.arange(EXPERTS_A_RECORD) < eight["count"][:, None]
    expert = (eight["seq"] & np.uint64(0xFFFFFFFF)).astype(np.int64)[:, None] + np.arange(EXPERTS_A_RECORD)
    layer = np.broadcast_to((eight["seq"] >> np.uint64(32)).astype(np.int64)[:, None], expert.shape)
    step = np.broadcast_to(eight["step"].astype(np.int64)[:, None], expert.shape)
    keys = np.stack([step[counted], layer[counted], expert[counted]])
    unique, place = np.unique(keys, axis=1, return_inverse=True)
    total = np.bincount(place.ravel(), eight["tokens"][counted], unique.shape[1]).astype(np.int64)
    return {
        "job": "job", "step": unique[0], "layer": unique[1], "expert": unique[2], "rank": header.rank,
        "routed_tokens": total, "source": SOURCE,
    }  # fmt: skip


def _marks(header: Header, rows: Array, offset_ns: int) -> Columns:
    """Return the marks that the program set; 16 bytes of each name stand in the fields of sequence and size."""
    names = [(int(one["seq"]).to_bytes(8, "little") + int(one["size"]).to_bytes(8, "little")) for one in rows]
    return {
        "t_ns": rows["start_ns"] + offset_ns, "node": header.node, "device": f"rank{header.rank}", "event": "mark",
        "message": [layout.text(name) for name in names],
    }  # fmt: skip


def _stalled(header: Header, rows: Array, names: list[str], offset_ns: int) -> list[Batch]:
    """Return the calls that were open for long at the last sign of life, and that somebody saw no progress."""
    found: list[Batch] = []
    longest_ns = max(STALLED_NS, STALLED_RATIO * int((rows["end_ns"] - rows["start_ns"]).max(initial=0)))
    rows = rows[~np.isin(rows["op"], [OPS.index(op) for op in POINT_TO_POINT])]  # those are numbered on their own
    for place, (group, begun) in enumerate(zip(header.groups, header.begun, strict=True)):
        mine = rows[rows["group"] == place]["seq"]
        done = int(mine.max(initial=0))
        op = OPS[begun.op] if begun.op < len(OPS) else OPS[0]
        age_ns = header.monotonic_ns - begun.start_ns  # of the last sign of life: its heart beats with the clock pair
        is_open = done < begun.seq <= done + MOST_OPEN and begun.start_ns > 0
        if group is None or not is_open or op in POINT_TO_POINT or age_ns < longest_ns or header.closed:
            continue
        start = begun.start_ns + offset_ns
        found += [("collectives", {
            "job": "job", "step": np.array([begun.step]), "rank": header.rank, "group": names[place],
            "group_size": group.size, "op_class": "", "seq": begun.seq, "op": op, "ready_ns": start, "start_ns": start,
            "blocking": False, "state": "started", "source": SOURCE,
        }), ("events", {
            "t_ns": np.array([header.monotonic_ns + offset_ns]), "node": header.node, "device": f"rank{header.rank}",
            "event": "no-progress",
            "message": f"in {op} number {begun.seq} of {group.role or names[place]} for {age_ns / 1e9:.1f} s",
        })]  # fmt: skip
    return found


def _story(records: Array, rows: dict[str, Array], offset_ns: int, span: _ring_steps.Span) -> Story:
    first, last = _ring_steps.life_ns(records, span)
    calls, phases = (_within(rows[kind], first, last) for kind in ("collective", "phase"))
    calls = calls[calls["device_ns"] < 0]
    return Story(
        calls["start_ns"] + offset_ns, calls["end_ns"] + offset_ns, (calls["flags"] & BLOCKING) > 0, phases["op"],
        phases["start_ns"] + offset_ns, phases["end_ns"] + offset_ns, (first + offset_ns, last + offset_ns),
    )  # fmt: skip


def _within(rows: Array, first: int, last: int) -> Array:
    return rows[(rows["start_ns"] >= first) & (rows["end_ns"] >= rows["start_ns"]) & (rows["end_ns"] <= last)]


def _length(columns: Columns) -> int:
    return max((len(value.codes) if isinstance(value, Coded) else len(value)
                for value in columns.values() if isinstance(value, Coded | np.ndarray)), default=0)  # fmt: skip
