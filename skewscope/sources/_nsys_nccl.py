"""What NCCL wrote into its NVTX ranges: communicator, bytes, rank; and which kernel belongs to which call.

NCCL (2.22 on) attaches a payload to the range of each call. Nsight Systems exports it as JSON text, or as bytes whose
layout stands in NVTX_PAYLOAD_SCHEMA_ENTRIES: four 64-bit words (domain, schema, size, offset), then the fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._device_tables import launches
from ._device_trace import KERNEL, Process, Told
from ._kineto_columns import Array
from ._kineto_names import is_communication, operation
from ._nsys_activity import PID_SHIFT, STRINGS
from ._sqlite_file import Database

COMM, BYTES, RANK, SIZE = "NCCL communicator ID", "Message size", "Rank", "No. of ranks"
# nvToolsExtPayload.h: bytes of the integer types that NCCL uses.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 9: 8, 10: 8, 11: 1, 12: 1, 13: 2, 14: 2, 15: 4, 16: 4, 17: 8,
          18: 8, 22: 8, 23: 8}  # fmt: skip
HEADER_BYTES = 32
PAIRED = ("send", "recv")
Layouts = Mapping[int, tuple[tuple[str, int, int], ...]]


@dataclass
class Calls:
    """Calls of NCCL, [calls]: thread as recorded, start and end in ns, operation, communicator and bytes.

    `members` are (rank, size) by (process, communicator), as the creation of communicators told them.
    """

    thread: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    op: list[str] = field(default_factory=list)
    comm: list[str] = field(default_factory=list)
    message_bytes: list[int] = field(default_factory=list)
    members: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)


def recorded(database: Database) -> Calls:
    """Return the calls of NCCL that have a payload; none where the export has no payloads."""
    calls = Calls()
    table = "NVTX_EVENTS"
    forms = [one for one in ("jsonText", "jsonTextId", "binaryData") if database.has(table, one, "start", "end")]
    if not forms:
        return calls
    layouts = _layouts(database)
    where = f"WHERE {' OR '.join(f'{one} IS NOT NULL' for one in forms)}"
    columns = ("start", "end", "globalTid", "text", "textId", "jsonText", "jsonTextId", "binaryData")
    for rows in database.pieces(table, columns, where):
        ids = np.array([one for row in rows for one in (row[4], row[6]) if isinstance(one, int)], dtype=np.int64)
        texts = database.texts(*STRINGS, ids)
        for start, end, thread, text, text_id, told, told_id, raw in rows:
            name = str(text or texts.get(text_id, ""))
            if "nccl" in name and isinstance(start, int) and isinstance(thread, int):
                payload = _payload(told or texts.get(told_id, ""), raw, layouts)
                _add(calls, name, start, end if isinstance(end, int) else start, thread, payload)
    return calls


def told(calls: Calls, process: Process) -> Told | None:
    """Return what NCCL wrote of each row of device work, by the call whose range holds the launch; None for nothing."""
    if not calls.op:
        return None
    groups = process.names.codes(calls.comm)
    sizes = {comm: size for (_, comm), (_, size) in calls.members.items()}
    size = np.array([sizes.get(comm, -1) for comm in calls.comm], dtype=np.int64)
    moved = np.array(calls.message_bytes, dtype=np.int64)
    found = Told(*np.full((4, len(process.work)), -1, dtype=np.int64))
    for row, call, whole in calls_of(calls, process):
        found.group[row], found.group_size[row] = groups[call], size[call]
        found.message_bytes[row] = np.where(whole, moved[call], -1)
    return found


def calls_of(calls: Calls, process: Process, *, any_kind: bool = False) -> Iterator[tuple[Array, Array, Array]]:
    """Yield rows of device work, the call that each belongs to, and whether the call launched it itself.

    A kernel belongs to the latest call of its kind on its thread that began before its launch. Calls in a group are
    launched by the end of the group, several perhaps as one kernel. `any_kind` ignores what the kernel's name says.
    """
    work, host = process.work.done(), process.host.done()
    if process.threads is None or not len(work["start"]) or not calls.op:
        return
    names = process.names.values
    is_call = np.array([is_communication(name) for name in names])
    rows = np.flatnonzero((work["kind"] == KERNEL) & is_call[work["name"]])
    launch, _, host_row = launches(host, work["correlation"][rows])
    rows, launch, host_row = (part[launch >= 0] for part in (rows, launch, host_row))
    kinds = {op: turn for turn, op in enumerate(dict.fromkeys(map(_paired, calls.op)))}
    of_call = np.zeros(len(calls.op), dtype=np.int64) if any_kind else np.array([kinds[_paired(op)] for op in calls.op])
    of_name = np.array([0 if any_kind else kinds.get(operation(name), -1) for name in names])
    thread = process.threads[host["thread"][host_row]]
    start, end, called = (np.array(part, dtype=np.int64) for part in (calls.start, calls.end, calls.thread))
    for one in np.unique(thread).tolist():
        for kind in np.unique(of_call).tolist():
            mine = np.flatnonzero((called == one) & (of_call == kind))
            own = np.flatnonzero((thread == one) & (of_name[work["name"][rows]] == kind))
            if not len(mine) or not len(own):
                continue
            mine, own = mine[np.argsort(start[mine], kind="stable")], own[np.argsort(launch[own], kind="stable")]
            place = np.searchsorted(start[mine], launch[own], side="right") - 1
            own, place = own[place >= 0], place[place >= 0]
            call = mine[place]
            first = np.diff(place, prepend=-1) != 0
            yield rows[own], call, first & (launch[own] <= end[call])


def _paired(op: str) -> str:
    return "send_recv" if op in PAIRED else op


def _add(calls: Calls, name: str, start: int, end: int, thread: int, payload: Mapping[str, int]) -> None:
    comm = payload.get(COMM, 0)
    if not comm:
        return
    text = f"nccl:{comm & (2**64 - 1):x}"
    if payload.get(SIZE, -1) > 0 and payload.get(RANK, -1) >= 0:
        calls.members[thread >> PID_SHIFT, text] = (payload[RANK], payload[SIZE])
        return
    op = operation(name)
    if op == "other":
        return
    for column, value in (
        (calls.thread, thread), (calls.start, start), (calls.end, end), (calls.message_bytes, payload.get(BYTES, -1))
    ):  # fmt: skip
        column.append(value)
    calls.op.append(op)
    calls.comm.append(text)


def _layouts(database: Database) -> Layouts:
    """Return the integer fields (name, offset, width) of each payload schema; a missing offset follows the last."""
    rows = database.rows("NVTX_PAYLOAD_SCHEMA_ENTRIES", ("schemaId", "idx", "type", "name", "offset"), "ORDER BY idx")
    found: dict[int, list[tuple[str, int, int]]] = {}
    for schema, _, kind, name, offset in rows:
        width = WIDTHS.get(kind, 0) if isinstance(kind, int) else 0
        if not isinstance(schema, int):
            continue
        fields = found.setdefault(schema, [])
        last = fields[-1] if fields else ("", 0, 0)
        follows = -(-(last[1] + last[2]) // max(width, 1)) * max(width, 1)
        fields.append((str(name or ""), offset if isinstance(offset, int) else follows, width))
    return {schema: tuple(fields) for schema, fields in found.items()}


def _payload(text: object, raw: object, layouts: Layouts) -> dict[str, int]:
    """Return the fields of a payload by our names for them; anything else than integers is left out."""
    pairs: dict[str, Any] = {}
    if isinstance(text, str) and text:
        try:
            loaded = json.loads(text)
        except (ValueError, RecursionError):
            loaded = None
        pairs = _flat(loaded) if isinstance(loaded, dict) else {}
    elif isinstance(raw, bytes) and len(raw) > HEADER_BYTES:
        schema, size, offset = (int.from_bytes(raw[at : at + 8], "little") for at in (8, 16, 24))
        body = raw[offset : offset + size] if offset >= HEADER_BYTES else b""
        for name, at, width in layouts.get(schema, ()):
            if width and 0 <= at and at + width <= len(body):
                pairs[name] = int.from_bytes(body[at : at + width], "little", signed=width == 4)
    wanted = {key: value for name, value in pairs.items() for key in (COMM, BYTES, RANK, SIZE)
              if name == key or key == BYTES and name.startswith(BYTES)}  # fmt: skip
    return {key: number for key, value in wanted.items() if (number := _number(value)) is not None}


def _flat(loaded: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a JSON payload, also where they stand one level down."""
    inner = [value for value in loaded.values() if isinstance(value, dict)]
    return {**{key: value for one in inner for key, value in one.items()}, **loaded}


def _number(value: object) -> int | None:
    if isinstance(value, str):
        bare = value.replace(",", "").strip()
        try:
            value = int(bare, 0) if len(bare) < 24 else None
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64 else None
