"""What recordings of a node's telemetry share: whose they are, when they were taken, which GPU an address is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Coded, Columns, Reading

ENDINGS = re.compile(
    r"(?:\.(?:gz|prom|om|openmetrics|metrics|txt|text|xml|csv|tsv|log|out|dat|page|\d{1,3}))+$", re.IGNORECASE
)
# Words of a file's name that say what it holds, not whose it is; dates and counters do neither.
TOOLS = re.compile(
    r"(?:^|(?<=[-_.]))(?:skewscope|agent|dcgmi?|node[-_.]exporter|exporter|nvidia|smi|dmon|dmesg|kern|kernel|kmsg|syslog|messages|"
    r"(?:vllm|sglang|trtllm|tensorrt[-_]llm)(?:[-_.:]?\d{1,5})?|journal(?:ctl)?|log|metrics?|telemetry|scrapes?|pages?|expositions?|prometheus|fast|slow|before|after|"
    r"\d{8,}[TZ\d]*|\d{4}-\d\d-\d\d(?:[T_]?[\d:-]*Z?)?)(?=[-_.]|$)", re.IGNORECASE
)  # fmt: skip
PCI = re.compile(r"(?:([0-9a-f]+):)?([0-9a-f]{1,4}):([0-9a-f]{1,2})(?:\.([0-7]))?", re.IGNORECASE)
EPOCH = {10: 10**9, 13: 10**6, 16: 10**3, 19: 1}  # digits of a time since 1970 -> ns of its unit


def node_of(path: Path) -> str:
    """Return the host that a file's name tells, else the name of its folder.

    >>> node_of(Path("t/gpu-node07-dcgm_20250102.prom.gz")), node_of(Path("n3/dmesg.txt")), node_of(Path("node_12.xml"))
    ('gpu-node07', 'n3', 'node_12')
    """
    bare = TOOLS.sub("", ENDINGS.sub("", path.name)).strip("-_. ")
    bare = re.sub(r"[-_.]{2,}", "-", bare)
    return bare or path.absolute().parent.name


def changed_ns(path: Path) -> int:
    """Return when a file was last written, ns since the Unix epoch."""
    return path.stat().st_mtime_ns


def moment_ns(text: str) -> int:
    """Return a time in ns since the Unix epoch, -1 for a text that is none: epoch s, ms, us, ns, or ISO 8601.

    Times without an offset count as UTC.

    >>> moment_ns("1700000000"), moment_ns("1700000000.5"), moment_ns("2023-11-14T22:13:20Z"), moment_ns("12")
    (1700000000000000000, 1700000000500000000, 1700000000000000000, -1)
    """
    text = text.strip().replace(",", ".")
    whole, _, part = text.partition(".")
    if whole.isascii() and whole.isdecimal():
        unit = EPOCH.get(len(whole), 0)
        if not unit or (part and not part.isdecimal()):
            return -1
        return _in_64_bits(int(whole) * unit + int(part[:9].ljust(9, "0") or 0) * unit // 10**9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return -1
    return stamp_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def stamp_ns(moment: datetime) -> int:
    """Return an aware datetime in ns since the Unix epoch, exactly; -1 for what lies before it or after 2262."""
    passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return _in_64_bits(((passed.days * 86_400 + passed.seconds) * 10**6 + passed.microseconds) * 1000)


def _in_64_bits(t_ns: int) -> int:
    return t_ns if 0 <= t_ns < 1 << 63 else -1


def pci_address(text: str) -> str:
    """Return a PCI address in one form, without the function: domain:bus:device, "" for what is none.

    >>> pci_address("00000000:1B:00.0"), pci_address("0000:1b:00"), pci_address("mlx5_0")
    ('0000:1b:00', '0000:1b:00', '')
    """
    hit = PCI.fullmatch(text)
    return f"{int(hit[1] or '0', 16):04x}:{int(hit[2], 16):02x}:{int(hit[3], 16):02x}" if hit else ""


def name_devices(readings: Sequence[Reading]) -> dict[str, str]:
    """Put GPUs and adapters by name where `events` know their PCI address only; refuse second copies of a file.

    A node's names come from any of its recordings: info metrics of the agent, labels of dcgm-exporter, nvidia-smi.
    """
    refused: dict[str, str] = {}
    seen: dict[str, str] = {}
    known: dict[tuple[str, str], str] = {}
    for reading in readings:
        first = seen.setdefault(reading.fingerprint, reading.path)
        if first != reading.path:
            refused[reading.path] = f"same recording as {first}: remove one"
        known.update({(node, address): name for node, address, name in reading.job.pop("devices", ())})
    for reading in readings:
        reading.batches = [
            (table, _with_names(columns, known) if table == "events" else columns) for table, columns in reading.batches
        ]
    return refused


def _with_names(columns: Columns, known: Mapping[tuple[str, str], str]) -> Columns:
    device = columns.get("device", "")
    if isinstance(device, str | Coded):
        return columns
    nodes = columns.get("node", "")
    if isinstance(nodes, str):
        nodes = [nodes] * len(device)
    named = [known.get((node, pci_address(one)), one) for node, one in zip(nodes, device, strict=True)]
    return {**columns, "device": named}


def reading(path: Path, format_name: str, batches: Iterable[tuple[str, Columns]], devices: Iterable[Any]) -> Reading:
    """Return a reading of telemetry; `devices` are (node, PCI address, name) that it tells."""
    kept = [(table, columns) for table, columns in batches if len(columns.get("t_ns", ()))]
    made = Reading(str(path), format_name, events=sum(len(columns["t_ns"]) for _, columns in kept), batches=kept)
    nodes = {node for _, columns in kept for node in _nodes(columns)}
    made.node = nodes.pop() if len(nodes) == 1 else ""
    made.job = {"join": name_devices, "devices": sorted(set(devices))}
    return made


def _nodes(columns: Columns) -> set[str]:
    node = columns.get("node", "")
    if isinstance(node, str):
        return {node}
    return {node.values[code] for code in np.unique(node.codes)} if isinstance(node, Coded) else set(node)
