"""What `nvidia-smi -q -x` prints: clocks, power, temperature, memory errors and PCIe of each GPU at one time.

One document or several, as `-l 30` writes them. GPUs are numbered in the order of the document, which is that of NVML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from xml.parsers import expat

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ..signals.identity import identify
from . import _bytes, _nvidia_smi_names, _telemetry_file
from ._telemetry_series import Meaning, Series, columns

ROOT, END = "nvidia_smi_log", b"</nvidia_smi_log>"
MOST_BYTES = 256 << 20
LONGEST_TEXT = 1 << 12
MOST_DEPTH = 16
MOST_GPUS = 256
INFO, DRIVER, DEVICES = "skewscope_gpu_info", "skewscope_driver_info", "skewscope_gpu_devices"
ACCESS, PROCESSES = "skewscope_gpu_access_state", "skewscope_gpu_processes"
# Where a GPU does not answer, elements say so in place of their values.
LOST = {"gpu is lost": "lost", "requires reset": "reset_required", "unknown error": "error"}
STATES = ("ok", "lost", "reset_required", "error")
FACTS = {"product_name": "model", "minor_number": "minor", "gpu_module_id": "module", "vbios_version": "vbios"}
KINDS = {"C": "compute", "C+G": "compute", "M+C": "mps"}
TOLD_GPU = ("pci/pci_bus_id", "uuid", *FACTS)


@dataclass
class Gpu:
    """What one document says of one GPU."""

    address: str
    texts: list[tuple[str, str]] = field(default_factory=list)  # path, text
    state: str = "ok"
    kinds: list[str] | None = None  # of its processes; None where nothing is said of them


@dataclass
class Document:
    """One document; `error` says where it ends before its end."""

    head: dict[str, str] = field(default_factory=dict)
    gpus: list[Gpu] = field(default_factory=list)
    error: str = ""


class NvidiaSmiXml:
    """Reads `nvidia-smi -q -x`, also in a loop."""

    format: ClassVar[str] = "nvidia-smi-xml"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a document."""
        return 0.97 if b"<nvidia_smi_log" in head[:4096] else 0.0

    def read(self, path: Path) -> Reading:
        """Return `samples`; raises Unreadable where no GPU is told of."""
        content, damage = _bytes.whole(path, MOST_BYTES)
        found = documents(content)
        if not any(document.gpus for document in found):
            reason = next((document.error for document in found if document.error), damage or "no GPU in it")
            raise Unreadable(reason, "make it anew with `nvidia-smi -q -x`")
        rows = _Rows(_telemetry_file.node_of(path))
        written_ns = _telemetry_file.changed_ns(path)
        undated = 0
        told: set[int] = set()
        for document in found:
            t_ns = taken_ns(document.head.get("timestamp", ""))
            undated += t_ns < 0
            t_ns = t_ns if t_ns >= 0 else written_ns
            if t_ns not in told:  # times are whole seconds: of a faster loop's documents the first counts
                rows.add(document, t_ns)
            if document.gpus:
                told.add(t_ns)
        reading = _telemetry_file.reading(path, self.format, rows.batches(), rows.devices)
        reading.warnings = [f"document {at}: {one.error}" for at, one in enumerate(found, 1) if one.error and found[1:]]
        if undated < len(found):
            reading.warnings.append("times without a time zone are read as UTC")
        cut = damage or next((one.error for one in found if one.error), "")
        if cut:
            reading.status, reading.error = "partial", cut
        return reading


def documents(content: bytes) -> list[Document]:
    """Return all documents of a file, each with the GPUs that were read before it broke."""
    found = []
    start = line = 0
    while (begin := content.find(b"<", start)) >= 0:
        end = content.find(END, begin)
        end = len(content) if end < 0 else end + len(END)
        line += content.count(b"\n", start, begin)
        found.append(_Reader().read(content[begin:end], line))
        line += content.count(b"\n", begin, end)
        start = end
    return found


def taken_ns(text: str) -> int:
    """Return the time of a document, which is without a zone and read as UTC; -1 for none.

    >>> taken_ns("Tue Nov 14 22:13:20 2023")
    1700000000000000000
    """
    try:
        moment = datetime.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return -1
    return _telemetry_file.stamp_ns(moment.replace(tzinfo=UTC))


class _Refused(Exception):
    """Something that no such document holds."""


class _Reader:
    """Walks one document; entities are refused, nothing outside of it is opened."""

    def __init__(self) -> None:
        self._found = Document()
        self._stack: list[str] = []
        self._text: list[str] = []
        self._gpu: Gpu | None = None
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.EntityDeclHandler = self._entity

    def read(self, content: bytes, line: int) -> Document:
        """Return the document that begins after so many lines of the file."""
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            what = "the document is cut" if not content.endswith(END) else expat.ErrorString(error.code)
            self._found.error = f"{what} (line {line + error.lineno})"
        except _Refused as error:
            self._found.error = str(error)
            self._found.gpus = []
        return self._found

    def _entity(self, *_: object) -> None:
        raise _Refused("it declares entities, which nvidia-smi never does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._stack.append(name)
        self._text.clear()
        if len(self._stack) > MOST_DEPTH or len(self._found.gpus) > MOST_GPUS:
            raise _Refused("it is deeper or longer than any of nvidia-smi")
        if len(self._stack) == 1 and name != ROOT:
            raise _Refused(f"it begins with <{name}>, wanted <{ROOT}>")
        if self._stack == [ROOT, "gpu"]:
            self._gpu = Gpu(attributes.get("id", ""))
            self._found.gpus.append(self._gpu)

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()[:LONGEST_TEXT]
        self._text.clear()
        path = "/".join(self._stack[2:])
        self._stack.pop()
        if self._gpu is None:
            self._found.head[name] = text
        elif not path:
            self._gpu = None
        else:
            self._of_gpu(self._gpu, path, text)

    @staticmethod
    def _of_gpu(gpu: Gpu, path: str, text: str) -> None:
        if path in _nvidia_smi_names.MEANINGS or path in TOLD_GPU:
            gpu.texts.append((path, text))
            lowered = text.lower()
            gpu.state = next((state for word, state in LOST.items() if word in lowered), gpu.state)
        elif path == "processes":
            gpu.kinds = gpu.kinds or []
        elif path == "processes/process_info/type":
            gpu.kinds = [*(gpu.kinds or ()), text]


class _Rows:
    """Series and values of all documents of a file."""

    def __init__(self, node: str) -> None:
        self.devices: set[tuple[str, str, str]] = set()
        self._node = node
        self._told: list[tuple[Series, ...]] = []
        self._place: dict[tuple[str, str], int] = {}
        self._numbers: list[int] = []
        self._values: list[float] = []
        self._t_ns: list[int] = []

    def add(self, document: Document, t_ns: int) -> None:
        """Add the rows of one document."""
        labels = {"driver": document.head.get("driver_version", ""), "cuda": document.head.get("cuda_version", "")}
        self._add("", DRIVER, (Meaning(DRIVER, identify(DRIVER, labels)[3]),), 1, t_ns)
        count = _nvidia_smi_names.value(document.head.get("attached_gpus", ""))
        if count is not None:
            self._add("", DEVICES, (Meaning(DEVICES, "source=nvml"),), count, t_ns)
        for slot, gpu in enumerate(document.gpus):
            self._of_gpu(f"gpu{slot}", gpu, t_ns)

    def _of_gpu(self, device: str, gpu: Gpu, t_ns: int) -> None:
        facts = dict(gpu.texts)
        address = gpu.address or facts.get("pci/pci_bus_id", "")
        labels = {"pci_bus_id": address, **{name: facts.get(path, "") for path, name in FACTS.items()}}
        self._add(device, INFO, (Meaning(INFO, identify(INFO, {**labels, "gpu": device[3:]})[3]),), 1, t_ns)
        if _telemetry_file.pci_address(address):
            self.devices.add((self._node, _telemetry_file.pci_address(address), device))
        for state in STATES:
            self._add(device, f"{ACCESS}/{state}", (Meaning(ACCESS, f"state={state}"),), gpu.state == state, t_ns)
        for kind in ("compute", "mps") if gpu.kinds is not None else ():
            count = sum(KINDS.get(one) == kind for one in gpu.kinds or ())
            self._add(device, f"{PROCESSES}/{kind}", (Meaning(PROCESSES, f"kind={kind}"),), count, t_ns)
        for path, text in gpu.texts:
            number = _nvidia_smi_names.value(text) if path in _nvidia_smi_names.MEANINGS else None
            if number is not None:
                self._add(device, path, _nvidia_smi_names.MEANINGS[path], number, t_ns)

    def _add(self, device: str, path: str, meanings: tuple[Meaning, ...], value: float, t_ns: int) -> None:
        number = self._place.setdefault((device, path), len(self._told))
        if number == len(self._told):
            order = _nvidia_smi_names.ORDERS.get(path, 0)
            self._told.append(tuple(Series(one, device, node=self._node, order=order) for one in meanings))
        self._numbers.append(number)
        self._values.append(float(value))
        self._t_ns.append(t_ns)

    def batches(self) -> list[tuple[str, dict[str, object]]]:
        """Return the rows."""
        numbers, t_ns = np.array(self._numbers, dtype=np.int64), np.array(self._t_ns, dtype=np.int64)
        return [("samples", dict(columns(self._told, numbers, np.array(self._values), t_ns).columns))]
