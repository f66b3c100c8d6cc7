"""Which series of an exposition mean what: of our agent, of dcgm-exporter and of node_exporter."""

from __future__ import annotations

from collections.abc import Mapping

from ..metrics import METRICS
from ..signals.identity import identify
from . import _dcgm_names, _node_exporter_names
from ._telemetry_series import XID, Meaning, Series

PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
OWN = frozenset(
    f"{metric.name}{part}" for metric in METRICS for part in PARTS.get(metric.kind, ("",)) if metric.kind != "recorded"
)
# Where a scrape or an exporter says which host it is; a port after it is cut.
NODE_LABELS = ("Hostname", "hostname", "nodename", "kubernetes_node", "instance")
OF_MIG = ("GPU_I_ID", "GPU_I_PROFILE")


def known(name: str) -> bool:
    """Return whether a name begins as those of the exporters that are read."""
    return name.startswith(("skewscope_", "DCGM_", "node_"))


def series(name: str, labels: Mapping[str, str]) -> tuple[Series, ...] | None:
    """Return what a series means, () where it says nothing of use, None for a name that has no meaning here.

    >>> series("DCGM_FI_DEV_SM_CLOCK", {"gpu": "3", "Hostname": "n1"})[0].meaning.metric
    'skewscope_gpu_clock_hertz'
    """
    node = host(labels)
    if name in OWN:
        device, job, rank, text = identify(name, labels)
        return (Series(Meaning(name, text), device, job, rank, node),)
    if name.startswith("node_"):
        return _node_exporter_names.series(name, labels, node)
    return _of_dcgm(name, labels, node) if name.startswith("DCGM_") else None


def host(labels: Mapping[str, str]) -> str:
    """Return the host that labels name, "" for none.

    >>> host({"instance": "n7:9400"}), host({"instance": "[fe80::1]:9400"}), host({"gpu": "1"})
    ('n7', 'fe80::1', '')
    """
    for name in NODE_LABELS:
        told = labels.get(name, "")
        if told:
            bare, _, port = told.rpartition(":")
            return (bare if bare and port.isdecimal() else told).strip("[]")
    return ""


def devices(name: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (PCI address, name) of a device that a series tells both of, None where it does not."""
    address = labels.get("pci_bus_id", "")
    if not address:
        return None
    if labels.get("gpu", "").isdecimal() and name.startswith(("DCGM_", "skewscope_gpu_")):
        return address, f"gpu{labels['gpu']}"
    if name == "skewscope_rdma_info":
        return address, identify(name, labels)[0]
    return None


def _of_dcgm(name: str, labels: Mapping[str, str], node: str) -> tuple[Series, ...] | None:
    if name == "DCGM_EXP_XID_ERRORS_COUNT":
        return _xid_count(labels, node)
    field = _dcgm_names.link_of(name, labels.get("nvlink", "")) or _dcgm_names.BY_NAME.get(name)
    if field is None:
        return None
    gpu = labels.get("gpu", "")
    if not gpu.isdecimal() or any(labels.get(label) for label in OF_MIG):
        return ()  # a switch, a CPU, or a slice of a GPU
    return _dcgm_names.series(field, gpu, node)


def _xid_count(labels: Mapping[str, str], node: str) -> tuple[Series, ...]:
    """Return the meaning of "this XID came so many times in the window": the code where there is any."""
    code, gpu = labels.get("xid", ""), labels.get("gpu", "")
    if not code.isdecimal() or not int(code) or not gpu.isdecimal():
        return ()
    return (Series(Meaning(XID, f"xid={code}"), f"gpu{gpu}", node=node),)
