"""A rank's process stands still in the kernel, or the kernel says that a task or a CPU is stuck.

Why it hurts
    A process in uninterruptible sleep runs nothing and cannot even be killed. All other ranks wait for it in the next
    collective until the watchdog ends the job.

How it is seen
    The rank's main thread was in uninterruptible sleep at every look for two minutes; or the kernel log tells of a task
    "blocked for more than" its limit or of a soft lockup, while the ranks of that host make no step any more. A message
    on a host whose job goes on is told as context: it may be about anybody.

Look-alikes
    `ckpt-stall`: ranks of many hosts stand at once, or the log says that a file server does not answer; then the
    storage is the cause and this is context. `coll-hang` and `coll-missing-rank`: the process runs, and waits in a
    collective. A rank that is often in uninterruptible sleep for moments reads or writes a disk.

What to do
    Read the stacks (`/proc/PID/stack`, `dmesg -T`), restart the job without the host, then reboot it. A stack in a
    file system leads to the storage, one in the GPU driver to `gpu-gsp-timeout`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.peers import own_median
from skewscope.signals.persistence import held, lasting
from skewscope.signals.view import Signal, signal

from ._live_groups import BEFORE, Array, groups, judged
from ._live_worlds import Fleet

STUCK, STEPS = "skewscope_rank_uninterruptible", "skewscope_steps_total"
MESSAGES, TASKS = "skewscope_kernel_messages_total", "skewscope_host_hung_tasks_total"
STANDS = ("hung_task", "soft_lockup")
SAYS = re.compile(r"blocked (?:in I/O wait )?for more than \d+ seconds|soft lockup|hard LOCKUP", re.IGNORECASE)
TRAINER = re.compile(r"(?:\btask |\[)(?:python|pt_|torchrun|nccl|ray)", re.IGNORECASE)  # who the line is about
SERVER = re.compile(r"nfs: server \S+ not responding")


@dataclass(frozen=True)
class HostProcessStuck:
    """Thresholds: for how long a process stands, and what counts as a job that makes no steps."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    held_count: int = 4  # windows of 30 s: uninterruptible for 120 s {conditions A1, gpud}
    stuck_ratio: float = 0.9  # of a rank's looks in such a window; 1 is all {D}
    messages_count: float = 0.9  # lines of the kernel log in a window {conditions A1: any}
    progress_ratio: float = 0.05  # of the usual steps: below, the job stands {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank or host that stands still, or for the job."""
        seen: set[str] = set()
        for part in (self._ranks, self._told, self._written):
            found = [one for one in part(tables) if (one.subject.node or one.subject.id) not in seen]
            seen |= {one.subject.node or one.subject.id for one in found}
            yield from found

    def _ranks(self, tables: Frames) -> Iterable[Finding]:
        told = signal(tables, STUCK, take="low")
        mask = lasting(told.values >= self.stuck_ratio, self.held_count, self.held_count)
        server = told.aligned(_messages(tables, ("nfs",)), ("node",))
        for group in groups(told, mask, tables):
            stands_s = float(group.mask.sum()) * told.window_s
            found = judged(
                "host-process-stuck", tables, told, group, cost_ratio=0.0, least="S1",
                evidence=(Evidence("uninterruptible", stands_s, 0.0, self.held_count * told.window_s, "s"),),
                summary=f"the process of {group.name(told)} stands in uninterruptible sleep for {stands_s:.0f} s",
                advice="read its kernel stack, restart the job without this host and reboot it",
            )  # fmt: skip
            storage = group.wide or group.mean(server) >= self.messages_count
            yield replace(found, role="context" if storage else "culprit", advice=_advice(storage, found.advice))

    def _told(self, tables: Frames) -> Iterable[Finding]:
        """Yield findings about hosts whose kernel log tells of stuck tasks."""
        told = _messages(tables, STANDS)
        mask = told.values >= self.messages_count
        if not mask.any():
            return
        stands = self._no_progress(tables, told)
        server = told.aligned(_messages(tables, ("nfs",)), ("node",)) >= self.messages_count
        for group in groups(told, mask, tables):
            first = int(np.flatnonzero(group.mask)[0])
            count = float(np.nansum(told.values[:, list(group.columns)]))
            storage = bool(group.wide or server[:, list(group.columns)].any())
            ends = bool(stands[first:, list(group.columns)].any()) and not storage
            found = judged(
                "host-process-stuck", tables, told, group, cost_ratio=2.0, least="S1" if ends else "S3",
                evidence=(Evidence("kernel_messages", count, 0.0, self.messages_count, "messages"),),
                summary=f"the kernel of {group.name(told)} told {count:.0f} times of a stuck task or CPU"
                + (" and the job makes no steps since" if ends else ""),
                advice="read the log for whose task it is; restart the job without this host and reboot it",
            )  # fmt: skip
            yield replace(found, role="culprit" if ends else "context", advice=_advice(storage, found.advice))

    def _no_progress(self, tables: Frames, hosts: Signal) -> Array:
        """Return [windows, hosts]: where no rank of a host makes steps any more."""
        steps = signal(tables, STEPS, take="increase")
        slow = steps.values < self.progress_ratio * own_median(steps.values, before=BEFORE)[None]
        stands = replace(steps, values=held(slow, self.held_count, self.held_count).astype(float))
        return hosts.aligned(stands, ("node",)) > 0

    def _written(self, tables: Frames) -> Iterable[Finding]:
        """Yield findings from the text of kernel logs, one a host."""
        events = tables["events"]
        lines = events[(events["event"].astype(str) == "kernel").to_numpy()]
        texts = lines["message"].astype(str)
        servers = set(lines.loc[[bool(SERVER.search(text)) for text in texts], "node"].astype(str))
        some = lines[np.array([bool(SAYS.search(text)) for text in texts], dtype=bool)]
        for node, rows in some.groupby("node", observed=True, sort=True):
            yield self._line(str(node), rows, str(node) in servers)

    def _line(self, node: str, rows: Any, storage: bool) -> Finding:  # noqa: ANN401 - rows of a DataFrame
        texts = rows["message"].astype(str).tolist()
        ours = [text for text in texts if TRAINER.search(text)]
        advice = "read the stack below that line; restart the job without this host and reboot it"
        return Finding(
            "host-process-stuck", subjects.node(node), "culprit" if ours and not storage else "context",
            "S1" if ours and not storage else "S3", 0.9 if ours else 0.5,
            Window(int(rows["t_ns"].min()), int(rows["t_ns"].max())), 0.0, 0.0,
            (Evidence("kernel_messages", float(len(texts)), 0.0, self.messages_count, "messages"),),
            f"the kernel of {node} wrote {len(texts)} times of a stuck task or CPU: {(ours or texts)[0][:120]}",
            _advice(storage, advice),
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a rank's process stands, at every look for two minutes."""
        return Rule(
            "SkewscopeHostProcessStuck", f"min_over_time({STUCK}[1m]) >= {self.stuck_ratio:g}", 30 * self.held_count,
            "critical", "rank {{ $labels.rank }} stands still in the kernel",
            "the process of rank {{ $labels.rank }} on {{ $labels.instance }} is in uninterruptible sleep",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the process, the kernel's word, file servers, and the job's progress."""
        age = "skewscope_rank_heartbeat_age_seconds"
        return (
            Check("sleep", "Does a rank's process stand in uninterruptible sleep?", STUCK, "low", ">= 1", STUCK,
                  "it stands; see `server` for the storage", "no process stands; see `kernel`"),
            Check("kernel", "Does the kernel tell of tasks that hang?", TASKS, "increase", ">= 1",
                  f"increase({TASKS}[10m])", "read `dmesg -T` for the task and its stack", "the kernel is content"),
            Check("server", "Does a file server not answer?", MESSAGES, "increase", ">= 1",
                  f'increase({MESSAGES}{{category="nfs"}}[10m])', "the storage is the cause: see `ckpt-stall`",
                  "not the file server: this host", {"category": "nfs"}, ("sleep",)),
            Check("alive", "Does the rank give no sign of life?", age, "high", "> 60", age,
                  "the job stands: restart it without this host", "the rank lives: it may recover",
                  after=("sleep", "kernel")),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: disk waits, a minute and a half, a message in passing, storage, a stuck rank and host."""
        fleet = Fleet()
        yield World("quiet", fleet.put(STUCK, 0.0, devices=fleet.gpus).tables())
        yield World("near-miss", _stuck(3).tables())
        yield World("look-alike-disk", _stuck(10, 0.5).tables())
        yield World("look-alike-late", _stuck(0).late(1, 0.2).tables())
        yield World("stuck", _stuck(6).tables(), frozenset({"n0/gpu1"}))
        message = {"labels": "category=soft_lockup", "nodes": ["n1"]}
        standing = Fleet().put(MESSAGES, 1.0, **message, since=10, until=11).late(5, 1e6)  # type: ignore[arg-type]
        yield World("lockup", standing.tables(), frozenset({"n1"}))
        passing = Fleet().put(MESSAGES, 1.0, **message, since=10, until=11)  # type: ignore[arg-type]
        yield World("in-passing", passing.tables(), frozenset({"n1"}))
        line = "INFO: task python3:4711 blocked for more than 120 seconds."
        yield World("log", Fleet().event("kernel", node="n1", message=line).tables(), frozenset({"n1"}))
        other = Fleet().event("kernel", node="n1", message="python3 (4711): drop_caches: 3")
        yield World("look-alike-log", other.tables())


def _messages(tables: Frames, categories: tuple[str, ...]) -> Signal:
    return signal(tables, MESSAGES, take="increase", category=categories)


def _advice(storage: bool, own: str) -> str:
    return "look at the storage first: see `ckpt-stall`" if storage else own


def _stuck(windows: int, value: float = 1.0) -> Fleet:
    fleet = Fleet()
    fleet.put(STUCK, 0.0, devices=fleet.gpus)
    return fleet.put(STUCK, value, nodes=["n0"], devices=["gpu1"], since=10, until=10 + windows)
