"""Ports of RDMA devices: state, rate and all counters, from /sys/class/infiniband."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _sysfs
from ._sysfs import Source

UP, RATE, DEVICES = "skewscope_rdma_port_up", "skewscope_rdma_rate_bytes_per_second", "skewscope_rdma_devices"
SENT, RECEIVED = "skewscope_rdma_transmit_bytes_total", "skewscope_rdma_receive_bytes_total"
SENT_PACKETS, RECEIVED_PACKETS = "skewscope_rdma_transmit_packets_total", "skewscope_rdma_receive_packets_total"
WAIT = "skewscope_rdma_transmit_wait_ticks_total"
ERRORS, LINK, CONGESTION = (f"skewscope_rdma_{kind}_total" for kind in ("errors", "link_events", "congestion_events"))
AGAIN, GIVEN_UP = "skewscope_rdma_retransmissions_total", "skewscope_rdma_retries_exceeded_total"

# File -> (metric, last label, scale). Where two files of a port say the same, the first one stands.
# fmt: off
COUNTERS = {  # ports/N/counters: IBTA, 64 bits or standing still at their end
    "port_xmit_data": (SENT, "", 4), "port_rcv_data": (RECEIVED, "", 4),  # in words of 4 bytes
    "port_xmit_packets": (SENT_PACKETS, "", 1), "port_rcv_packets": (RECEIVED_PACKETS, "", 1),
    "port_xmit_wait": (WAIT, "", 1),
    "symbol_error": (ERRORS, "symbol", 1), "port_rcv_errors": (ERRORS, "receive", 1),
    "port_rcv_remote_physical_errors": (ERRORS, "receive_remote_physical", 1),
    "port_rcv_switch_relay_errors": (ERRORS, "switch_relay", 1),
    "local_link_integrity_errors": (ERRORS, "local_integrity", 1),
    "excessive_buffer_overrun_errors": (ERRORS, "buffer_overrun", 1),
    "port_xmit_discards": (ERRORS, "transmit_discard", 1),
    "link_downed": (LINK, "downed", 1), "link_error_recovery": (LINK, "recovered", 1),
}
HW_COUNTERS = {  # ports/N/hw_counters: the driver's own, mostly 32 bits wide
    # mlx5
    "rx_icrc_encapsulated": (ERRORS, "icrc", 1), "out_of_buffer": (ERRORS, "out_of_buffer", 1),
    "np_cnp_sent": (CONGESTION, "cnp_sent", 1), "rp_cnp_handled": (CONGESTION, "cnp_handled", 1),
    "rp_cnp_ignored": (CONGESTION, "cnp_ignored", 1), "np_ecn_marked_roce_packets": (CONGESTION, "ecn_marked", 1),
    "packet_seq_err": (AGAIN, "packet_sequence", 1), "out_of_sequence": (AGAIN, "out_of_sequence", 1),
    "implied_nak_seq_err": (AGAIN, "implied_nak", 1), "local_ack_timeout_err": (AGAIN, "ack_timeout", 1),
    "roce_adp_retrans": (AGAIN, "adaptive", 1), "roce_adp_retrans_to": (AGAIN, "adaptive_timeout", 1),
    "roce_slow_restart": (AGAIN, "slow_restart", 1), "duplicate_request": (AGAIN, "duplicate", 1),
    "rnr_nak_retry_err": (AGAIN, "rnr", 1),
    "req_transport_retries_exceeded": (GIVEN_UP, "transport", 1), "req_rnr_retries_exceeded": (GIVEN_UP, "rnr", 1),
    # efa, and bnxt_re for the first four
    "tx_bytes": (SENT, "", 1), "rx_bytes": (RECEIVED, "", 1),
    "tx_pkts": (SENT_PACKETS, "", 1), "rx_pkts": (RECEIVED_PACKETS, "", 1),
    "rx_drops": (ERRORS, "receive_drop", 1), "no_completion_cmds": (ERRORS, "no_completion", 1),
    "retrans_pkts": (AGAIN, "packet", 1), "retrans_timeout_events": (AGAIN, "ack_timeout", 1),
    "unresponsive_remote_events": (GIVEN_UP, "unresponsive", 1),
    # bnxt_re
    "seq_err_naks_rcvd": (AGAIN, "packet_sequence", 1), "oos_drop_count": (AGAIN, "out_of_sequence", 1),
    "to_retransmits": (AGAIN, "ack_timeout", 1), "max_retry_exceeded": (GIVEN_UP, "transport", 1),
    "tx_cnp_pkts": (CONGESTION, "cnp_sent", 1), "rx_cnp_pkts": (CONGESTION, "cnp_handled", 1),
    "rx_ecn_marked_pkts": (CONGESTION, "ecn_marked", 1),
    # irdma
    "cnpSent": (CONGESTION, "cnp_sent", 1), "cnpHandled": (CONGESTION, "cnp_handled", 1),
    "cnpIgnored": (CONGESTION, "cnp_ignored", 1), "RxECNMrkd": (CONGESTION, "ecn_marked", 1),
    "RetransSegs": (AGAIN, "packet", 1), "tcpRetransSegs": (AGAIN, "packet", 1),
}
# fmt: on
WRAPPING = ("port_xmit_wait", *HW_COUNTERS)
ACTIVE, LINK_UP = b"4", b"5"  # the numbers before the words in `state` and `phys_state`
EXPECTED = "rdma.expected"
RATE_S = 5.0


class Rdma:
    """Reads every port of every device; devices may come and go.

    Firmware is asked anew for each file of a port's state, so the rate, which changes with the state, is read less.
    """

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        DEVICES, UP, RATE, SENT, RECEIVED, SENT_PACKETS, RECEIVED_PACKETS, WAIT, ERRORS, LINK, CONGESTION, AGAIN,
        GIVEN_UP,
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._options = place.options
        self._watch = _sysfs.Watch(f"{place.sys}/class/infiniband", place.clock_s)
        self._clock_s = place.clock_s
        self._files, self._rate_files = _sysfs.Files(), _sysfs.Files()
        self._rates: list[Sample] = []
        self._rates_due_s = float("-inf")
        self._ever = False

    def collect(self) -> Iterable[Sample]:
        """Return the samples of all ports, and how many devices there are."""
        wanted = _sysfs.expected(self._options, EXPECTED)
        if self._watch.due():
            self._scan()
        self._ever = self._ever or bool(self._watch.found)
        if not self._ever and wanted is None:
            raise NoData(f"there is no RDMA device in {self._watch.folder}")
        samples = [*self._files.samples(), *self._rates_of_now()]
        if self._watch.found and not samples:
            raise self._files.error or OSError(f"no port of {', '.join(self._watch.found)} has anything to read")
        samples.append((DEVICES, ("present",), len(self._watch.found)))
        if wanted is not None:
            samples.append((DEVICES, ("expected",), wanted))
        return samples

    def _scan(self) -> None:
        sources = list(self._sources())
        self._files.follow(source for source in sources if source.metric != RATE)
        self._rate_files.follow(source for source in sources if source.metric == RATE)
        self._rates_due_s = float("-inf")

    def _rates_of_now(self) -> list[Sample]:
        now_s = self._clock_s()
        if now_s >= self._rates_due_s:
            self._rates, self._rates_due_s = self._rate_files.samples(), now_s + RATE_S
        return self._rates

    def _sources(self) -> Iterator[Source]:
        for device in self._watch.found:
            folder = f"{self._watch.folder}/{device}"
            yield from _counters(f"{folder}/hw_counters", (device, ""), HW_COUNTERS, set())
            for port in _sysfs.names(f"{folder}/ports"):
                yield from _port(f"{folder}/ports/{port}", (device, port))


def _port(folder: str, labels: tuple[str, str]) -> Iterator[Source]:
    present = set(_sysfs.names(folder))
    if "state" in present:
        yield Source(f"{folder}/state", UP, (*labels, "logical"), parse=_active)
    if "phys_state" in present:
        yield Source(f"{folder}/phys_state", UP, (*labels, "physical"), parse=_link_up)
    if "rate" in present:
        yield Source(f"{folder}/rate", RATE, labels, parse=rate_bytes_per_second)
    taken: set[tuple[str, str]] = set()
    yield from _counters(f"{folder}/counters", labels, COUNTERS, taken)
    yield from _counters(f"{folder}/hw_counters", labels, HW_COUNTERS, taken)


def _counters(
    folder: str, labels: tuple[str, str], meanings: dict[str, tuple[str, str, int]], taken: set[tuple[str, str]]
) -> Iterator[Source]:
    present = set(_sysfs.names(folder))
    for name, (metric, label, scale) in meanings.items():
        if name in present and (metric, label) not in taken:
            taken.add((metric, label))
            every = (*labels, label) if label else labels
            yield Source(f"{folder}/{name}", metric, every, scale, wraps=name in WRAPPING)


def _active(raw: bytes) -> float:
    return float(_state(raw) == ACTIVE)


def _link_up(raw: bytes) -> float:
    return float(_state(raw) == LINK_UP)


def _state(raw: bytes) -> bytes:
    number = raw.partition(b":")[0].strip()
    if not number.isdigit():
        raise ValueError(f"{raw!r} is no state of a port")
    return number


def rate_bytes_per_second(raw: bytes) -> float:
    """Return the rate of a port.

    >>> rate_bytes_per_second(b"400 Gb/sec (4X NDR)")
    50000000000.0
    """
    number, unit = raw.split(maxsplit=2)[:2]
    if not unit.startswith(b"Gb/s"):
        raise ValueError(f"{raw!r} is no rate in Gb/s")
    return float(number) * 1e9 / 8
