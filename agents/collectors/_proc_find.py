"""Which process of this host a rank is: its number may be one of a container, and may have been given anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._proc import TICKS_PER_S, number, stat_fields, whole

YOUNGER_S = 2.0  # clocks differ: the boot time is known to the second, and the wall clock was perhaps set since


def boot_s(proc: str) -> float:
    """Return when the host was booted in seconds since the Unix epoch, -inf where that is unknown."""
    raw = whole(f"{proc}/stat")
    at = raw.find(b"\nbtime ")
    found = number(raw[at + 7 : raw.find(b"\n", at + 1)]) if at >= 0 else None
    return float("-inf") if found is None else float(found)


def rank_pid(proc: str, board: Mapping[str, Any], rank: Mapping[str, Any]) -> int:
    """Return the process of a rank as <proc> numbers it, 0 where it is not there or cannot be told.

    NVML knows the processes on the rank's GPU by the host's numbers: where the rank's own number is not among them,
    it is the one that has this number in its own namespace.
    """
    pid = int(rank["pid"])
    candidates = [candidate for candidate in gpu_pids(board, str(rank["gpu"])) if os.path.exists(f"{proc}/{candidate}")]
    if candidates and pid not in candidates:
        pid = next((candidate for candidate in candidates if _own_number(proc, candidate) == pid), 0)
    good = pid and _old_enough(proc, pid, int(rank.get("start_ns") or 0)) and _is_of(proc, pid, rank.get("uid"))
    return pid if good else 0


def gpu_pids(board: Mapping[str, Any], slot: str) -> list[int]:
    """Return the processes that NVML sees on the GPU of a slot."""
    uuid = next((gpu.get("uuid") for gpu in board.get("gpus", ()) if str(gpu.get("slot")) == slot), None)
    return [int(entry[0]) for entry in board.get("gpu-processes", {}).get(uuid, ())]


def _own_number(proc: str, pid: int) -> int:
    """Return the number that a process has in its innermost namespace."""
    raw = whole(f"{proc}/{pid}/status")
    at = raw.find(b"\nNSpid:")
    words = raw[at + 7 : raw.find(b"\n", at + 1)].split() if at >= 0 else []
    return int(words[-1]) if words and words[-1].isdigit() else pid


def _is_of(proc: str, pid: int, uid: int | None) -> bool:
    """Return whether a process is of the user who wrote the ring that names it: anybody may name any number."""
    if uid is None:
        return True
    raw = whole(f"{proc}/{pid}/status")
    at = raw.find(b"\nUid:")
    words = raw[at + 5 : raw.find(b"\n", at + 1)].split() if at >= 0 else []
    return bool(words) and number(words[0]) == uid


def _old_enough(proc: str, pid: int, registered_ns: int) -> bool:
    """Return whether a process is there and began before the rank registered itself, so that it can be the rank."""
    fields = stat_fields(whole(f"{proc}/{pid}/stat"))
    if not fields:
        return False
    began_s = boot_s(proc) + int(fields[19]) / TICKS_PER_S
    return not registered_ns or began_s <= registered_ns / 1e9 + YOUNGER_S
