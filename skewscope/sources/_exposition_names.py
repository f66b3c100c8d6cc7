"""Which series of an exposition mean what: of our agent, dcgm-exporter, node_exporter and inference engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..metrics import METRICS, engine_names
from ..signals.identity import identify
from . import _dcgm_names, _node_exporter_names, _telemetry_file
from ._telemetry_series import XID, Meaning, Series

PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
OWN = frozenset(
    f"{metric.name}{part}" for metric in METRICS for part in PARTS.get(metric.kind, ("",)) if metric.kind != "recorded"
)
# Where a scrape or an exporter says which host it is; a port after it is cut.
NODE_LABELS = ("Hostname", "hostname", "nodename", "kubernetes_node", "instance")
ENGINE_NUMBER = re.compile(r"(?:vllm|sglang|trtllm|tensorrt[-_]llm)[-_.:]?(\d{1,5})(?=[-_.]|$)", re.IGNORECASE)
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


def engine(name: str, labels: Mapping[str, str], endpoint: str) -> tuple[str, Series] | None:
    """Return (the engine's name of it, what it means) of a series of an inference engine, None for any other.

    The scrape's `instance` tells replicas apart, else what the file is of (`endpoint`). Series that are one of ours are
    added, or the worst of them counts, as the agent does.

    >>> engine("vllm:num_requests_running", {"model_name": "m", "instance": "n1:8000"}, "f")[1].meaning.labels
    'engine=vllm,model=m,replica=n1:8000'
    """
    theirs, suffix = engine_names.known(name)
    if not theirs:
        return None
    kind, model, replica = engine_names.who(theirs, labels, labels.get("instance") or endpoint)
    ours = engine_names.TOLD[theirs][1]
    whose = {"engine": kind, "model": model, "replica": replica}
    if suffix == "_bucket":
        whose["le"] = labels.get("le", "")
    text = identify(ours + suffix, whose)[3]
    over = "max" if ours in engine_names.WORST else "sum"
    return theirs, Series(Meaning(ours + suffix, text, over=over), node=host(labels))


def endpoint(path: Path) -> str:
    """Return what tells an engine from others, by the file of its page: the host, and its number or port in the name.

    >>> endpoint(Path("n3/vllm-8001_1700000000.prom")), endpoint(Path("n3/metrics.prom"))
    ('n3:8001', 'n3')
    """
    told = ENGINE_NUMBER.search(path.name)
    return _telemetry_file.node_of(path) + (f":{told[1]}" if told else "")


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
    if not code.isdecimal() or not code.strip("0") or not gpu.isdecimal():
        return ()
    return (Series(Meaning(XID, f"xid={code}"), f"gpu{gpu}", node=node),)
