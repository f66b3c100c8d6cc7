"""Slurm's accounting of jobs: `sacct --json`, or `sacct --parsable` (or `--parsable2`) with a header line.

Each job becomes a row per host in `attempts`; a job that stands there several times (`--duplicates`) was requeued. The
text needs JobID, State, NodeList, Start and End; User and ExitCode are taken where they are. Steps of jobs are left
out. Times without a zone are taken as UTC: set `SLURM_TIME_FORMAT=%s` for such that are none.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended, texts
from ._slurm_hosts import hosts
from ._slurm_json import jobs

NEEDED = ("JobID", "State", "NodeList", "Start", "End")
STATES = {
    "COMPLETED": "completed", "FAILED": "failed", "NODE_FAIL": "node-fail", "BOOT_FAIL": "node-fail",
    "TIMEOUT": "timeout", "DEADLINE": "timeout", "OUT_OF_MEMORY": "out-of-memory", "PREEMPTED": "preempted",
    "CANCELLED": "cancelled", "REVOKED": "cancelled", "REQUEUED": "requeued", "RUNNING": "running",
    "COMPLETING": "running", "SUSPENDED": "running", "RESIZING": "running",
}  # fmt: skip
LARGEST_CODE = 2**15
EXIT, DIGITS = re.compile(r"\d{1,9}"), 18


class SlurmAccounting:
    """Reads what `sacct` prints."""

    format: ClassVar[str] = "slurm-accounting"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins accounting of Slurm."""
        if head.lstrip().startswith(b"{"):
            told = b'"jobs"' in head and (b'"job_id"' in head or b'"exit_code"' in head)
            return 0.9 if told and (b"slurm" in head.lower() or b'"time"' in head) else 0.5 if told else 0.0
        return 0.95 if set(NEEDED) <= set(_header(head)) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `attempts`; raises Unreadable where no job had a host and a start."""
        content, damage = _bytes.whole(path)
        is_json = content.lstrip().startswith(b"{")
        if not is_json:
            content, damage = ended(content, damage)
        told = list(_from_json(content, damage) if is_json else _from_text(content))
        columns = _columns(_numbered(told))
        if not columns["submission"]:
            raise Unreadable(
                "no job with a host, a start and a state that is known", "ask sacct for " + ",".join(NEEDED)
            )
        reading = Reading(str(path), self.format, events=len(told), batches=[("attempts", columns)])
        if not is_json and any(isinstance(one["start"], str) for one in told):
            reading.warnings.append("times of jobs without a zone are taken as UTC")
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _header(head: bytes) -> list[str]:
    return head.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split("|")


def _from_json(content: bytes, damage: str) -> Iterator[dict[str, Any]]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"not whole JSON: {damage or error}"[:300], "ask sacct for --json again") from None
    return jobs(found)


def _from_text(content: bytes) -> Iterator[dict[str, Any]]:
    for row in csv.DictReader(texts(content), delimiter="|", quoting=csv.QUOTE_NONE):
        job = str(row.get("JobID") or "")
        if not job or "." in job or None in (row.get("Start"), row.get("End"), row.get("State")):
            continue  # a step of a job, or a torn line
        code, _, signal = str(row.get("ExitCode") or "").partition(":")
        number = int(signal) if EXIT.fullmatch(signal) else 0
        yield {
            "id": job, "user": row.get("User") or "", "state": str(row["State"]), "hosts": row.get("NodeList") or "",
            "code": 128 + number if number else int(code) if EXIT.fullmatch(code) else -1,
            "start": _time(str(row["Start"])), "end": _time(str(row["End"])),
        }  # fmt: skip


def _time(text: str) -> int | str:
    """Return seconds since the epoch, 0 for what is unknown; what names no zone stays text."""
    if text.isdecimal() and len(text) <= DIGITS:
        return int(text)
    return text if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text) else 0


def _ns(when: int | str) -> int:
    if isinstance(when, str):
        try:
            told = datetime.fromisoformat(when)
        except ValueError:
            return -1
        when = int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp())
    return int(when * 1e9) if 0 < when < 2**33 else -1


def _numbered(told: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each job with the number of its attempt, in the order of their starts."""
    seen: dict[str, int] = {}
    for one in sorted(told, key=lambda job: (str(job["id"]), _ns(job["start"]))):
        number = seen.get(one["id"], 0)
        seen[one["id"]] = number + 1
        yield number, one


def _columns(numbered: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, list[Any]]:
    names = ("submission", "attempt", "node", "user", "state", "exit_code", "start_ns", "end_ns", "source")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number, job in numbered:
        state = STATES.get(str(job["state"]).split(" ", 1)[0].rstrip("+").upper(), "")
        start_ns, code = _ns(job["start"]), min(max(int(job["code"]), -1), LARGEST_CODE)
        for host in hosts(job["hosts"]) if state and start_ns > 0 else ():
            values = (job["id"], number, host, job["user"], state, code, start_ns, _ns(job["end"]), "slurm-accounting")
            for name, value in zip(names, values, strict=True):
                found[name].append(value)
    return found
