"""Flight recorder dumps of a small job, as PyTorch writes them in JSON: the last collectives of every rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .calls import ELEMENT_BYTES, PIECES, Call, Recording
from .hang import standing
from .kineto import WORDS
from .meetings import OPS


def dumps(recording: Recording, base_ns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file name, dump) of every rank; where the job stands, those who wait show their open call."""
    for rank in range(recording.job.plan.ranks):
        entries = [_entry(recording, call, rank, base_ns) for call in recording.calls]
        entries += _open(recording, rank, base_ns)
        entries.sort(key=lambda entry: int(entry["time_created_ns"]))
        for number, entry in enumerate(entries):
            entry["record_id"] = number
        yield f"{recording.node(rank)}_rank_{rank}.json", {
            "version": "2.10", "nccl_version": "2.26.2", "pg_config": _groups(recording, rank), "pg_status": {},
            "entries": entries,
        }  # fmt: skip


def _groups(recording: Recording, rank: int) -> dict[str, Any]:
    found = {}
    for group in recording.run.layout.groups:
        name = recording.name(group, rank)
        described = "default_pg" if group == "world" else f"mesh_{group}"
        members = recording.run.layout.members(group, rank)
        found[name] = {"name": name, "desc": described, "ranks": str(members)}
    return found


def _entry(recording: Recording, call: Call, rank: int, base_ns: int) -> dict[str, Any]:
    begin, end = (base_ns + int((float(moment[rank]) + float(recording.offset_s[rank])) * 1e9)
                  for moment in (call.begin, call.end))  # fmt: skip
    return {
        **_known(recording, call.group, rank, call.number, call.elements), "time_created_ns": begin,
        "state": "completed", "time_discovered_started_ns": begin + 20_000, "time_discovered_completed_ns": end,
        "duration_ms": (end - begin) / 1e6, "retired": True,
    }  # fmt: skip


def _open(recording: Recording, rank: int, base_ns: int) -> list[dict[str, Any]]:
    """Return the call in which a rank stands after the job stopped."""
    stop = recording.run.stop
    found = []
    for group in recording.run.layout.groups if stop is not None else ():
        if stop is not None and standing(recording.run, group)[rank]:
            done = recording.run.steps * (PIECES if group in ("tp", "cp", "ep") else 1)
            begin = base_ns + int((stop.at_s + float(recording.offset_s[rank])) * 1e9)
            found.append({
                **_known(recording, group, rank, done, 2**20), "time_created_ns": begin, "state": "started",
                "time_discovered_started_ns": begin + 20_000, "time_discovered_completed_ns": None,
                "duration_ms": None, "retired": False,
            })  # fmt: skip
    return found


def _known(recording: Recording, group: str, rank: int, number: int, elements: int) -> dict[str, Any]:
    described = "default_pg" if group == "world" else f"mesh_{group}"
    return {
        "record_id": 0, "process_group": [recording.name(group, rank), described], "collective_seq_id": number,
        "p2p_seq_id": 0, "op_id": number, "is_p2p": False, "profiling_name": f"nccl:{WORDS[OPS[group]]}",
        "input_sizes": [[elements]], "input_dtypes": ["BFloat16"], "output_sizes": [[elements]],
        "output_dtypes": ["BFloat16"], "timeout_ms": 600_000, "pg_id": 0, "element_bytes": ELEMENT_BYTES,
    }  # fmt: skip
