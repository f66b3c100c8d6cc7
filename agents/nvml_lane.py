"""The lane of the driver's process: starts it, asks it, kills it when a call does not return, starts it again.

After a hang on one GPU the next process leaves that GPU out, so that the others are seen; it is tried again later.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import skewscope
from skewscope.contracts import Place

from .crew import FAILED, HUNG, Outcome
from .exposition import MOST_SERIES, Block
from .lanes import Busy
from .nvml_worker import CALLING, CALLING_FD, frames

LONGEST_WAIT_S = 60.0  # between two starts
RETRY_GPU_S = 60.0  # a GPU that hung is left out so long, doubled at each hang
LONGEST_RETRY_GPU_S = 3600.0
CHUNK = 1 << 18
MOST_DOUBLINGS = 10
FORGIVEN_S = 3600.0  # a GPU that has answered for so long may hang as if for the first time
PASSING = ("gpu-processes", "gpu-activity")  # what of the board is no longer true once the process is gone
HANDED_ON = ("gpus", "gpu-events")  # what the next process must know: slots must not move, nor counts begin anew
# Without `site` the process is 2 MiB smaller; its way to this package is told instead. As much again are ctypes.util,
# which pynvml names but never calls on Linux, and inspect, which dataclasses import for classes without a docstring.
START = """
import json, sys, types
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
sys.modules["ctypes.util"] = types.ModuleType("ctypes.util")
sys.modules["ctypes.util"].find_library = lambda name: None
class Later(types.ModuleType):
    def __getattr__(self, name):
        if sys.modules["inspect"] is self:
            del sys.modules["inspect"]
        import inspect
        return getattr(inspect, name)
sys.modules["inspect"] = Later("inspect")
import skewscope
skewscope.__path__.append(given["wings"])
from skewscope.agents.nvml_worker import main
main(given)
"""

log = logging.getLogger("skewscope.agent")


class NvmlLane:
    """One process with the NVML collectors. Raises nothing: what fails becomes an outcome."""

    def __init__(
        self, place: Place, *, environ: Mapping[str, str] | None = None, most_series: int = MOST_SERIES
    ) -> None:  # fmt: skip
        self._place = place
        self._most_series = most_series
        self._environ = dict(os.environ if environ is None else environ)
        self._pid = 0
        self._orphans: list[int] = []
        self._input = self.output = -1
        self._buffer = bytearray()
        self._former: dict[str, Block] = {}
        self._outcomes: list[Outcome] = []
        self._turn: list[str] = []
        self._asked = False  # a turn goes on until its end is told, which comes after its last outcome
        self._since_s = 0.0
        self._failures = 0
        self._may_start_s = 0.0
        self.restarts = -1
        self.hang = ""  # what the last process was killed for, until the next one has done a turn
        self._strikes: dict[int, tuple[int, float]] = {}  # slot -> hangs, left out until (monotonic s)
        self._memory_fd = os.memfd_create("skewscope-calling", os.MFD_CLOEXEC)
        os.ftruncate(self._memory_fd, mmap.PAGESIZE)
        self._memory = mmap.mmap(self._memory_fd, mmap.PAGESIZE)

    @property
    def pid(self) -> int:
        """The process, 0 where none runs."""
        return self._pid

    def start(self, due: Iterable[str]) -> bool:
        """Ask for a turn, starting the process if it is not there and may be started."""
        self._reap()
        if self._asked or not (self._pid or self._spawn()):
            return False
        now_s, turn = time.monotonic(), list(due)
        without = [slot for slot, (_, until_s) in self._strikes.items() if now_s < until_s]
        request = json.dumps({"due": turn, "without": without}).encode() + b"\n"
        self._turn, self._since_s, self._asked = turn, now_s, True
        try:
            os.write(self._input, request)
        except OSError as error:
            self._ended(f"the NVML process does not read: {error.strerror}")
            return False
        return True

    def busy(self) -> Busy | None:
        """Return the running collector, and the call and GPU it is in."""
        if not self._asked:
            return None
        slot, call = self.calling()
        since_s = max(self._since_s, self._call_start_s())
        return Busy(self._turn[0] if self._turn else "", since_s, f"{call} on GPU {slot}" if slot >= 0 else call)

    def calling(self) -> tuple[int, str]:
        """Return (slot, call) of the driver call that is running; slot -1 where it is of no GPU."""
        _, slot, call = CALLING.unpack_from(self._memory)
        return slot, call.split(b"\0", 1)[0].decode("ascii", "replace")

    def unreachable(self, patience_s: float) -> list[int]:
        """Return the slots that are left out after a hang, and the one whose call is running for longer than so."""
        now_s = time.monotonic()
        slots = {slot for slot, (_, until_s) in self._strikes.items() if now_s < until_s}
        busy, (slot, _) = self.busy(), self.calling()
        if busy and slot >= 0 and now_s - busy.since_s > patience_s:
            slots.add(slot)
        return sorted(slots)

    def _call_start_s(self) -> float:
        return float(CALLING.unpack_from(self._memory)[0]) / 1e9

    def read(self) -> None:
        """Take in what the process wrote; call it when `output` is readable."""
        try:
            some = os.read(self.output, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            return self._ended(f"cannot read from the NVML process: {error.strerror}")
        if not some:
            return self._ended("the NVML process ended")
        self._buffer += some
        try:
            for answer in frames(self._buffer, self._former):
                self._take(answer)
        except (ValueError, KeyError, TypeError) as error:
            self._kill()
            self._ended(f"the NVML process answered nonsense: {error}")

    def _take(self, answer: tuple[Outcome, dict[str, Any]] | None) -> None:
        self._since_s = time.monotonic()
        if answer is None:
            self._turn.clear()
            self._asked, self._failures, self.hang = False, 0, ""
            if self._place.board.pop("nvml-restart", None):  # a new driver wants a process that loads its library
                self._kill()
                self._close()
            return
        outcome, board = answer
        self._place.board.update(board)
        if self._turn and self._turn[0] == outcome.collector:
            self._turn.pop(0)
        self._outcomes.append(outcome)

    def outcomes(self) -> list[Outcome]:
        """Return what came since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken

    def hurry(self, now_s: float, patience_s: float, deadline_s: float) -> list[str]:
        """Kill the process if it hangs; the GPU it hangs on is left out for a while."""
        busy = self.busy()
        if busy is None or now_s - busy.since_s <= deadline_s:
            return []
        slot, call = self.calling()
        if slot >= 0:
            self._strike(slot, now_s)
        running, left = self._turn[:1], self._turn[1:]
        where = f"{call or 'a driver call'}{f' on GPU {slot}' if slot >= 0 else ''} does not return"
        self.hang = where
        log.warning("NVML hangs: %s; its process %d is killed and started again", where, self._pid)
        self._outcomes += [Outcome(name, HUNG, now_s - self._since_s, where) for name in running]
        self._kill()
        self._close()
        self._wait_before_start(first_s=0.0 if slot >= 0 else 1.0)
        return left

    def _strike(self, slot: int, now_s: float) -> None:
        hangs, until_s = self._strikes.get(slot, (0, now_s))
        hangs = 1 if now_s - until_s > FORGIVEN_S else hangs + 1
        self._strikes[slot] = (hangs, now_s + min(RETRY_GPU_S * 2 ** (hangs - 1), LONGEST_RETRY_GPU_S))

    def take_over(self, former: NvmlLane) -> None:
        """Go on where another lane stopped: with its count of restarts, and without the GPUs that hung there."""
        self._strikes, self.restarts = dict(former._strikes), former.restarts

    def stop(self) -> None:
        """End the process: first by the end of its input, then by force."""
        pid = self._pid
        self._close()
        if pid:
            self._orphans.append(pid)
        deadline_s = time.monotonic() + 0.5
        while self._orphans and time.monotonic() < deadline_s:
            self._reap()
            time.sleep(0.005)
        for orphan in self._orphans:
            _signal(orphan)
        self._reap()
        self._memory.close()
        os.close(self._memory_fd)

    def _spawn(self) -> bool:
        if time.monotonic() < self._may_start_s:
            return False
        given = {
            "path": [_above(skewscope.__file__), *sys.path], "wings": _above(__file__),
            "proc": str(self._place.proc), "sys": str(self._place.sys), "dev": str(self._place.dev),
            "spool": str(self._place.spool), "options": dict(self._place.options),
            "board": {name: self._place.board[name] for name in HANDED_ON if name in self._place.board},
            "most_series": self._most_series,
        }  # fmt: skip
        asked, self._input = os.pipe()
        self.output, told = os.pipe()
        words = [sys.executable, "-I", "-S", "-c", START, json.dumps(given)]
        moves = [
            (os.POSIX_SPAWN_DUP2, asked, 0), (os.POSIX_SPAWN_DUP2, told, 1),
            (os.POSIX_SPAWN_DUP2, self._memory_fd, CALLING_FD),
        ]  # fmt: skip
        try:
            self._pid = os.posix_spawn(sys.executable, words, self._environ, file_actions=moves, setpgroup=0)
        except OSError as error:
            log.warning("cannot start the NVML process: %s", error)
            self._wait_before_start(first_s=1.0)
            self._close()
        finally:
            os.close(asked)
            os.close(told)
        if not self._pid:
            return False
        self.restarts += 1
        os.set_blocking(self.output, False)
        CALLING.pack_into(self._memory, 0, 0, -1, b"")
        return True

    def _ended(self, reason: str) -> None:
        """Note that the process is gone in the middle of what it was doing."""
        slot, call = self.calling()
        where = f"{reason}{f' in {call}' if call else ''}{f' on GPU {slot}' if slot >= 0 else ''}"
        log.warning("%s", where)
        self._outcomes += [Outcome(name, FAILED, 0.0, where) for name in self._turn]
        self._kill()
        self._close()
        self._wait_before_start(first_s=1.0)

    def _wait_before_start(self, first_s: float) -> None:
        wait_s = min(max(first_s, 0.0) * 2**self._failures, LONGEST_WAIT_S)
        self._failures = min(self._failures + 1, MOST_DOUBLINGS)
        self._may_start_s = time.monotonic() + wait_s

    def _kill(self) -> None:
        if self._pid:
            _signal(self._pid)
            self._orphans.append(self._pid)
            self._pid = 0

    def _close(self) -> None:
        for descriptor in (self._input, self.output):
            if descriptor >= 0:
                os.close(descriptor)
        self._input = self.output = -1
        self._pid = 0
        self._buffer.clear()
        self._former.clear()
        self._turn, self._asked = [], False
        for told in PASSING:
            self._place.board.pop(told, None)

    def _reap(self) -> None:
        """Collect ended processes; one in an uninterruptible call stays until the driver lets it go."""
        for pid in list(self._orphans):
            try:
                ended = os.waitpid(pid, os.WNOHANG)[0]
            except ChildProcessError:
                ended = pid
            if ended:
                self._orphans.remove(pid)


def _above(file: str) -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(file)))


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
