"""Whose GPUs these are: the job on each, its memory, processes that are not its own, and time allocated but idle.

A rank that registered itself names the job best. Otherwise the control group of the GPU's processes tells the Slurm
job or the Kubernetes pod. Environments of processes are never read: they hold secrets. User ids are shown on request
(option `jobs.user`) and as numbers: looking up a name may hang where the directory server does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._cgroup import Owner, owner
from ._proc import whole
from ._proc_find import rank_pid

IDLE_RATIO = 0.01
LONGEST_GAP_S = 60.0  # over a longer one nobody looked
JOBS = 16  # of one GPU
SERVER = b"nvidia-cuda-mps"  # serves the processes of others; the kernel keeps 15 letters of the name
LOOKS_BEFORE_NO_DATA = 4

Key = tuple[str, str]  # source and id of a job, ("path", ...) of a control group without one


class GpuJobs:
    """Joins what NVML, ranks and control groups say of the processes on each GPU."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_gpu_job_info", "skewscope_gpu_job_memory_bytes", "skewscope_gpu_foreign_processes",
        "skewscope_gpu_allocated", "skewscope_gpu_allocated_idle_seconds_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._proc = str(place.proc)
        self._shows_user = place.options.get("jobs.user", "").lower() in ("1", "on", "true", "yes")
        self._idle_ratio = _ratio(place.options.get("jobs.idle-ratio", ""))
        self._idle_s: dict[str, float] = {}
        self._last_s: float | None = None
        self._looks = 0

    def collect(self) -> Iterable[Sample]:
        """Return the jobs of all known GPUs; raises NoData where there are none."""
        now_s, board = self._place.clock_s(), self._place.board
        gap_s = 0.0 if self._last_s is None else min(now_s - self._last_s, LONGEST_GAP_S)
        self._last_s = now_s
        gpus = board.get("gpus", ())
        self._looks += 1
        if not gpus and self._looks >= LOOKS_BEFORE_NO_DATA:  # the driver's process may need some seconds to tell
            raise NoData("no GPU is known here")
        ranks = self._ranks()
        hooked = {pid: job_id for jobs in ranks.values() for pid, job_id in jobs.items()}
        found: list[Sample] = []
        for gpu in gpus:
            labels = (str(gpu["slot"]), str(gpu["uuid"]))
            found.extend(self._of_gpu(labels, ranks.get(labels[0], {}), hooked, gap_s))
        return found

    def _ranks(self) -> dict[str, dict[int, str]]:
        """Return the ranks' processes and jobs by GPU slot; one that cannot be found gets a negative number."""
        found: dict[str, dict[int, str]] = {}
        for index, entry in enumerate(self._place.board.get("ranks", ())):
            pid = rank_pid(self._proc, self._place.board, entry) or -1 - index
            found.setdefault(str(entry["gpu"]), {})[pid] = str(entry["job_id"])
        return found

    def _of_gpu(
        self, labels: tuple[str, str], mine: Mapping[int, str], hooked: Mapping[int, str], gap_s: float
    ) -> Iterator[Sample]:
        """Yield what is known of one GPU with the ranks that say it is theirs."""
        listed = self._place.board.get("gpu-processes", {}).get(labels[1])
        if listed is None and not mine:
            return  # the driver did not tell: unknown is not free
        used = {int(entry[0]): entry[1] for entry in listed or ()}
        owners = {pid: self._owner(pid) for pid in (*used, *mine)}
        yield "skewscope_gpu_allocated", labels, int(bool(owners))
        yield from self._idle(labels, bool(owners), gap_s)
        if not owners:
            return
        # A rank whose process cannot be found counts where the driver sees no job: its ring may name any GPU.
        known = any(owners[pid].source for pid in used)
        first = min(
            owners,
            key=lambda pid: (
                known and pid < 0, pid not in mine, pid not in hooked, not owners[pid].source,
                -(used.get(pid) or 0), pid,
            ),
        )  # fmt: skip
        of = owners[first]
        source, job_id = ("hook", hooked[first]) if first in hooked else (of.source, of.job_id)
        user = self._user(first) if self._shows_user else ""
        yield "skewscope_gpu_job_info", (*labels, job_id, source, user, "", of.pod, of.container), 1
        yield from _memory(labels, used, owners, hooked)
        if source and of.path and listed is not None:
            foreign = sum(self._is_foreign(pid, owners[pid], hooked, of, job_id) for pid in used)
            yield "skewscope_gpu_foreign_processes", labels, foreign

    def _owner(self, pid: int) -> Owner:
        return owner(whole(f"{self._proc}/{pid}/cgroup").decode("utf-8", "replace"))

    def _is_foreign(self, pid: int, its: Owner, hooked: Mapping[int, str], of: Owner, job_id: str) -> bool:
        """Return whether a process is not of a GPU's job, neither by registration nor by control group."""
        if pid in hooked:
            return hooked[pid] != job_id
        if not its.path or _group(its) == _group(of):
            return False  # it ended just now, or it belongs
        return not whole(f"{self._proc}/{pid}/comm", 64).startswith(SERVER)

    def _idle(self, labels: tuple[str, str], allocated: bool, gap_s: float) -> Iterator[Sample]:
        activity = self._place.board.get("gpu-activity", {}).get(labels[1])
        if activity is None:
            return
        idle_s = self._idle_s.get(labels[1], 0.0)
        if allocated and activity < self._idle_ratio:
            idle_s += gap_s
        self._idle_s[labels[1]] = idle_s
        yield "skewscope_gpu_allocated_idle_seconds_total", labels, idle_s

    def _user(self, pid: int) -> str:
        try:
            return str(os.stat(f"{self._proc}/{pid}").st_uid)
        except OSError:
            return ""


def _memory(
    labels: tuple[str, str], used: Mapping[int, int | None], owners: Mapping[int, Owner], hooked: Mapping[int, str]
) -> Iterator[Sample]:
    """Yield the memory of each job; a process whose memory the driver does not tell is left out."""
    summed: dict[str, int] = {}
    for pid, used_bytes in used.items():
        if used_bytes is not None:
            job_id = hooked.get(pid, owners[pid].job_id)
            job_id = job_id if job_id in summed or len(summed) < JOBS else ""
            summed[job_id] = summed.get(job_id, 0) + int(used_bytes)
    for job_id, total_bytes in summed.items():
        yield "skewscope_gpu_job_memory_bytes", (*labels, job_id), total_bytes


def _group(of: Owner) -> Key:
    return (of.source, of.job_id) if of.source else ("path", of.path)


def _ratio(text: str) -> float:
    try:
        return float(text or IDLE_RATIO)
    except ValueError:
        return IDLE_RATIO
