"""Network and RDMA adapters, Ethernet interfaces and TCP."""

from __future__ import annotations

from ._metric import Metric

_PORT = ("device", "port")
_WAYS = ("receive", "transmit")
_LAYERS = ("logical", "physical")

# fmt: off
_RDMA = (
    Metric("skewscope_rdma_info", "gauge", "info", "What an RDMA port is and where it stands; always 1",
           (*_PORT, "netdev", "link_layer", "firmware", "board", "numa_node", "pci_bus_id")),
    Metric("skewscope_rdma_devices", "gauge", "",
           "RDMA devices that are present, and how many are expected by rdma.expected",
           ("source",), {"source": ("present", "expected")}),
    Metric("skewscope_rdma_port_up", "gauge", "", "1 where the port is ACTIVE (logical) or LinkUp (physical)",
           (*_PORT, "layer"), {"layer": _LAYERS}),
    Metric("skewscope_rdma_rate_bytes_per_second", "gauge", "bytes_per_second",
           "Rate that the link was trained to", _PORT),
    Metric("skewscope_rdma_transmit_bytes_total", "counter", "bytes",
           "Bytes sent, headers of the link included", _PORT),
    Metric("skewscope_rdma_receive_bytes_total", "counter", "bytes",
           "Bytes received, headers of the link included", _PORT),
    Metric("skewscope_rdma_transmit_packets_total", "counter", "", "Packets sent", _PORT),
    Metric("skewscope_rdma_receive_packets_total", "counter", "", "Packets received", _PORT),
    Metric("skewscope_rdma_transmit_wait_ticks_total", "counter", "ticks",
           "Ticks of the port in which data waited for credits or its turn; a tick is the vendor's", _PORT),
    Metric("skewscope_rdma_errors_total", "counter", "",
           "Errors of the port; narrow counters of InfiniBand stand still at their end",
           (*_PORT, "error"), {"error": (
               "symbol", "receive", "receive_remote_physical", "switch_relay", "local_integrity", "buffer_overrun",
               "transmit_discard", "receive_drop", "icrc", "out_of_buffer", "no_completion")}),
    Metric("skewscope_rdma_link_events_total", "counter", "",
           "Times the link went down, or recovered by training again",
           (*_PORT, "event"), {"event": ("downed", "recovered")}),
    Metric("skewscope_rdma_congestion_events_total", "counter", "",
           "Congestion notifications sent, obeyed or ignored, and packets that came with a congestion mark",
           (*_PORT, "event"), {"event": ("cnp_sent", "cnp_handled", "cnp_ignored", "ecn_marked")}),
    Metric("skewscope_rdma_retransmissions_total", "counter", "",
           "What makes the adapter send again, by what it noticed",
           (*_PORT, "cause"), {"cause": (
               "packet_sequence", "out_of_sequence", "implied_nak", "ack_timeout", "adaptive", "adaptive_timeout",
               "slow_restart", "duplicate", "rnr", "packet")}),
    Metric("skewscope_rdma_retries_exceeded_total", "counter", "", "Connections torn down because retries ran out",
           (*_PORT, "cause"), {"cause": ("transport", "rnr", "unresponsive")}),
)
_NIC = (
    Metric("skewscope_nic_pause_frames_total", "counter", "",
           "Pause frames by priority (global where they know none): received asks us to stop, sent asks our peer",
           (*_PORT, "priority", "direction"), {"direction": _WAYS}),
    Metric("skewscope_nic_pause_seconds_total", "counter", "seconds", "Time paused by such frames",
           (*_PORT, "priority", "direction"), {"direction": _WAYS}),
    Metric("skewscope_nic_ecn_marked_packets_total", "counter", "",
           "Packets that this adapter marked because its own buffer filled up", (*_PORT, "priority")),
    Metric("skewscope_nic_errors_total", "counter", "",
           "Errors of wire, module, buffers and PCIe as the driver counts them",
           (*_PORT, "error"), {"error": (
               "pcs_symbol", "corrected_bits", "crc", "discard", "pcie_buffer_overflow", "pcie_signal_receive",
               "pcie_signal_transmit", "pause_storm_warning", "pause_storm", "link_down")}),
    Metric("skewscope_nic_pcie_stalled_seconds_total", "counter", "seconds",
           "Seconds in which the adapter waited for PCIe credits for more than 30 % of the time",
           (*_PORT, "direction"), {"direction": ("read", "write")}),
    Metric("skewscope_nic_carrier_changes_total", "counter", "",
           "Times the carrier of an interface came or went", ("device",)),
)
_ETHERNET = (
    Metric("skewscope_ethernet_up", "gauge", "",
           "1 where the interface is in service (logical) or has a carrier (physical)",
           ("device", "layer"), {"layer": _LAYERS}),
    Metric("skewscope_ethernet_speed_bytes_per_second", "gauge", "bytes_per_second", "Speed of the link", ("device",)),
    Metric("skewscope_ethernet_full_duplex", "gauge", "", "1 where the link is full duplex, 0 where half", ("device",)),
    Metric("skewscope_ethernet_transmit_bytes_total", "counter", "bytes", "Bytes sent through the kernel", ("device",)),
    Metric("skewscope_ethernet_receive_bytes_total", "counter", "bytes",
           "Bytes received through the kernel", ("device",)),
    Metric("skewscope_ethernet_transmit_packets_total", "counter", "", "Packets sent through the kernel", ("device",)),
    Metric("skewscope_ethernet_receive_packets_total", "counter", "",
           "Packets received through the kernel", ("device",)),
    Metric("skewscope_ethernet_errors_total", "counter", "",
           "Packets with errors", ("device", "direction"), {"direction": _WAYS}),
    Metric("skewscope_ethernet_drops_total", "counter", "",
           "Packets dropped", ("device", "direction"), {"direction": _WAYS}),
)
_TCP = (
    Metric("skewscope_tcp_connections", "gauge", "", "Connections that are open now"),
    Metric("skewscope_tcp_opened_connections_total", "counter", "", "Connections opened",
           ("direction",), {"direction": ("outgoing", "incoming")}),
    Metric("skewscope_tcp_lost_connections_total", "counter", "",
           "Connections that failed to open, were reset, or timed out",
           ("cause",), {"cause": ("not_opened", "reset", "timeout")}),
    Metric("skewscope_tcp_segments_total", "counter", "", "Segments, those sent without retransmissions",
           ("direction",), {"direction": _WAYS}),
    Metric("skewscope_tcp_retransmitted_segments_total", "counter", "", "Segments sent again"),
    Metric("skewscope_tcp_retransmissions_total", "counter", "",
           "Why segments were sent again, and how often one that was sent again was lost again",
           ("cause",), {"cause": ("fast", "slow_start", "lost_again", "loss_probe", "syn")}),
    Metric("skewscope_tcp_duplicate_segments_total", "counter", "",
           "Segments that arrived once more: a peer sent them again, as they or their acknowledgement were lost"),
    Metric("skewscope_tcp_send_queue_bytes", "gauge", "bytes",
           "Bytes in the send queues of all connections: not yet sent, or not yet acknowledged"),
    Metric("skewscope_tcp_send_queue_max_bytes", "gauge", "bytes", "The longest of these send queues"),
    Metric("skewscope_tcp_timeouts_total", "counter", "", "Times the retransmission timer ran out"),
    Metric("skewscope_tcp_drops_total", "counter", "",
           "Segments dropped because a queue was full; listen contains accept_queue_full",
           ("cause",), {"cause": (
               "accept_queue_full", "listen", "backlog", "receive_queue", "out_of_order", "zero_window")}),
    Metric("skewscope_tcp_receive_errors_total", "counter", "", "Segments received with errors"),
)
# fmt: on
METRICS = (*_RDMA, *_NIC, *_ETHERNET, *_TCP)
