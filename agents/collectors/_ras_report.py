"""What NCCL RAS answers, as JSON or as text, and what it means."""

from __future__ import annotations

import socket
import time
from collections import Counter
from dataclasses import dataclass, field

from skewscope import ras_report
from skewscope.errors import Unreadable

from ._nccl_names import operation

LARGEST_BYTES = 8 << 20
MOST_BEHIND = 8
STATE = {ras_report.FAILED: "mismatch"}  # the metric knows three states


@dataclass
class Report:
    """Communicators by state, missed ranks by status, and per operation how far ranks are apart and who is behind."""

    states: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    spreads: dict[str, int] = field(default_factory=dict)
    behind: dict[tuple[str, str], int] = field(default_factory=dict)  # (op, rank) -> calls
    pids: set[int] = field(default_factory=set)


def ask(host: str, port: int, timeout_s: float) -> str:
    """Return the report as text; JSON where NCCL has it (2.28.7 and later).

    Raises OSError where nobody answers in time, Unreadable where the answer is too large or none.
    """
    deadline_s = time.monotonic() + timeout_s
    with socket.create_connection((host, port), timeout=timeout_s) as connection, connection.makefile("rb") as lines:
        for command in (b"CLIENT PROTOCOL 2\n", b"TIMEOUT 1\n", b"SET FORMAT json\n"):
            connection.sendall(command)
            if not lines.readline(4096):  # OK, ERROR for what an older one does not know: both will do
                raise Unreadable("NCCL RAS hung up")
        connection.sendall(b"VERBOSE STATUS\n")
        found = bytearray()
        while chunk := lines.read1(1 << 16):
            found += chunk
            if len(found) > LARGEST_BYTES:
                raise Unreadable(f"the report of NCCL RAS is larger than {LARGEST_BYTES} bytes")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"NCCL RAS did not finish its report within {timeout_s} s")
            connection.settimeout(left_s)
    return found.decode("utf-8", "replace")


def read(text: str) -> Report:
    """Return what the newest report in a text says; raises Unreadable where it says nothing."""
    told, _ = ras_report.reports(text)
    report = Report()
    if not told:
        return report
    newest = told[-1]
    report.states.update({STATE.get(state, state): count for state, count in newest.unnamed.items() if count})
    for found in sorted(newest.communicators, key=lambda one: one.size, reverse=True):
        absent = [member for member in found.members.values() if member.status]
        report.missed.update(member.status for member in absent)
        report.missed["missing"] += max(found.missing - len(absent), 0)
        report.states[STATE.get(found.state, found.state)] += 1
        for name, spread in found.spreads().items():
            op = operation(name)
            report.spreads[op] = max(report.spreads.get(op, 0), spread)
        if not report.behind:
            _add_behind(report, found)
        report.pids |= {member.pid for member in found.members.values() if not member.status}
    report.missed.update(member.status for member in newest.gone)
    return report


def _add_behind(report: Report, found: ras_report.Communicator) -> None:
    told = [(name, calls, member.rank) for member in found.members.values() for name, calls in member.counts.items()]
    most: dict[str, int] = {}
    for name, calls, _ in told:
        most[name] = max(calls, most.get(name, 0))
    lags = sorted(((most[name] - calls, operation(name), str(rank)) for name, calls, rank in told), reverse=True)
    for lag, op, rank in lags[:MOST_BEHIND]:
        if lag:
            report.behind[op, rank] = lag
