"""Runs one parser on many inputs: what it may answer, how long, how much memory, and which lines of it were reached."""

from __future__ import annotations

import gc
import hashlib
import mmap
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from _mutate import Mutator, unpacked
from _parsers import Parser, Seed

import skewscope
from skewscope import agents
from skewscope.errors import SkewscopeError

LONGEST_S = 2.0  # processor time of one input
KILLED_S = 20.0  # where not even an exception ends it, the process does
ROOM_BYTES = 3 << 30  # address space beyond what the process has
MEASURED_EVERY = 10_000  # executions
MOST_GROWTH_BYTES = 128 << 20
MOST_KEPT = 400
LONG_BYTES = 4000  # longer inputs than this and the seeds are not kept: all that come of them would be slow
EARLY = 20_000  # executions, after which new lines are rare and looked for more rarely
RARER = 16
SHRINKS = 400
NOTED_BYTES = 1 << 20  # of the input at hand
OURS = tuple(f"{place}/" for package in (skewscope, agents) for place in package.__path__)


Run = Callable[[str, bytes], object]  # with the name of a file and what it holds


class TooLong(BaseException):
    """An input took more than `LONGEST_S`; no parser can catch it as an error."""


@dataclass
class Fault:
    """An input that a parser must not answer as it did; `key` is the same for the same mistake."""

    key: str
    data: bytes
    name: str
    told: str


@dataclass
class Result:
    """What came of running one parser."""

    parser: str
    executions: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0  # processor time
    kept: int = 0
    reached: int = 0
    slowest_s: float = 0.0
    growth_bytes: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)


def fuzz(
    parser: Parser,
    executions: int,
    seed: int = 0,
    *,
    seconds: float = float("inf"),
    traced_every: int = 8,
    shrunk: bool = True,
    last: Path | None = None,
    busy_s: float = float("inf"),
) -> Result:
    """Return what comes of `executions` inputs, or as many as `seconds` of wall time and `busy_s` of
    processor time allow.

    Every `traced_every`-th input is watched, later every sixteenth of these, 0 watches none: one that reaches new lines
    is mutated further. `last` is a file for the input at hand, for a process that may die of it.
    """
    chance = random.Random(f"{seed} {parser.name}")
    seeds = parser.seeds()
    corpus = parser.small() or list(seeds)
    mutator = Mutator([data for _, data in (*seeds, *corpus)], chance)
    largest_bytes = max([LONG_BYTES, *(len(data) for _, data in corpus)])
    result = Result(parser.name)
    lines = Lines()
    noted = Last(last) if last else None
    first_bytes = 0
    with guarded():
        begun, busy = time.monotonic(), time.process_time()
        for number in range(executions):
            whole = number < len(seeds)
            name, data = seeds[number] if whole else _chosen(chance, corpus)
            data = data if whole else mutator.mutate(data, chance.choice(corpus)[1])
            if noted:
                noted.take(data)
            every = traced_every if number < EARLY else traced_every * RARER
            watch = every > 0 and number % every == 0
            result.executions += 1
            fault, took_s = attempt(_run_of(parser, number, whole=whole), name, data, lines if watch else None)
            if watch and lines.fresh:
                lines.fresh = False
                if not whole and len(corpus) < MOST_KEPT and len(data) <= largest_bytes:
                    corpus.append((name, data))
                    result.kept += 1
            if not watch:
                result.slowest_s = max(result.slowest_s, took_s)
            if fault and fault.key not in result.faults:
                result.faults[fault.key] = shrink(parser, fault) if shrunk else fault
            if number % MEASURED_EVERY == MEASURED_EVERY // 5:
                gc.collect()
                first_bytes = first_bytes or resident_bytes()
                result.growth_bytes = resident_bytes() - first_bytes
            if time.monotonic() - begun >= seconds or time.process_time() - busy >= busy_s:
                break
        result.seconds, result.busy_s = time.monotonic() - begun, time.process_time() - busy
    result.reached = len(lines.seen)
    if result.growth_bytes > MOST_GROWTH_BYTES:
        result.faults["growth"] = Fault("growth", b"", "", f"memory grew by {result.growth_bytes >> 20} MiB")
    return result


def _run_of(parser: Parser, number: int, *, whole: bool) -> Run:
    return parser.often if parser.often and not whole and number % 4 else parser.run


def _chosen(chance: random.Random, corpus: list[Seed]) -> Seed:
    """Return an input of the corpus: what was kept last is half of the time preferred."""
    return chance.choice(corpus[-32:] if chance.random() < 0.5 else corpus)


def attempt(run: Run, name: str, data: bytes, lines: Lines | None = None) -> tuple[Fault | None, float]:
    """Return the fault that `run` makes of an input, None for none, and the processor time in seconds."""
    fault = None
    begun = time.process_time()
    try:
        with limited_time(LONGEST_S if lines is None else 30 * LONGEST_S), lines or _untraced():
            run(name, data)
    except SkewscopeError:
        pass
    except TooLong as error:
        fault = _fault(error, name, data)
    except Exception as error:  # noqa: BLE001 - what may come is what is asked
        fault = _fault(error, name, data)
    return fault, time.process_time() - begun


@contextmanager
def _untraced() -> Iterator[None]:
    yield


def _fault(error: BaseException, name: str, data: bytes) -> Fault:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(OURS)]
    place = f"{Path(ours[-1].filename).stem}-{ours[-1].lineno}" if ours else "outside"
    told = "".join(traceback.format_exception(error))
    # A time limit strikes at any line, so the first line of ours stands for it.
    if isinstance(error, TooLong):
        place = Path(ours[-1].filename).stem if ours else "outside"
    return Fault(f"{type(error).__name__}-{place}", data, name, told[-6000:])


def shrink(parser: Parser, fault: Fault) -> Fault:
    """Return the fault with a smaller input that makes the same one."""
    best = fault
    plain = unpacked(fault.data)
    tries = iter(range(SHRINKS if not fault.key.startswith("TooLong") else 12))

    def same(data: bytes) -> bool:
        nonlocal best
        found, _ = attempt(parser.run, fault.name, data)
        if found and found.key == fault.key:
            best = found
            return True
        return False

    if plain != fault.data:
        same(plain)
    size = max(1, len(best.data) // 2)
    while size and next(tries, None) is not None:
        at = 0
        while at < len(best.data) and next(tries, None) is not None:
            at += 0 if same(best.data[:at] + best.data[at + size :]) else size
        size //= 2
    return best


class Lines:
    """Watches which lines of the project are reached, and from which; `fresh` says that some were new."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.fresh = False

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, given: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(OURS):
            return None
        last = 0
        seen = self.seen

        def line(frame: FrameType, event: str, given: Any) -> Any:
            nonlocal last
            if event == "line":
                way = (name, last, frame.f_lineno)
                last = frame.f_lineno
                if way not in seen:
                    seen.add(way)
                    self.fresh = True
            return line

        return line


class Last:
    """The input at hand, in a file that outlives the process: its length in eight bytes, then itself."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8 + NOTED_BYTES))
        with path.open("r+b") as file:
            self._place = mmap.mmap(file.fileno(), 0)  # writing to it asks nothing of the system

    def take(self, data: bytes) -> None:
        """Note an input."""
        data = data[:NOTED_BYTES]
        self._place[: 8 + len(data)] = len(data).to_bytes(8, "little") + data

    @staticmethod
    def unwrap(path: Path) -> None:
        """Leave the input alone in the file."""
        noted = path.read_bytes()
        path.write_bytes(noted[8 : 8 + int.from_bytes(noted[:8], "little")])


@contextmanager
def limited_time(limit_s: float) -> Iterator[None]:
    """Raise TooLong after `limit_s` of processor time; end the process where even that does not help."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s + KILLED_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextmanager
def guarded() -> Iterator[None]:
    """Limit the address space, turn the alarm into TooLong, and keep warnings quiet; all is as before afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space_bytes() + ROOM_BYTES
    before = signal.signal(signal.SIGPROF, _ring)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooLong


def address_space_bytes() -> int:
    """Return the size of the process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def resident_bytes() -> int:
    """Return the memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def keep(folder: Path, fault: Fault, parser: str) -> Path:
    """Write the input of a fault and what was told; return the input's path."""
    place = folder / parser
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{fault.key}-{hashlib.sha256(fault.data).hexdigest()[:8]}--{fault.name}"
    path.write_bytes(fault.data)
    path.with_name(path.name + ".told").write_text(fault.told)
    return path
