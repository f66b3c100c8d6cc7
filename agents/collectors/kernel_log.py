"""What the kernel log tells of trouble: Xids of GPUs, and lines about adapters, memory, disks and stuck tasks.

It is the second source of Xids: drivers have kept some from NVML that stood in the log. Lines from before the agent's
start are not counted.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData
from skewscope.kernel_messages import CATEGORIES, XID, trouble

MESSAGES = "skewscope_kernel_messages_total"
RECORD_BYTES = 8192  # the kernel gives one whole record a read, or refuses
MOST_RECORDS = 500  # a look; the rest waits, and what is overwritten meanwhile is counted


class KernelLog:
    """Reads <dev>/kmsg, or any file or pipe with records of its form."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        MESSAGES, "skewscope_kernel_messages_lost_total", "skewscope_gpu_xid_errors_total",
        "skewscope_kernel_xid_last_timestamp_seconds", "skewscope_host_hung_tasks_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._path = f"{place.dev}/kmsg"
        self._descriptor = -1
        self._cut = b""  # the beginning of a line whose end is not there yet
        self._number = -1  # of the last record
        self._lost = 0
        self._counts = dict.fromkeys(CATEGORIES, 0)
        self._labels = {category: (category,) for category in self._counts}
        self._xids: dict[tuple[tuple[int, int, int], str], tuple[int, float]] = {}  # (PCI, code) -> (count, last)
        self._kernel_counts_hung = os.path.exists(f"{place.proc}/sys/kernel/hung_task_detect_count")

    def __del__(self) -> None:
        self._close()

    def collect(self) -> Iterable[Sample]:
        """Return counts since the agent began to read; raises NoData where it may not read."""
        if self._descriptor < 0:
            self._open()
        self._drain()
        found: list[Sample] = [(MESSAGES, self._labels[name], count) for name, count in self._counts.items()]
        found.append(("skewscope_kernel_messages_lost_total", (), self._lost))
        if not self._kernel_counts_hung:
            found.append(("skewscope_host_hung_tasks_total", (), self._counts["hung_task"]))
        if self._xids:
            found.extend(self._of_xids())
        return found

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise NoData(
                f"{self._path} may not be read: give the agent CAP_SYSLOG, or set kernel.dmesg_restrict=0"
            ) from error
        except OSError as error:
            raise NoData(f"no kernel log here: {error.strerror} ({self._path})") from error
        try:
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError:
            pass  # a pipe has no end to go to
        self._number, self._cut = -1, b""

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _drain(self) -> None:
        for _ in range(MOST_RECORDS):
            try:
                some = os.read(self._descriptor, RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # overrun: the next read gives the oldest record there is
            except OSError as error:
                if error.errno == errno.EINVAL:  # a record too large for us; the kernel goes on to the next
                    self._lost += 1
                    continue
                return self._close()  # opened again at the next look
            if not some:
                return
            lines = (self._cut + some).split(b"\n")
            self._cut = lines.pop()[-RECORD_BYTES:]
            for line in lines:
                self._read(line)

    def _read(self, line: bytes) -> None:
        prefix, separator, text = line.partition(b";")
        if not separator or line.startswith(b" "):
            return  # the dictionary of a record
        fields = prefix.split(b",")
        if len(fields) > 1 and fields[1].isdigit():
            number = int(fields[1])
            self._lost += max(0, number - self._number - 1) if self._number >= 0 else 0
            self._number = number
        xid = XID.search(text) if b"NVRM: Xid" in text else None
        if xid:
            key = ((int(xid[1], 16), int(xid[2], 16), int(xid[3], 16)), str(int(xid[4])))
            self._xids[key] = (self._xids.get(key, (0, 0.0))[0] + 1, self._place.now_s())
            return
        category = trouble(text)
        if category:
            self._counts[category] += 1

    def _of_xids(self) -> Iterator[Sample]:
        """Yield the Xids by GPU; a PCI address that no known GPU has goes without a name."""
        known = {pci_address(gpu): (str(gpu["slot"]), str(gpu["uuid"])) for gpu in self._place.board.get("gpus", ())}
        summed: dict[tuple[str, str, str], tuple[int, float]] = {}
        for (address, code), (count, last_s) in self._xids.items():
            labels = (*known.get(address, ("", "")), code)
            before, before_s = summed.get(labels, (0, 0.0))
            summed[labels] = (before + count, max(before_s, last_s))
        for labels, (count, last_s) in summed.items():
            yield "skewscope_gpu_xid_errors_total", (*labels, "kmsg"), count
            yield "skewscope_kernel_xid_last_timestamp_seconds", labels, last_s


def pci_address(gpu: Any) -> tuple[int, int, int] | None:  # noqa: ANN401 - an entry of the board
    """Return domain, bus and device of a GPU of the board, None where it has no readable address.

    >>> pci_address({"pci_bus_id": "00000000:1B:00.0"})
    (0, 27, 0)
    """
    match = re.match(r"([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)", str(gpu.get("pci_bus_id", "")))
    return (int(match[1], 16), int(match[2], 16), int(match[3], 16)) if match else None
