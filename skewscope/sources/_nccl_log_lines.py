"""What lines of NCCL's debug log and of PyTorch's NCCL watchdog tell, one at a time.

Line formats are those of NCCL 2.4 to 2.31 (src/debug.cc, enqueue.cc, init.cc, transport/*.cc) and of PyTorch
(ProcessGroupNCCL.cpp).
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime

from ._nccl_log import Comm, Event, Log, Process, Watch
from ._telemetry_file import moment_ns

SIGN = (b" NCCL INFO ", b" NCCL WARN ")
# Numbers of more digits would leave 64 bits: such a line is none of NCCL's. A host begins where a word does, or a long
# word would be looked through from each of its letters.
CALL = re.compile(
    rb"(?<![\w.-])([A-Za-z0-9][\w.-]*+):(\d{1,18}):(\d{1,18}) \[(?:\d+|-)\] NCCL INFO (\w+): "
    rb"opCount ([0-9a-f]{1,15}) sendbuff \S+ recvbuff \S+ "
    rb"count (\d{1,18}) datatype (\d{1,18}) op \d+ root (-?\d{1,18}) comm (?:0x)?([0-9a-f]+) \[nranks=(\d{1,18})\]"
)
HEAD = re.compile(
    rb"(?<![\w.-])([A-Za-z0-9][\w.-]*+):(\d{1,18}):(\d{1,18}) "
    rb"(?:\[(?:\d+|-)\] )?(?:(\S+:\d+) )?(?:\(\w+\) )?NCCL (INFO|WARN) (.*)"
)
COMM = re.compile(
    rb"comm (?:0x)?([0-9a-f]+) rank (\d{1,18}) n[rR]anks (\d{1,18})(?: cudaDev (\d{1,18}))?"
    rb"(?: nvmlDev (\d{1,18}))?(?: busId [0-9a-f]+)?"
    rb"(?: commId 0x([0-9a-f]+))?(?: parent (?:0x)?([0-9a-f]+))?(?: (?:split|child)Count (\d{1,18}))?"
    rb"(?: color (-?\d{1,18}))?"
)
CHANNEL = re.compile(rb"(?:Channel|Ring) [\d/]+ : (\d{1,18})(?:\[[^\]]*\])? -> (\d{1,18})(?:\[[^\]]*\])?"
                     rb"(?: \[(send|receive)\])? via (direct shared memory|\S+(?: pointer)?)")  # fmt: skip
CHOICE = re.compile(rb"^(\w+): (\d{1,18}) Bytes -> Algo (\w+) proto (\w+)")
STAMP = re.compile(rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)([.,]\d+)?(Z|[+-]\d\d:\d\d)?")
TAGS = re.compile(rb"\[(?:rank|\d+,)(\d{1,9})\]|^\s*(\d{1,9}): ")  # of PyTorch, of mpirun, of srun --label
COMPLETION = re.compile(rb"Got completion from peer (\S+) with (?:status=|error )(?:[^(\s]*\()?(\d{1,9})")
ADAPTER = re.compile(rb"\b((?:mlx\d+|bnxt_re|irdma|efa|rdmap|ib|roce)[\w-]*?)(?::(\d+))?\b(?= |$)")
WATCH = re.compile(
    rb"\[E ?(?:(\d{1,2})(\d\d) (\d\d):(\d\d):(\d\d)(\.\d+)? )?ProcessGroupNCCL\.cpp:\d+\] "
    rb"(?:\[[^\]]*?Rank (\d{1,9})\])?"
)
RAN = re.compile(rb"timeout: WorkNCCL\(SeqNum=(\d{1,18}), OpType=(\w+).*?ran for (\d{1,12}) milliseconds")
AT_WORK = re.compile(
    rb"\[PG (?:ID \S+ PG GUID )?(\d+)(?:\(([^)]*)\))? Rank (\d{1,9})\]"
    rb".*?(?:at work|at NCCL work): (\d{1,18}), last enqueued"
)
IB_RETRY, IB_NOT_READY = 12, 13  # IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR
WARNED = (
    (b"port error", "link-down"), (b"port active", "link-up"), (b"async fatal event", "nic-fatal"),
    (b"catastrophic", "nic-fatal"), (b"device fatal", "nic-fatal"), (b"async event", "nic-event"),
    (b"Cuda failure", "nccl-cuda-error"), (b"CUDA failure", "nccl-cuda-error"), (b"imeout", "nccl-timeout"),
    (b"timed out", "nccl-timeout"), (b"onnection", "nccl-connection"), (b"Call to connect", "nccl-connection"),
    (b"socketProgress", "nccl-connection"), (b"ncclSocket", "nccl-connection"),
)  # fmt: skip
LONGEST = 400


class Listener:
    """Takes lines in order and fills a `Log`."""

    def __init__(self) -> None:
        self.log = Log()
        self._handle: dict[tuple[bytes, bytes, bytes], int] = {}  # host, pid, pointer
        self._thread: dict[tuple[bytes, bytes, bytes], int] = {}  # host, pid, tid: the communicator it made last
        self._pending: dict[tuple[bytes, bytes, bytes], list[tuple[int, int, str]]] = {}
        self._made: Counter[tuple[Process, int, int]] = Counter()
        self._op: dict[bytes, int] = {}
        self._last: dict[tuple[bytes, bytes, bytes], int] = {}  # of each thread, the row of its newest call

    def take(self, line: bytes) -> None:
        """Take one line; what is no line of NCCL or its watchdog is left out."""
        if b": opCount " in line and (hit := CALL.search(line)):
            self._call(hit, line)
        elif b"ProcessGroupNCCL" in line:
            self._watchdog(line)
        elif b" NCCL " in line and (hit := HEAD.search(line)):
            self.log.lines += 1
            self._other(hit, line[: hit.start()])

    def finish(self) -> Log:
        """Return the log; communicators that it never names are named by their size and the order of their making."""
        for comm in self.log.comms:
            if not comm.name:
                self._name(comm)
        return self.log

    def _call(self, hit: re.Match[bytes], line: bytes) -> None:
        host, pid, tid, name, number, count, kind, root, pointer, size = hit.groups()
        comm = self._handle.get((host, pid, pointer))
        if comm is None:
            comm = self._unknown(host, pid, pointer, int(size), line[: hit.start()])
        op = self._op.get(name)
        if op is None:
            op = self._op[name] = len(self.log.ops)
            self.log.ops.append(name.decode())
        when = self._time_ns(line[: hit.start()], fine=True) if hit.start() else -1
        self._last[host, pid, tid] = len(self.log.calls)
        self.log.lines += 1
        self.log.calls.extend((comm, op, int(number, 16), int(count), int(kind), int(root), when, -1))

    def _unknown(self, host: bytes, pid: bytes, pointer: bytes, size: int, before: bytes) -> int:
        """Return a communicator whose making the log does not hold: ranks are joined by size and order of use."""
        process = (host.decode(), int(pid))
        found = Comm(process, size=size, tag=_tag(before))
        self._name(found)
        return self._add(host, pid, pointer, found)

    def _add(self, host: bytes, pid: bytes, pointer: bytes, comm: Comm) -> int:
        self._handle[host, pid, pointer] = len(self.log.comms)
        self.log.comms.append(comm)
        return len(self.log.comms) - 1

    def _name(self, comm: Comm) -> None:
        key = (comm.process, comm.device, comm.size)
        self._made[key] += 1
        comm.name = f"{comm.size}-ranks-{self._made[key]}"

    def _other(self, hit: re.Match[bytes], before: bytes) -> None:
        host, pid, tid, _, level, text = hit.groups()
        if level == b"WARN":
            self._warned(host, pid, tid, text.rstrip(), before)
        elif b" via " in text and (link := CHANNEL.search(text)):
            self._link((host, pid, tid), link)
        elif b"comm " in text and (made := COMM.search(text)):
            self._communicator(host, pid, tid, made, text, before)
        elif b"Bytes -> Algo" in text and (choice := CHOICE.match(text)):
            self._choice((host, pid, tid), choice)
        elif b"/RoCE" in text:
            self.log.roce = True

    def _communicator(
        self, host: bytes, pid: bytes, tid: bytes, made: re.Match[bytes], text: bytes, before: bytes
    ) -> None:
        pointer, rank, size, device, _, told, parent, child, color = made.groups()
        at = self._handle.get((host, pid, pointer))
        if b"Destroy" in text or b"Abort" in text:
            if at is not None:
                self._ended(at, text, before)
            if b"COMPLETE" in text:
                self._handle.pop((host, pid, pointer), None)  # another communicator may get the same address
            return
        known = self.log.comms[at] if at is not None else None
        if at is None or known is None or (known.rank, known.size) != (int(rank), int(size)):
            comm = Comm((host.decode(), int(pid)), int(device or -1), rank=int(rank), size=int(size), tag=_tag(before))
            at, known = self._add(host, pid, pointer, comm), comm
        if device:
            known.device = int(device)
        if told:
            known.name = told.decode()
        elif parent and (mother := self._handle.get((host, pid, parent))) is not None:
            known.name = f"{self.log.comms[mother].name}/{(child or b'0').decode()}.{(color or b'0').decode()}"
        elif not known.name and b"COMPLETE" in text:
            self._name(known)
        self._thread[host, pid, tid] = at
        for src, dst, way in self._pending.pop((host, pid, tid), ()):
            self.log.links[at, src, dst, way] += 1

    def _ended(self, at: int, text: bytes, before: bytes) -> None:
        comm = self.log.comms[at]
        comm.ended = comm.ended or b"Destroy COMPLETE" in text
        if b"Abort" in text:
            self._event(Event(comm.process[0], "nccl-abort", f"communicator {comm.name or '?'} was aborted",
                              self._time_ns(before), comm=at))  # fmt: skip

    def _link(self, thread: tuple[bytes, bytes, bytes], link: re.Match[bytes]) -> None:
        src, dst, way, via = link.groups()
        if way == b"receive":
            return  # the sender tells it too
        row = int(src), int(dst), via.decode("utf-8", "replace")
        at = self._thread.get(thread)
        if at is None or self.log.comms[at].ended:
            self._pending.setdefault(thread, []).append(row)
        else:
            self.log.links[(at, *row)] += 1

    def _choice(self, thread: tuple[bytes, bytes, bytes], choice: re.Match[bytes]) -> None:
        row = self._last.get(thread, -1)
        if row < 0 or self.log.ops[self.log.calls[row + 1]].encode() != choice[1]:
            return
        pair = (choice[3].decode().lower(), choice[4].decode().lower())
        if pair not in self.log.choices:
            self.log.choices.append(pair)
        self.log.calls[row + 7] = self.log.choices.index(pair)

    def _warned(self, host: bytes, pid: bytes, tid: bytes, text: bytes, before: bytes) -> None:
        event, code, device = "nccl-warning", -1, ""
        if done := COMPLETION.search(text):
            code = int(done[2])
            event = {IB_RETRY: "rdma-retry-exhausted", IB_NOT_READY: "rdma-not-ready"}.get(code, "rdma-error")
        else:
            event = next((name for word, name in WARNED if word in text), event)
        if event.startswith(("rdma", "nic", "link")) and (adapter := ADAPTER.search(text)):
            port = adapter[2]
            device = adapter[1].decode() + (f"/{port.decode()}" if port not in (None, b"1") else "")
        message = text.decode("utf-8", "replace")[:LONGEST]
        at = self._thread.get((host, pid, tid), -1)
        if at < 0:
            mine = (number for number, comm in enumerate(self.log.comms) if comm.process == (host.decode(), int(pid)))
            at = next(mine, -1)
        self._event(Event(host.decode(), event, message, self._time_ns(before), device, code, at))

    def _event(self, event: Event) -> None:
        """Add an event; what is repeated is counted, except that a port's newest word must stand last."""
        key = (event.node, event.event, event.device or str(event.comm), event.code)
        known = self.log.events.pop(key, None) if event.event.startswith("link") else self.log.events.get(key)
        if known is not None:
            event.count += known.count
            if not event.event.startswith("link"):
                known.count += 1
                return
        self.log.events[key] = event

    def _watchdog(self, line: bytes) -> None:
        head = WATCH.search(line)
        if head is None:
            return
        tag = _tag(line)
        rank = tag if tag >= 0 else int(head[7]) if head[7] else -1
        ran, work = RAN.search(line), AT_WORK.search(line)
        if rank < 0 or not (ran or work):
            return
        self.log.lines += 1
        number = int(ran[1] if ran else work[4] if work else b"-1")
        watch = self.log.watches.setdefault((rank, number), Watch(rank, seq=number, moment=_moment(head)))
        if ran and not watch.op:
            watch.op, watch.ran_ms, watch.moment = ran[2].decode(), int(ran[3]), _moment(head)
        if work and not watch.group:
            watch.group, watch.description = work[1].decode(), (work[2] or b"").decode()

    def _time_ns(self, before: bytes, *, fine: bool = False) -> int:
        """Return the time before a line, -1 for none; where a `fine` one is wanted, also for one of whole seconds."""
        stamp = STAMP.search(before)
        if stamp is None:
            return -1
        if fine and (stamp[2] is None or len(stamp[2]) < 4):
            self.log.coarse = True
            return -1
        self.log.zoned = self.log.zoned and stamp[3] is not None
        return moment_ns(stamp[0].decode())


def _tag(before: bytes) -> int:
    """Return the rank that a launcher wrote at the beginning of a line, -1 for none.

    >>> _tag(b"[rank3]:[E1206"), _tag(b"[1,12]<stdout>:"), _tag(b" 7: n1"), _tag(b"n1:1")
    (3, 12, 7, -1)
    """
    hit = TAGS.search(before[:80])
    return int(hit[1] or hit[2]) if hit else -1


def _moment(head: re.Match[bytes]) -> datetime | None:
    month, day, hour, minute, second, part = head.groups()[:6]
    if month is None:
        return None
    try:
        return datetime(2000, int(month), int(day), int(hour), int(minute), int(second),
                        int((part or b".0")[1:7].ljust(6, b"0")), UTC)  # fmt: skip
    except ValueError:
        return None
