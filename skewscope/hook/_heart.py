"""The thread behind the training: signs of life, forgotten calls, times from the GPU, flight recorder dumps."""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spool import RingWriter, ring_name

if TYPE_CHECKING:
    from ._recorder import Recorder

BEAT_S = 1.0
POLL_S = 0.05  # while times from the GPU are awaited
DUMP_BYTES = 64 << 20
REQUEST = ".dump-request"  # in the spool: touched by the agent when a job hangs
FLIGHT = "flight"


class Heart(threading.Thread):
    """Beats the ring once a second and does what must not cost the training a moment."""

    def __init__(self, recorder: Recorder, ring: RingWriter, spool: Path, rank: int) -> None:
        super().__init__(name="skewscope", daemon=True)
        self._recorder, self._ring = recorder, ring
        self._request = spool / REQUEST
        self._dump = spool / FLIGHT / (ring_name(recorder.job, rank, 0).rsplit("-r", 1)[0] + f"_rank{rank}.json")
        self._asked_ns = self._mtime_ns()
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until the end."""
        beaten_s = time.monotonic()
        while not self._ended.wait(POLL_S if self._recorder.timer and self._recorder.timer.in_use else BEAT_S):
            try:
                if self._recorder.timer is not None:
                    self._recorder.timer.poll()
                if time.monotonic() - beaten_s >= 0.9 * BEAT_S:
                    beaten_s = time.monotonic()
                    self.beat()
            except Exception as error:
                self._recorder.fault(error)

    def stop(self) -> None:
        """End the thread, unless it is the one that asks."""
        self._ended.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=1.0)

    def beat(self) -> None:
        """Show that the process lives, close what nobody waits for, and serve a request for a dump."""
        self._ring.beat()
        self._forget_dropped()
        asked_ns = self._mtime_ns()
        if asked_ns > self._asked_ns:
            self._asked_ns = asked_ns
            self._write_dump()

    def _mtime_ns(self) -> int:
        try:
            return self._request.stat().st_mtime_ns
        except OSError:
            return 0

    def _forget_dropped(self) -> None:
        """Take calls whose work was dropped, or is over though nobody has waited, out of the table of begun calls.

        When they ended is not known, so no record is written; but they must not look like calls that hang.
        """
        recorder = self._recorder
        over: set[tuple[int, int]] = set()
        for reference, calls in recorder.pending.copy().items():
            work = reference()
            if work is None:
                recorder.pending.pop(reference, None)
            if work is None or recorder.is_over(work):
                over.update((call[1], call[4]) for call in (calls if isinstance(calls, list) else (calls,)))
            del work
        recorder.shed()
        for group in [group for group in recorder.groups.copy().values() if group]:
            if (group.index, group.newest_ns) in over:
                group.begin(0, 0, 0, -1)

    def _write_dump(self) -> None:
        content = flight_record(sys.modules.get("torch._C._distributed_c10d"))
        if not content or len(content) > DUMP_BYTES:
            return
        unfinished = self._dump.with_name(f".{self._dump.name}.{os.getpid()}")
        try:
            self._dump.parent.mkdir(exist_ok=True)
            if self._dump.parent.is_symlink():  # in a folder that others may write to, it could lead anywhere
                return
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o640)
                file.write(content)
            unfinished.rename(self._dump)
        except OSError:  # a full disk or a closed folder: the ring goes on, and the next request may succeed
            with suppress(OSError):
                unfinished.unlink()


def flight_record(c10d: Any) -> bytes:
    """Return torch's flight record as JSON: that of NCCL where it has entries, else the one of the other backends."""
    for name in ("_dump_nccl_trace_json", "_dump_fr_trace_json"):
        dump = getattr(c10d, name, None)
        content: bytes = b"" if dump is None else dump()
        if b'"collective_seq_id"' in content or b'"entries":[{' in content:
            return content
    return b""
