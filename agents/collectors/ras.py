"""What NCCL's RAS threads say of a job: communicators that are not whole, ranks that do not answer, ranks behind.

Every process of a job with NCCL 2.24 or later answers on one port of its node. The port knows no passwords and every
local user can ask it. It is asked only where `ras.address` names it (127.0.0.1:28028 unless the job says otherwise),
every 30 s, with a deadline of 2 s. A report is a sign and no proof: it has said healthy during a timeout.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData, UsageError

from ._aside import Aside

if TYPE_CHECKING:
    from ._ras_report import Report

INTERVAL_S = 30.0
DEADLINE_S = 2.0
PORT = 28028
STATES = ("healthy", "mismatch", "incomplete")
STATUSES = ("missing", "unresponsive", "dead")


class Ras:
    """Asks one RAS port."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_ras_communicators", "skewscope_ras_ranks", "skewscope_ras_count_spread",
        "skewscope_ras_behind_calls",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._question = Aside(self._ask, INTERVAL_S)

    def collect(self) -> Iterable[Sample]:
        """Return what the newest report says; raises NoData where there is nobody to ask."""
        address = self._place.options.get("ras.address", "")
        if not address or address == "off":
            raise NoData("ras.address is not set")
        host_and_port(address)
        try:
            report = self._question.look(self._place.clock_s())
        except ConnectionRefusedError:
            raise NoData(f"no job with NCCL answers at {address}") from None
        if report is None:
            raise NoData(f"{address} has not answered yet")
        return self._samples(report)

    def wait(self, timeout_s: float) -> None:
        """Wait for the question that is under way."""
        self._question.wait(timeout_s)

    def _ask(self) -> Report:
        from . import _ras_report

        host, port = host_and_port(self._place.options["ras.address"])
        return _ras_report.read(_ras_report.ask(host, port, DEADLINE_S))

    def _job(self, report: Report) -> str:
        """Return the job that the report is about: that of a process in it, or the only one here."""
        ranks = self._place.board.get("ranks") or ()
        jobs = {rank["job_id"] for rank in ranks if rank["pid"] in report.pids} or {rank["job_id"] for rank in ranks}
        return self._place.options.get("ras.job") or (jobs.pop() if len(jobs) == 1 else "")

    def _samples(self, report: Report) -> Iterable[Sample]:
        job = self._job(report)
        for state in STATES:
            yield "skewscope_ras_communicators", (job, state), report.states[state]
        for status in STATUSES:
            yield "skewscope_ras_ranks", (job, status), report.missed[status]
        for op, spread in report.spreads.items():
            yield "skewscope_ras_count_spread", (job, op), spread
        for (op, rank), calls in report.behind.items():
            yield "skewscope_ras_behind_calls", (job, op, rank), calls


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of an address; raises UsageError for what is none.

    >>> host_and_port("127.0.0.1:28028"), host_and_port("[::1]:9"), host_and_port("localhost")
    (('127.0.0.1', 28028), ('::1', 9), ('localhost', 28028))
    """
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536 or not host:
        raise UsageError(f"ras.address {address!r} is no host:port; write 127.0.0.1:{PORT}")
    return host.strip("[]"), int(port)
