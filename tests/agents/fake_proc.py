"""Files below a fake /proc and /sys as the kernel writes them, for tests of host collectors."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from skewscope.catalogue import class_name, room
from skewscope.contracts import Place
from skewscope.metrics import metric

BTIME_S = 1_700_000_000


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class Clocks:
    def __init__(self) -> None:
        self.now_s, self.clock_s = float(BTIME_S + 1000), 1000.0

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock_s += seconds


class FakeHost:
    """Roots, clocks and board of a fake node."""

    def __init__(self, root: Path, options: Mapping[str, str] | None = None) -> None:
        self.root, self.options, self.clocks = root, dict(options or {}), Clocks()
        self.board: dict[str, list[dict[str, object]]] = {}

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    @property
    def dev(self) -> Path:
        return self.root / "dev"

    def place(self) -> Place:
        return Place(
            proc=self.proc, sys=self.sys, dev=self.dev, options=self.options, board=self.board,
            now_s=lambda: self.clocks.now_s, clock_s=lambda: self.clocks.clock_s,
        )  # fmt: skip

    def collector(self, name: str, *arguments: object):
        made = room("agents.collectors", name).kind()(self.place(), *arguments)
        assert type(made).__name__ == class_name(name.replace("-", "_")) and made.process == "host"
        return made

    def gpus(self, *near: Iterable[int]) -> None:
        """Leave GPUs with these near CPUs on the board, at PCI buses 1b, 1c and so on."""
        self.board["gpus"] = [
            {"slot": slot, "uuid": f"GPU-{slot}", "pci_bus_id": f"00000000:{0x1B + slot:02X}:00.0", "cpus": list(cpus)}
            for slot, cpus in enumerate(near)
        ]

    def rank(self, pid: int, rank: int = 0, gpu: str = "0", job: str = "train", start_s: float = BTIME_S + 500) -> None:
        """Register a rank, in place of one with the same number."""
        ranks = [one for one in self.board.get("ranks", []) if one["rank"] != rank]
        entry = {"job_id": job, "rank": rank, "pid": pid, "gpu": gpu, "start_ns": int(start_s * 1e9)}
        self.board["ranks"] = [*ranks, entry]

    def boot(self) -> None:
        write(self.proc / "stat", f"cpu  1 0 1 1 0 0 0 0 0 0\nctxt 5\nbtime {BTIME_S}\nprocs_running 1\n")

    def process(
        self, pid: int, *, name: str = "python", state: str = "S", ticks: int = 100, began_s: float = 100.0,
        delays_ns: Mapping[int, int] | None = None, cgroup: str = "/", status: str = "", own_number: int = 0,
    ) -> Path:  # fmt: skip
        """Write one process; `delays_ns` is the run delay of each thread."""
        folder = self.proc / str(pid)
        delays = {pid: 0} if delays_ns is None else dict(delays_ns)
        rest = [0] * 49
        rest[8:11] = [7, 0, ticks]  # major faults at 9 counted from the state, user time at 11
        rest[16], rest[18] = len(delays), int(began_s * 100)
        write(folder / "stat", f"{pid} ({name}) {state} {' '.join(map(str, rest))}\n")
        write(folder / "comm", f"{name[:15]}\n")
        write(folder / "cgroup", f"0::{cgroup}\n" if cgroup.startswith("/") else cgroup)
        numbers = f"{pid}\t{own_number}" if own_number else f"{pid}"
        write(folder / "status", f"Name:\t{name}\nState:\t{state}\nNSpid:\t{numbers}\n{status}")
        for gone in (folder / "task").glob("*"):
            if int(gone.name) not in delays:
                self._remove(gone)
        for thread, delay_ns in delays.items():
            write(folder / f"task/{thread}/schedstat", f"1000 {delay_ns} 3\n")
        return folder

    def end(self, pid: int) -> None:
        """Take a process away; descriptors that are still open give nothing, as those of the kernel."""
        self._remove(self.proc / str(pid))

    @staticmethod
    def _remove(folder: Path) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        shutil.rmtree(folder)


def values(collector) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what a collector gives as {metric without prefix: {labels: value}}, after checking it against the list."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in collector.collect():
        declared = metric(name)
        assert name in collector.exports
        assert len(labels) == len(declared.labels) and all(isinstance(label, str) for label in labels)
        for label, said in zip(declared.labels, labels, strict=True):
            assert said in declared.values.get(label, (said,)), (name, label, said)
        series = found.setdefault(name.removeprefix("skewscope_"), {})
        assert labels not in series, f"{name}{labels} twice"
        series[labels] = value
    return found
