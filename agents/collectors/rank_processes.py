"""What the host does to the processes of ranks: waiting for a CPU, quotas, distance from the GPU, standing still.

Ranks are those that registered themselves through their spools; a process that was given a rank's number after it is
not taken for it. Names in the option `watch.names` are watched too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample

from ._cgroup import throttled, throttled_s
from ._proc import FLAGS, TICKS_PER_S, Kept, members, number, stat_fields, whole
from ._proc_find import rank_pid
from ._proc_threads import RunDelay
from ._proc_watch import Watch

RANKS = 64
RANKS_AT_ONCE, MOST_TURNS = 4, 4
COLD_THREADS = 16  # readings a look of threads that wait little, over all ranks
OPEN_THREADS = 256  # descriptors for threads, over all ranks
STATUS_EVERY_S = 4.5
FIND_EVERY_S = 4.5
MEMORY = (
    (b"\nVmRSS:", "skewscope_rank_resident_memory_bytes"), (b"\nVmLck:", "skewscope_rank_locked_memory_bytes"),
    (b"\nVmPin:", "skewscope_rank_pinned_memory_bytes"),
)  # fmt: skip
SWITCHES = (b"\nvoluntary_ctxt_switches:", b"\nnonvoluntary_ctxt_switches:")

Entry = Mapping[str, Any]
Labels = tuple[str, str, str]  # job, rank, GPU
Who = tuple[int, int]  # the number of a process as it says itself, and when it registered itself (ns)


class RankProcesses:
    """Reads <proc>/PID/stat, status, task/*/schedstat and the CPU quotas of the ranks' control groups."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_rank_run_delay_seconds_total", "skewscope_rank_cpu_seconds_total",
        "skewscope_rank_cpu_throttled_seconds_total", "skewscope_rank_context_switches_total",
        "skewscope_rank_major_faults_total", "skewscope_rank_threads", "skewscope_rank_numa_local",
        *(name for _, name in MEMORY), "skewscope_rank_uninterruptible", "skewscope_watched_processes",
        "skewscope_watched_uninterruptible",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._ranks: dict[Labels, Rank] = {}
        self._find_due_s: dict[tuple[Labels, Who], float] = {}  # when to look again for who was not found
        self._looks = 0
        self._watch = Watch(str(place.proc), place.options.get("watch.names", ""))

    def collect(self) -> Iterable[Sample]:
        """Return what is known of ranks that run here and of watched names; nothing while there are none.

        Of many ranks a part is looked at each time, in turns, the others are told as they were at their last turn.
        """
        now_s, gpus = self._place.clock_s(), self._place.board.get("gpus", ())
        entries = _entries(self._place.board.get("ranks", ()))
        for gone in self._ranks.keys() - entries.keys():
            self._ranks.pop(gone).close()
        turns = min(MOST_TURNS, -(-len(entries) // RANKS_AT_ONCE)) or 1
        self._looks += 1
        at_once = -(-len(entries) // turns) or 1
        budget = (max(1, COLD_THREADS // at_once), OPEN_THREADS // (len(entries) or 1))
        found: list[Sample] = []
        for index, (labels, entry) in enumerate(entries.items()):
            rank = self._rank(labels, entry, now_s)
            if rank is None:
                continue
            if (rank.samples and (index + self._looks) % turns) or rank.look(now_s, gpus, budget):
                found += rank.samples
            else:
                self._ranks.pop(labels).close()
                self._find_due_s[labels, rank.who] = now_s + FIND_EVERY_S
        found.extend(self._watch.samples(now_s))
        return found

    def _rank(self, labels: Labels, entry: Entry, now_s: float) -> Rank | None:
        rank = self._ranks.get(labels)
        who = (int(entry["pid"]), int(entry.get("start_ns") or 0))
        if rank and rank.who == who:
            return rank
        if rank:  # the rank was started again
            self._ranks.pop(labels).close()
        if now_s < self._find_due_s.get((labels, who), now_s):
            return None
        self._find_due_s = {key: due_s for key, due_s in self._find_due_s.items() if due_s > now_s}
        rank = self._find(labels, entry, who)
        if rank is None:
            self._find_due_s[labels, who] = now_s + FIND_EVERY_S
        else:
            self._ranks[labels] = rank
        return rank

    def _find(self, labels: Labels, entry: Entry, who: Who) -> Rank | None:
        pid = rank_pid(str(self._place.proc), self._place.board, entry)
        folder = f"{self._place.proc}/{pid}"
        if not pid:
            return None
        try:
            rank = Rank(folder, pid, labels, who)
        except OSError:
            return None
        cgroup = whole(f"{folder}/cgroup").decode("utf-8", "replace")
        rank.quotas = throttled(cgroup, f"{self._place.sys}/fs/cgroup")
        rank.status_wait_s = STATUS_EVERY_S * (1 + len(self._ranks) % 4) / 4  # not all ranks at one look
        return rank


class Rank:
    """One process; its `stat` is kept open, and an open one never turns into another process."""

    def __init__(self, folder: str, pid: int, labels: Labels, who: Who) -> None:
        self.who = who
        self.quotas: list[Kept] = []
        self.status_wait_s = STATUS_EVERY_S  # from the first reading of status to the second
        self._labels = labels
        self._kinds = ((*labels, "voluntary"), (*labels, "involuntary"))
        self._delay = RunDelay(f"{folder}/task", pid)
        self._status_file = Kept(f"{folder}/status")
        self._status_due_s = float("-inf")
        self._known: list[Sample] = []  # what status told
        self.samples: list[Sample] = []
        self._allowed: tuple[bytes, frozenset[int]] = (b"", frozenset())
        self._began = b""
        self._was_asleep = False
        self._stat = os.open(f"{folder}/stat", FLAGS)

    def look(self, now_s: float, gpus: Iterable[Entry], budget: tuple[int, int]) -> bool:
        """Renew `samples`; return False where the process is gone.

        `budget` bounds the threads that are read in turns and those that are kept open.
        """
        try:
            fields = stat_fields(os.pread(self._stat, 1024, 0))
            if not fields or fields[0] in b"ZX" or self._began not in (b"", fields[19]):
                return False
            faults, threads = int(fields[9]), int(fields[17])
            cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
        except (OSError, ValueError):
            return False
        self._began = fields[19]
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + self.status_wait_s
            self.status_wait_s = STATUS_EVERY_S
            self._known = list(self._status(gpus))
        labels, asleep = self._labels, fields[0] == b"D"
        self.samples = [
            ("skewscope_rank_cpu_seconds_total", labels, cpu_s),
            ("skewscope_rank_major_faults_total", labels, faults),
            ("skewscope_rank_threads", labels, threads),
            ("skewscope_rank_uninterruptible", labels, int(asleep and self._was_asleep)),
            *self._known,
        ]
        delay_ns = self._delay.look(*budget)
        if delay_ns is not None:
            self.samples.append(("skewscope_rank_run_delay_seconds_total", labels, delay_ns / 1e9))
        self._was_asleep = asleep
        return True

    def close(self) -> None:
        """Let go of the process."""
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1
        self._delay.close()
        self._status_file.close()
        self.quotas.clear()

    def __del__(self) -> None:
        if hasattr(self, "_stat"):
            self.close()

    def _status(self, gpus: Iterable[Entry]) -> Iterator[Sample]:
        raw = self._status_file.read()
        for name, metric in MEMORY:
            kib = _after(raw, name)
            if kib is not None:
                yield metric, self._labels, kib * 1024
        for name, labels in zip(SWITCHES, self._kinds, strict=True):
            count = _after(raw, name)
            if count is not None:
                yield "skewscope_rank_context_switches_total", labels, count
        share = self._near_share(raw, gpus)
        if share is not None:
            yield "skewscope_rank_numa_local", self._labels, share
        seconds = throttled_s(self.quotas)
        if seconds is not None:
            yield "skewscope_rank_cpu_throttled_seconds_total", self._labels, seconds

    def _near_share(self, raw: bytes, gpus: Iterable[Entry]) -> float | None:
        """Return the share of the allowed CPUs that are near the rank's GPU, None where either is unknown."""
        near = next((gpu.get("cpus") for gpu in gpus if str(gpu.get("slot")) == self._labels[2]), None)
        at = raw.find(b"\nCpus_allowed_list:")
        text = raw[at + 19 : raw.find(b"\n", at + 1)] if at >= 0 else b""
        if text != self._allowed[0]:
            self._allowed = (text, members(text.decode("ascii", "replace")))
        allowed = self._allowed[1]
        return len(allowed.intersection(near)) / len(allowed) if near and allowed else None


def _after(raw: bytes, name: bytes) -> int | None:
    """Return the first number of the line that begins with `name`."""
    at = raw.find(name)
    words = raw[at + len(name) : at + len(name) + 32].split(None, 1) if at >= 0 else []
    return number(words[0]) if words else None


def _entries(ranks: Iterable[Entry]) -> dict[Labels, Entry]:
    """Return the newest entry of each rank, at most 64."""
    found: dict[Labels, Entry] = {}
    for entry in ranks:
        labels = (str(entry["job_id"]), str(entry["rank"]), str(entry["gpu"]))
        older = found.get(labels)
        if older is None and len(found) >= RANKS:
            continue
        if older is None or (entry.get("start_ns") or 0) >= (older.get("start_ns") or 0):
            found[labels] = entry
    return found
