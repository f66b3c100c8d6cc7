"""Metrics of the Prometheus node_exporter in ours.

Names are those of its collectors infiniband, ethtool, netclass, netdev, pressure, timex, pcidevice, vmstat, meminfo,
cpu, diskstats, mountstats and netstat (prometheus/node_exporter 1.12: collector/*.go and its e2e-output.txt); most are
in base units. ethtool's are the driver's own with rx and tx written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..signals.identity import identify
from ._telemetry_series import Meaning, Series

PAGE_BYTES = 4096.0  # of x86; vmstat counts pages and does not say how large they are
MICRO = 1e-6
HOST = "skewscope_host_"
RDMA, NIC, ETH, TCP = "skewscope_rdma_", "skewscope_nic_", "skewscope_ethernet_", "skewscope_tcp_"
PRESSURE, MEMORY = f"{HOST}pressure_seconds_total", f"{HOST}memory_bytes"
AGAIN, CONGESTION, ERRORS = f"{RDMA}retransmissions_total", f"{RDMA}congestion_events_total", f"{RDMA}errors_total"
LINK, UP = f"{RDMA}link_events_total", f"{RDMA}port_up"
PCI_WIDTH, PCI_SPEED = "skewscope_pcie_link_width_lanes", "skewscope_pcie_link_transfers_per_second"
NFS = "skewscope_nfs_"
VIRTUAL = re.compile(r"(lo|veth|docker|br-|cali|cni|virbr|tap|tun|flannel|cilium|lxc|kube|dummy|ovs)")
DISKS = re.compile(r"(?:sd[a-z]+|x?vd[a-z]+|nvme\d+n\d+|mmcblk\d+)")
OPERATIONS = {"READ": "read", "WRITE": "write", "COMMIT": "write"}

# fmt: off
OF_HOST = {
    "pressure_cpu_waiting_seconds_total": Meaning(PRESSURE, "resource=cpu,kind=some"),
    "pressure_memory_waiting_seconds_total": Meaning(PRESSURE, "resource=memory,kind=some"),
    "pressure_memory_stalled_seconds_total": Meaning(PRESSURE, "resource=memory,kind=full"),
    "pressure_io_waiting_seconds_total": Meaning(PRESSURE, "resource=io,kind=some"),
    "pressure_io_stalled_seconds_total": Meaning(PRESSURE, "resource=io,kind=full"),
    "pressure_irq_stalled_seconds_total": Meaning(PRESSURE, "resource=irq,kind=full"),
    "timex_offset_seconds": Meaning(f"{HOST}clock_offset_seconds"),
    "timex_maxerror_seconds": Meaning(f"{HOST}clock_max_error_seconds"),
    "timex_estimated_error_seconds": Meaning(f"{HOST}clock_estimated_error_seconds"),
    "timex_sync_status": Meaning(f"{HOST}clock_synchronized"),
    "procs_running": Meaning(f"{HOST}tasks", "state=runnable"),
    "procs_blocked": Meaning(f"{HOST}tasks", "state=blocked"),
    "context_switches_total": Meaning(f"{HOST}context_switches_total"),
    "vmstat_pgmajfault": Meaning(f"{HOST}major_faults_total"),
    "vmstat_oom_kill": Meaning(f"{HOST}oom_kills_total"),
    "vmstat_pswpin": Meaning(f"{HOST}swap_bytes_total", "direction=in", PAGE_BYTES),
    "vmstat_pswpout": Meaning(f"{HOST}swap_bytes_total", "direction=out", PAGE_BYTES),
    "vmstat_numa_pages_migrated": Meaning(f"{HOST}numa_migrated_bytes_total", "", PAGE_BYTES),
    "vmstat_compact_stall": Meaning(f"{HOST}memory_stalls_total", "cause=compaction"),
    **{f"vmstat_allocstall{zone}": Meaning(f"{HOST}memory_stalls_total", "cause=reclaim", over="sum")
       for zone in ("", "_dma", "_dma32", "_normal", "_high", "_movable", "_device")},
    **{f"memory_{name}_bytes": Meaning(MEMORY, f"kind={kind}") for name, kind in (
        ("MemTotal", "total"), ("MemAvailable", "available"), ("MemFree", "free"), ("Buffers", "buffers"),
        ("Cached", "cached"), ("AnonPages", "anonymous"), ("Shmem", "shared"), ("Dirty", "dirty"),
        ("Writeback", "writeback"), ("Slab", "slab"), ("Unevictable", "unevictable"), ("Mlocked", "locked"),
        ("SwapTotal", "swap_total"), ("SwapFree", "swap_free"))},
    "netstat_Tcp_CurrEstab": Meaning(f"{TCP}connections"),
    "netstat_Tcp_ActiveOpens": Meaning(f"{TCP}opened_connections_total", "direction=outgoing"),
    "netstat_Tcp_PassiveOpens": Meaning(f"{TCP}opened_connections_total", "direction=incoming"),
    "netstat_Tcp_OutSegs": Meaning(f"{TCP}segments_total", "direction=transmit"),
    "netstat_Tcp_InSegs": Meaning(f"{TCP}segments_total", "direction=receive"),
    "netstat_Tcp_RetransSegs": Meaning(f"{TCP}retransmitted_segments_total"),
    "netstat_Tcp_InErrs": Meaning(f"{TCP}receive_errors_total"),
    "netstat_TcpExt_TCPTimeouts": Meaning(f"{TCP}timeouts_total"),
    "netstat_TcpExt_ListenOverflows": Meaning(f"{TCP}drops_total", "cause=accept_queue_full"),
    "netstat_TcpExt_ListenDrops": Meaning(f"{TCP}drops_total", "cause=listen"),
    "netstat_TcpExt_TCPRcvQDrop": Meaning(f"{TCP}drops_total", "cause=receive_queue"),
    "netstat_TcpExt_TCPSynRetrans": Meaning(f"{TCP}retransmissions_total", "cause=syn"),
    # over processors
    "cpu_core_throttles_total": Meaning(f"{HOST}cpu_throttle_events_total", "scope=core", over="sum"),
    "cpu_package_throttles_total": Meaning(f"{HOST}cpu_throttle_events_total", "scope=package", over="sum"),
}
OF_PORT = {  # what sysfs counts, and since 1.11 what mlx5's driver counts
    "port_data_transmitted_bytes_total": Meaning(f"{RDMA}transmit_bytes_total"),
    "port_data_received_bytes_total": Meaning(f"{RDMA}receive_bytes_total"),
    "port_packets_transmitted_total": Meaning(f"{RDMA}transmit_packets_total"),
    "port_packets_received_total": Meaning(f"{RDMA}receive_packets_total"),
    "port_transmit_wait_total": Meaning(f"{RDMA}transmit_wait_ticks_total"),
    "rate_bytes_per_second": Meaning(f"{RDMA}rate_bytes_per_second"),
    "state_id": Meaning(UP, "layer=logical", equal=4),
    "physical_state_id": Meaning(UP, "layer=physical", equal=5),
    "link_downed_total": Meaning(LINK, "event=downed"),
    "link_error_recovery_total": Meaning(LINK, "event=recovered"),
    **{name: Meaning(ERRORS, f"error={error}") for name, error in (
        ("symbol_error_total", "symbol"), ("port_errors_received_total", "receive"),
        ("port_receive_remote_physical_errors_total", "receive_remote_physical"),
        ("port_receive_switch_relay_errors_total", "switch_relay"),
        ("local_link_integrity_errors_total", "local_integrity"),
        ("excessive_buffer_overrun_errors_total", "buffer_overrun"),
        ("port_discards_transmitted_total", "transmit_discard"),
        ("rx_icrc_encapsulated_errors_total", "icrc"), ("out_of_buffer_drops_total", "out_of_buffer"))},
    **{name: Meaning(CONGESTION, f"event={event}") for name, event in (
        ("np_cnp_packets_sent_total", "cnp_sent"), ("rp_cnp_packets_handled_total", "cnp_handled"),
        ("rp_cnp_ignored_packets_received_total", "cnp_ignored"),
        ("np_ecn_marked_roce_packets_received_total", "ecn_marked"))},
    **{name: Meaning(AGAIN, f"cause={cause}") for name, cause in (
        ("packet_sequence_errors_total", "packet_sequence"),
        ("out_of_sequence_packets_received_total", "out_of_sequence"), ("implied_nak_seq_errors_total", "implied_nak"),
        ("local_ack_timeout_errors_total", "ack_timeout"), ("roce_adp_retransmits_total", "adaptive"),
        ("roce_adp_retransmits_timeout_total", "adaptive_timeout"), ("roce_slow_restart_used_total", "slow_restart"),
        ("duplicate_requests_packets_total", "duplicate"), ("rnr_nak_retry_packets_received_total", "rnr"))},
}
OF_INTERFACE = {
    "up": Meaning(f"{ETH}up", "layer=logical"), "carrier": Meaning(f"{ETH}up", "layer=physical"),
    "speed_bytes": Meaning(f"{ETH}speed_bytes_per_second", least=0),
    "carrier_changes_total": Meaning(f"{NIC}carrier_changes_total"),
    **{f"{way}_{name}_total": Meaning(f"{ETH}{way}_{name}_total")
       for way in ("receive", "transmit") for name in ("bytes", "packets")},
    **{f"{way}_errs_total": Meaning(f"{ETH}errors_total", f"direction={way}") for way in ("receive", "transmit")},
    **{f"{way}_drop_total": Meaning(f"{ETH}drops_total", f"direction={way}") for way in ("receive", "transmit")},
}
OF_DRIVER = {  # `ethtool -S` of mlx5
    name: Meaning(f"{NIC}errors_total", f"error={error}") for name, error in (
        ("rx_pcs_symbol_err_phy", "pcs_symbol"), ("rx_corrected_bits_phy", "corrected_bits"),
        ("rx_crc_errors_phy", "crc"), ("rx_discards_phy", "discard"),
        ("outbound_pci_buffer_overflow", "pcie_buffer_overflow"), ("rx_pci_signal_integrity", "pcie_signal_receive"),
        ("tx_pci_signal_integrity", "pcie_signal_transmit"), ("tx_pause_storm_warning_events", "pause_storm_warning"),
        ("tx_pause_storm_error_events", "pause_storm"), ("link_down_events_phy", "link_down"))
}
OF_DISK = {
    "read_bytes_total": Meaning("skewscope_disk_bytes_total", "direction=read"),
    "written_bytes_total": Meaning("skewscope_disk_bytes_total", "direction=write"),
    "reads_completed_total": Meaning("skewscope_disk_operations_total", "direction=read"),
    "writes_completed_total": Meaning("skewscope_disk_operations_total", "direction=write"),
    "read_time_seconds_total": Meaning("skewscope_disk_operation_seconds_total", "direction=read"),
    "write_time_seconds_total": Meaning("skewscope_disk_operation_seconds_total", "direction=write"),
    "io_time_seconds_total": Meaning("skewscope_disk_busy_seconds_total"),
}
OF_SLOT = {
    f"{kind}_link_{name}": Meaning(metric, f"kind={kind}", least=0) for kind in ("current", "max")
    for name, metric in (("width", PCI_WIDTH), ("transfers_per_second", PCI_SPEED))
}
OF_CALLS = {
    "requests_total": f"{NFS}operations_total", "response_time_seconds_total": f"{NFS}round_trip_seconds_total",
    "request_time_seconds_total": f"{NFS}execution_seconds_total",
}
# fmt: on
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
PAUSE = re.compile(r"([rt]x)_(?:prio(\d)|(global))_pause(_duration)?")
MARKED = re.compile(r"rx_prio(\d)_marked")
STALLED = re.compile(r"outbound_pci_stalled_(rd|wr)_events")
WAYS = {"rx": "receive", "tx": "transmit", "rd": "read", "wr": "write"}


def series(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    """Return what a series means, () where it is of no use (a virtual interface), None for a name without meaning.

    >>> series("node_infiniband_state_id", {"device": "mlx5_0", "port": "1"}, "n1")[0].device
    'mlx5_0'
    """
    bare = name.removeprefix("node_")
    if bare in OF_HOST:
        return (Series(OF_HOST[bare], node=node),)
    collector, _, rest = bare.partition("_")
    made = _COLLECTORS.get(collector)
    return made(rest, labels, node) if made else None


def _port(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    return _of_device(OF_PORT.get(name), labels, node)


def _interface(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    meaning = OF_INTERFACE.get(name)
    return () if meaning and VIRTUAL.match(labels.get("device", "")) else _of_device(meaning, labels, node)


def _driver(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    bare = re.sub(r"(?<![^_])received(?![^_])", "rx", re.sub(r"(?<![^_])transmitted(?![^_])", "tx", name))
    return _of_device(driver_meaning(bare), labels, node)


def driver_meaning(name: str) -> Meaning | None:
    """Return what a statistic of a network driver means.

    >>> driver_meaning("rx_prio3_pause_duration").labels
    'priority=3,direction=receive'
    """
    if name in OF_DRIVER:
        return OF_DRIVER[name]
    if hit := PAUSE.fullmatch(name):
        text = f"priority={hit[2] or hit[3]},direction={WAYS[hit[1]]}"
        return (
            Meaning(f"{NIC}pause_seconds_total", text, MICRO) if hit[4] else Meaning(f"{NIC}pause_frames_total", text)
        )
    if hit := MARKED.fullmatch(name):
        return Meaning(f"{NIC}ecn_marked_packets_total", f"priority={hit[1]}")
    if hit := STALLED.fullmatch(name):
        return Meaning(f"{NIC}pcie_stalled_seconds_total", f"direction={WAYS[hit[1]]}")
    return None


def _disk(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    meaning = OF_DISK.get(name)
    return _of_device(meaning, labels, node) if not meaning or DISKS.fullmatch(labels.get("device", "")) else ()


def _cpu(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    if name == "seconds_total" and labels.get("mode") in CPU_MODES:
        return (Series(Meaning(f"{HOST}cpu_seconds_total", f"mode={labels['mode']}", over="sum"), node=node),)
    if name == "scaling_frequency_hertz":
        metric = f"{HOST}cpu_frequency_hertz"
        return tuple(Series(Meaning(metric, f"statistic={how}", over=how), node=node) for how in ("min", "mean", "max"))
    return None


def _slot(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    meaning = OF_SLOT.get(name)
    return (Series(meaning, slot(labels), node=node),) if meaning else None


def slot(labels: Mapping[str, str], prefix: str = "") -> str:
    """Return the PCI address of a device of the collector pcidevice, "" where it has none.

    >>> slot({"segment": "0000", "bus": "3b", "device": "00", "function": "0"})
    '0000:3b:00.0'
    """
    parts = [labels.get(prefix + part, "*") for part in ("segment", "bus", "device", "function")]
    return "" if "*" in parts else "{}:{}:{}.{}".format(*parts)


def _clocksource(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    if name != "clocksource_current_info":
        return None
    meaning = Meaning(f"{HOST}clocksource_info", f"clocksource={labels.get('clocksource', '')}")
    return (Series(meaning, node=node),)


def _mounts(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    mount, bare = f"mount={labels.get('export', '').replace(',', ';')}", name.removeprefix("nfs_")
    if bare.startswith("operations_"):
        metric = OF_CALLS.get(bare.removeprefix("operations_"))
        if metric:
            text = f"{mount},operation={OPERATIONS.get(labels.get('operation', ''), 'metadata')}"
            return (Series(Meaning(metric, text, over="sum"), node=node),)
        if bare == "operations_major_timeouts_total":
            return (Series(Meaning(f"{NFS}timeouts_total", mount, over="sum"), node=node),)
    elif bare == "transport_connect_total":
        return (Series(Meaning(f"{NFS}connects_total", mount, over="sum"), node=node),)
    elif bare in ("total_read_bytes_total", "total_write_bytes_total"):
        way = "read" if "read" in bare else "write"
        return (Series(Meaning(f"{NFS}bytes_total", f"{mount},direction={way}", over="sum"), node=node),)
    return None


def _of_device(meaning: Meaning | None, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    return (Series(meaning, identify(meaning.metric, labels)[0], node=node),) if meaning else None


_COLLECTORS = {
    "infiniband": _port, "network": _interface, "ethtool": _driver, "disk": _disk, "cpu": _cpu, "pcidevice": _slot,
    "time": _clocksource, "mountstats": _mounts,
}  # fmt: skip
