"""What NCCL's RAS threads report of a job: as JSON (NCCL 2.28.7 and later), as text, and as a stream of events.

Shared by the agent, which asks a port, and by the reader of saved reports. Formats are those of NCCL 2.24 to 2.31
(src/ras/client_support.cc). Names of operations are left as NCCL writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import Unreadable

MISSING, UNRESPONSIVE, DEAD = "missing", "unresponsive", "dead"
HEALTHY, MISMATCH, INCOMPLETE, FAILED = "healthy", "mismatch", "incomplete", "error"
MOST_RANKS = 1 << 20
# group, communicators in it, nodes, ranks per node, per communicator, in group, status, errors
END = 1 << 63  # larger numbers are damage; in a text they would have more digits than are taken
_ROW = re.compile(r"^[^\S\n]*+(\d{1,18})\s+(\d{1,18})\s+\d+\s+\S+\s+(\d{1,18})\s+\d+\s+([A-Z]\S*)\s+([A-Z]\S*)", re.M)
_REPORT = re.compile(r"^(?=Job summary\s*$)", re.M)
_TOTAL = re.compile(r"GPUs\s*\n(?:\s*\(total\)[^\n]*\n|[^\n]*\(total\)\s*\n)[^\n]*?(\d{1,18})\s*$", re.M)
_BLOCK = re.compile(r"^#(\d{1,18})-\d+ \(([0-9a-f]+)\) ([A-Z]+)\s*\n((?:[ \t]+\S[^\n]*(?:\n|$))*)", re.M)
_PART = re.compile(r"^(INCOMPLETE|DEAD)\s*\n((?:[ \t]+\S[^\n]*(?:\n|$))*)", re.M)
_PROCESS = re.compile(r"Process (\d{1,18}) on node (\S+) managing GPUs? (\d{1,9}[\d,]*)")
_COUNTS = re.compile(r"different (\w+) operation counts")
_MANY = re.compile(r"(\d{1,18}) ranks have (?:launched up to operation (\d{1,18})|(not launched any))")
_ONE = re.compile(
    r"Rank (\d{1,18})"
    r"(?: has (?:launched up to operation (\d{1,18})|(not launched any) operations)| reported ([^-]+?))? -- "
    r"(?:GPU (\d{1,18})[^\n]*? managed by process (\d{1,18}) on node (\S+))?"
)
_LIST = re.compile(r"The missing ranks?: ([\d, -]+)")
_EVENT = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] ([A-Z_]+): (.*)$", re.M)


@dataclass
class Member:
    """One rank of a communicator: `counts` are the calls it launched, by NCCL's name of the operation.

    `status` is "" for a rank that answered, else missing, unresponsive or dead; `error` what it reported.
    """

    rank: int
    host: str = ""
    pid: int = -1
    device: int = -1
    counts: dict[str, int] = field(default_factory=dict)
    status: str = ""
    error: str = ""


@dataclass
class Communicator:
    """One communicator: `members` are those of which anything is told; `missing` counts also those without a name."""

    name: str
    size: int
    state: str = HEALTHY
    members: dict[int, Member] = field(default_factory=dict)
    missing: int = 0

    def spreads(self) -> dict[str, int]:
        """Return by how many calls ranks are apart, per operation."""
        found: dict[str, list[int]] = {}
        for member in self.members.values():
            for op, calls in member.counts.items():
                found.setdefault(op, []).append(calls)
        return {op: max(calls) - min(calls) for op, calls in found.items()}


@dataclass
class Happening:
    """One event of the monitoring mode: `what` is NCCL's name, as PEER_DEAD."""

    time: str
    what: str
    host: str = ""
    pid: int = -1
    text: str = ""


@dataclass
class Report:
    """One report: when (as RAS writes it, "" for the text form), the job's GPUs (-1 unknown), its communicators.

    `unnamed` counts further communicators by state: the text form lists healthy ones by number only.
    """

    time: str = ""
    gpus: int = -1
    communicators: list[Communicator] = field(default_factory=list)
    unnamed: dict[str, int] = field(default_factory=dict)
    gone: list[Member] = field(default_factory=list)  # processes that RAS misses, without a rank


def reports(text: str) -> tuple[list[Report], list[Happening]]:
    """Return the reports and events in a text, in order; raises Unreadable where it holds none or a damaged one."""
    start = text.find("{")
    if start >= 0:
        return _from_objects(text, start)
    happened = [_event(*hit.groups()) for hit in _EVENT.finditer(text)]
    parts = [part for part in _REPORT.split(text) if "Communicators..." in part or _ROW.search(part)]
    if not parts and not happened and "Communicators" not in text:
        raise Unreadable("what answers is not NCCL RAS")
    return [_from_text(part) for part in parts], happened


def _from_objects(text: str, start: int) -> tuple[list[Report], list[Happening]]:
    found: list[Report] = []
    happened: list[Happening] = []
    decoder = json.JSONDecoder()
    while start >= 0:
        try:
            loaded, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the report of NCCL RAS is damaged: {error}") from None
        if isinstance(loaded, dict) and isinstance(loaded.get("communicators"), list):
            found.append(_from_json(loaded))
        elif isinstance(loaded, dict) and "event" in loaded:
            happened.append(_happening(loaded))
        else:
            raise Unreadable("JSON, but no report of NCCL RAS: it has no list of communicators")
        start = text.find("{", end)
    return found, happened


def _happening(loaded: dict[str, Any]) -> Happening:
    told_peer = loaded.get("peer")
    peer: dict[str, Any] = told_peer if isinstance(told_peer, dict) else {}
    told = str(loaded.get("details", ""))
    return Happening(str(loaded.get("timestamp", "")), str(loaded["event"]), str(peer.get("host", "")),
                     _number(peer.get("pid"), -1), told)  # fmt: skip


def _event(time: str, what: str, text: str) -> Happening:
    process = _PROCESS.search(text)
    return Happening(time, what, process[2] if process else "", int(process[1]) if process else -1, text)


def _from_json(loaded: dict[str, Any]) -> Report:
    report = Report(str(loaded.get("timestamp", "")))
    for told in _dicts(loaded["communicators"]):
        found = Communicator(str(told.get("hash", "")).removeprefix("0x").zfill(16), _number(told.get("size")))
        for rank in _dicts(told.get("ranks")):
            member = _member(rank)
            counts = rank.get("collective_counts")
            for name, calls in counts.items() if isinstance(counts, dict) else ():
                if isinstance(calls, int):
                    member.counts[str(name)] = calls
            found.members[member.rank] = member
        absent = [_member(rank) for rank in _dicts(told.get("missing_ranks"))]
        for place, member in enumerate(absent):
            member.status = member.status or MISSING
            found.members[member.rank if member.rank >= 0 else -2 - place] = member
        found.missing = max(len(absent), _number(told.get("missing_ranks_count")))
        uneven = any(found.spreads().values())
        found.state = INCOMPLETE if found.missing else MISMATCH if uneven else HEALTHY
        report.communicators.append(found)
    return report


def _member(rank: dict[str, Any]) -> Member:
    status = rank.get("status")
    told = {str(key) for key, value in status.items() if value is True} if isinstance(status, dict) else {str(status)}
    words = " ".join(told).lower()
    state = DEAD if "dead" in words else UNRESPONSIVE if "unresponsive" in words else ""
    made = Member(_number(rank.get("rank"), -1), str(rank.get("host", "")), _number(rank.get("pid"), -1),
                  _number(rank.get("nvml_dev"), _number(rank.get("cuda_dev"), -1)), status=state)  # fmt: skip
    code = _number(status.get("async_error")) if isinstance(status, dict) else 0
    made.error = f"NCCL error {code}" if code not in (0, 7) else ""  # ncclSuccess, ncclInProgress
    return made


def _from_text(text: str) -> Report:
    total = _TOTAL.search(text)
    report = Report(gpus=int(total[1]) if total else -1)
    sizes: dict[int, int] = {}
    for number, count, size, status, errors in _ROW.findall(text):
        sizes[int(number)] = int(size)
        state = INCOMPLETE if "INCOMPLETE" in errors else FAILED if "ERROR" in errors else MISMATCH
        state = HEALTHY if errors == "OK" and status != "ABORT" else state
        report.unnamed[state] = report.unnamed.get(state, 0) + int(count)
    by_name: dict[str, Communicator] = {}
    for number, name, kind, body in _BLOCK.findall(text):
        found = by_name.setdefault(name, Communicator(name.zfill(16), sizes.get(int(number), -1)))
        found.state = kind.lower() if found.state == HEALTHY else found.state
        _take(found, kind, body)
    for found in by_name.values():
        report.communicators.append(found)
        if report.unnamed.get(found.state, 0) > 0:
            report.unnamed[found.state] -= 1
    _name_processes(report, text)
    return report


def _take(found: Communicator, kind: str, body: str) -> None:
    if kind == "MISMATCH":
        for part in re.split(r"(?=Communicator ranks have different)", body):
            if op := _COUNTS.search(part):
                _take_counts(found, op[1] if op[1] != "collective" else "", part)
        return
    for line in body.splitlines():
        if one := _ONE.search(line):
            member = _found(found, one)
            if kind == "INCOMPLETE":
                member.status = member.status or MISSING
            else:
                member.error = one[4] or "error"
        elif listed := _LIST.search(line):
            for number in re.findall(r"\d{1,18}", listed[1]):
                found.members.setdefault(int(number), Member(int(number), status=MISSING))
        elif kind == "INCOMPLETE" and (count := re.search(r"from (\d{1,18}) rank", line)):
            found.missing = int(count[1])


def _take_counts(found: Communicator, op: str, part: str) -> None:
    """Give ranks their counts; those of the one value whose ranks are not listed are all others."""
    crowds: list[tuple[int, int, list[int]]] = []  # how many, value, listed ranks
    for line in part.splitlines():
        if many := _MANY.search(line):
            crowds.append((int(many[1]), int(many[2] or 0), []))
        elif one := _ONE.search(line):
            member = _found(found, one)
            if one[2] or one[3]:
                crowds.append((1, int(one[2] or 0), [member.rank]))
            elif crowds:
                crowds[-1][2].append(member.rank)
    known = {rank for _, _, listed in crowds for rank in listed}
    silent = [crowd for crowd in crowds if not crowd[2]]
    known |= {rank for rank, member in found.members.items() if member.status}
    left = found.size - sum(0 <= rank < found.size for rank in known)
    told = len(silent) == 1 and left <= min(silent[0][0] + found.missing, MOST_RANKS)
    rest = [rank for rank in range(found.size) if rank not in known] if told else []
    for _, value, listed in crowds:
        mine = listed or rest
        for rank in mine:
            found.members.setdefault(rank, Member(rank)).counts[op] = value


def _found(found: Communicator, one: re.Match[str]) -> Member:
    member = found.members.setdefault(int(one[1]), Member(int(one[1])))
    if one[6]:
        member.device, member.pid, member.host = int(one[5]), int(one[6]), one[7]
    return member


def _name_processes(report: Report, text: str) -> None:
    """Tell dead processes from those that did not answer in time."""
    named = {(member.host, member.pid): member for found in report.communicators for member in found.members.values()
             if member.status}  # fmt: skip
    for kind, body in _PART.findall(text):
        for pid, host, devices in _PROCESS.findall(body):
            status = DEAD if kind == "DEAD" else UNRESPONSIVE
            member = named.get((host, int(pid)))
            if member is None:
                member = Member(-1, host, int(pid), int(devices.split(",")[0]))
                report.gone.append(member)
                named[host, int(pid)] = member
            member.status = DEAD if DEAD in (member.status, status) else status
    lone = [member for found in report.communicators for member in found.members.values()
            if member.status == MISSING and member.pid < 0]  # fmt: skip
    if len(lone) == 1 == len(report.gone):  # "The missing rank: 21", told without its process
        gone = report.gone.pop()
        lone[0].host, lone[0].pid, lone[0].device, lone[0].status = gone.host, gone.pid, gone.device, gone.status


def away(report: Report) -> Iterator[tuple[Communicator, Member]]:
    """Yield the ranks of a report that did not answer, each with its communicator."""
    for found in report.communicators:
        for member in found.members.values():
            if member.status:
                yield found, member


def _dicts(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _number(found: object, otherwise: int = 0) -> int:
    is_number = isinstance(found, int) and not isinstance(found, bool)
    return found if is_number and -END <= found < END else otherwise  # type: ignore[operator,return-value]
