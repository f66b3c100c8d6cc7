"""PCIe links of adapters, GPUs and the bridges above them, as the host sees them."""

from __future__ import annotations

from ._metric import Metric

_KINDS = {"kind": ("current", "max")}

# fmt: off
METRICS = (
    Metric("skewscope_pcie_aer_errors_total", "counter", "",
           "Errors of the link that this end reported; they may stand at the bridge only (role upstream)",
           ("device", "role", "severity"),
           {"role": ("endpoint", "upstream"), "severity": ("correctable", "nonfatal", "fatal")}),
    Metric("skewscope_pcie_link_width_lanes", "gauge", "lanes",
           "Lanes of the link; idle devices may lower them, so judge under load", ("device", "kind"), _KINDS),
    Metric("skewscope_pcie_link_transfers_per_second", "gauge", "transfers_per_second",
           "Transfers a second on each lane; idle devices may lower them, so judge under load",
           ("device", "kind"), _KINDS),
)
# fmt: on
