"""The agent of one node: asks collectors on its own clock, keeps their samples, serves pages, survives what hangs."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from skewscope.catalogue import Room
from skewscope.errors import SkewscopeError
from skewscope.memory import give_back
from skewscope.web.server import Server

from . import self_metrics
from .crew import Outcome, collectors, process_of
from .exposition import Block
from .lanes import Lane, ThreadLane
from .limits import raise_descriptor_limit, stay_small
from .nvml_lane import PASSING, NvmlLane
from .pages import Pages
from .schedule import Watched
from .self_metrics import EXPORTS as EXPORTS
from .settings import Settings

RENDER_SHARE = 0.4  # of the interval: what is not there by then comes on the next page
PATIENCE = 0.9  # of the interval: a driver call that takes longer is said to hang
LOOP_STANDS_S = 30.0
TIDY_AFTER_S = 3.0  # by then all is imported
TIDY_EVERY_S = 300.0  # a job of many processes that has ended leaves free memory
SWITCH_S = 0.0005  # so that a scrape does not wait for a collector that computes

log = logging.getLogger("skewscope.agent")


class Node:
    """Runs until told to stop. `reload` returns new settings at SIGHUP; it may raise a SkewscopeError."""

    def __init__(self, settings: Settings, reload: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self._reload = reload or (lambda: settings)
        self._own = self_metrics.Own()
        self.pages = Pages(self.not_ready, self.alive)
        self._server: Server | None = None
        self._wake_in, self._wake_out = os.pipe()
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._poll = select.poll()
        self._poll.register(self._wake_in, select.POLLIN)
        self._polled = -1  # the output of the driver's process that is among the polled ones
        self._stopping = self._reloading = False
        self._stale = 0
        self._looped_s = time.monotonic()
        self._lanes: dict[str, Lane] = {}
        self._nvml: NvmlLane | None = None
        self._place = self.settings.place()
        self._set_up()

    def _set_up(self) -> None:
        """Make what the settings ask for; what collectors know of each other and of GPUs that hang is kept."""
        raise_descriptor_limit()
        rooms = collectors(self.settings.collectors)
        former, board = self._nvml, {key: self._place.board[key] for key in self._place.board if key not in PASSING}
        self._place = replace(self.settings.place(), board=board)
        self._watched = {name: self._watch(name, room) for name, room in rooms.items()}
        self._nvml = None
        # A slow collector, or one that hangs in a slow group, must not delay the fast ones.
        self._lanes = {group: self._thread_lane(rooms, group) for group in ("fast", "slow")}
        if any(one.process == "nvml" for one in self._watched.values()):
            self._lanes["nvml"] = self._nvml = NvmlLane(self._place, most_series=self.settings.most_series)
            if former is not None:
                self._nvml.take_over(former)

    def _watch(self, name: str, room: Room) -> Watched:
        # What runs in the driver's process is not imported here: until its first outcome it counts as fast.
        process = process_of(name)
        kind = None if process == "nvml" else room.kind()
        group = "fast" if kind is None else kind.group
        comes_and_goes = bool(getattr(kind, "comes_and_goes", False))
        return Watched(name, group, process, self.settings.interval(name, group), comes_and_goes)

    def _thread_lane(self, rooms: dict[str, Room], group: str) -> ThreadLane:
        some = {name: room for name, room in rooms.items() if self._watched[name].lane == group}
        return ThreadLane(some, self._place, self.settings.most_series, self.wake)

    def wake(self) -> None:
        """Make the loop look around; safe from any thread and from signal handlers."""
        try:
            os.write(self._wake_out, b"w")
        except BlockingIOError:
            pass  # it is awake already

    def stop(self, *_: object) -> None:
        """Ask the loop to end."""
        self._stopping = True
        self.wake()

    def hang_up(self, *_: object) -> None:
        """Ask the loop to read the settings again."""
        self._reloading = True
        self.wake()

    def obey_signals(self) -> None:
        """End at SIGTERM and SIGINT, read the settings again at SIGHUP; for the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        signal.signal(signal.SIGHUP, self.hang_up)
        sys.setswitchinterval(SWITCH_S)

    def run(self) -> None:
        """Sample until `stop`, then let go of everything."""
        stay_small()
        tidy_s = time.monotonic() + TIDY_AFTER_S
        try:
            due_s = time.monotonic()
            while not self._stopping:
                self._safe_tick()
                if self._reloading:
                    self._take_settings()
                if time.monotonic() > tidy_s:
                    tidy_s = time.monotonic() + TIDY_EVERY_S
                    give_back()
                due_s = max(due_s + self.settings.interval_s, time.monotonic() - self.settings.interval_s)
                self._rest(until_s=due_s)
        finally:
            self.close()

    def serve(self) -> None:
        """Begin to answer requests. Raises UsageError where the address cannot be served."""
        server = Server(
            self.settings.listen, self.pages.reply, web_config=self.settings.web_config,
            allow_plain=self.settings.allow_plain, on_reply=self._own.requests.count,
        )  # fmt: skip
        server.start()
        self._server = server

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        if self._server is None:
            raise SkewscopeError("the agent does not serve yet")
        return self._server.address

    def close(self) -> None:
        """Let go of everything; no thread or process stays behind, save one in a call that does not return."""
        if self._server is not None:
            self._server.stop()
        for lane in self._lanes.values():
            lane.stop()

    def _safe_tick(self) -> None:
        try:
            self.tick()
        except Exception:  # the agent's loop: whatever it is, the next tick is worth a try
            log.exception("a tick failed; the next one follows")

    def tick(self, render_within_s: float | None = None) -> None:
        """Start the collectors that are due, wait a little for them, and make the pages."""
        now_s = self._looped_s = time.monotonic()
        started = [lane for name, lane in self._lanes.items() if self._start(name, lane, now_s)]
        until_s = now_s + (self.settings.interval_s * RENDER_SHARE if render_within_s is None else render_within_s)
        while any(lane.busy() for lane in started) and time.monotonic() < until_s and not self._stopping:
            self._wait(until_s - time.monotonic())
        self._render()

    def _start(self, name: str, lane: Lane, now_s: float) -> bool:
        """Start what is due in a lane; False where nothing is, or where it is still at the turn before."""
        self._look(lane, now_s)
        due = [one for one in self._watched.values() if one.lane == name and one.due_s <= now_s]
        if not due:
            return False
        if not lane.start([one.id for one in due]):
            self._fail_to_start(due, lane)
            return False
        for one in due:
            one.plan(now_s)
        return True

    def _fail_to_start(self, due: Iterable[Watched], lane: Lane) -> None:
        # A thread is only busy still; of the process that means that it is not to be started yet.
        if lane is self._nvml and lane.busy() is None:
            for one in due:
                if one.last is None or not one.broken:
                    one.take(Outcome(one.id, "failed", 0.0, "the NVML process is down"), time.monotonic(), time.time())
                one.due_s = time.monotonic() + self.settings.interval_s

    def _look(self, lane: Lane, now_s: float) -> None:
        """Take what a lane has, and see to what it has been at for too long."""
        self._take(lane)
        for name in lane.hurry(now_s, self.settings.interval_s * PATIENCE, self.settings.deadline_s):
            self._watched[name].due_s = now_s
        self._take(lane)

    def _take(self, lane: Lane) -> None:
        now_s, realtime_s = time.monotonic(), time.time()
        for outcome in lane.outcomes():
            one = self._watched[outcome.collector]
            if outcome.state in ("failed", "hung") and not one.broken:
                log.warning("collector %s %s: %s", one.id, outcome.state, outcome.reason)
            elif one.broken and outcome.state == "ok":
                log.info("collector %s works again", one.id)
            if outcome.group and outcome.group != one.group:
                one.group, one.interval_s = outcome.group, self.settings.interval(one.id, outcome.group)
                one.due_s = now_s + one.interval_s
            one.take(outcome, now_s, realtime_s)

    def _rest(self, until_s: float) -> None:
        while not self._stopping and not self._reloading and (left_s := until_s - time.monotonic()) > 0:
            self._wait(left_s)

    def _wait(self, seconds: float) -> None:
        """Sleep until something comes, at most so long."""
        output = self._nvml.output if self._nvml else -1
        if output != self._polled:
            self._poll_instead(output)
        for descriptor, _ in self._poll.poll(max(seconds, 0.0) * 1000):
            if descriptor == self._wake_in:
                os.read(self._wake_in, 4096)
            elif self._nvml:
                self._nvml.read()
        for lane in self._lanes.values():
            self._take(lane)

    def _poll_instead(self, output: int) -> None:
        self._poll = select.poll()
        self._poll.register(self._wake_in, select.POLLIN)
        if output >= 0:
            self._poll.register(output, select.POLLIN)
        self._polled = output

    def _render(self) -> None:
        now_s = time.monotonic()
        hanging = self._hanging(now_s)
        patience_s = self.settings.interval_s * PATIENCE
        unreachable = self._nvml.unreachable(patience_s) if self._nvml else []
        blocks: dict[str, list[Block]] = {"fast": [], "slow": []}
        for one in self._watched.values():
            block = one.fresh(now_s)
            if block is None:
                self._stale += one.series if one.block is not None else 0
                one.block = None
                continue
            if (hanging or unreachable) and one.process == "nvml":
                block = self_metrics.without_access(block, unreachable)
            blocks[one.group].append(block)
        blocks["fast"] += self._own.blocks(
            self._watched.values(), self._nvml, self._place.board, hanging, unreachable, self._stale, now_s
        )
        self.pages.update(blocks)

    def _hanging(self, now_s: float) -> str:
        """Return what the driver has been at for longer than an interval, or the hang it was killed for; "" if none."""
        if self._nvml is None:
            return ""
        busy = self._nvml.busy()
        if busy and now_s - busy.since_s > self.settings.interval_s * PATIENCE:
            return busy.detail or busy.collector
        return self._nvml.hang

    def _take_settings(self) -> None:
        self._reloading = False
        try:
            new = self._reload()
            collectors(new.collectors)
        except SkewscopeError as error:
            log.error("the settings stay as they were: %s", error)
            return
        fixed = {name: getattr(self.settings, name) for name in ("listen", "web_config", "allow_plain")}
        if fixed != {name: getattr(new, name) for name in fixed}:
            log.warning("another address or web configuration file needs a restart; the rest is taken now")
        old, self.settings = self.settings, replace(new, **fixed)
        if replace(old, every={}, interval_s=1, slow_interval_s=1, deadline_s=1) == replace(
            self.settings, every={}, interval_s=1, slow_interval_s=1, deadline_s=1
        ):
            for one in self._watched.values():
                one.interval_s, one.due_s = self.settings.interval(one.id, one.group), 0.0
        else:
            for lane in self._lanes.values():
                lane.stop()
            self._set_up()
        log.info("settings read again")

    def alive(self) -> bool:
        """Whether the loop goes round."""
        return time.monotonic() - self._looped_s < LOOP_STANDS_S + self.settings.interval_s

    def not_ready(self) -> Sequence[str]:
        """Return why there are no fresh samples; a hung driver alone does not make a node unready."""
        now_s = time.monotonic()
        if not self.alive():
            return ["the agent's loop stands still"]
        if any(one.fresh(now_s) is not None for one in self._watched.values()):
            return []
        return [f"{one.id}: {one.last.reason}" for one in self._watched.values() if one.last] or ["no samples yet"]

    def outcomes(self) -> list[tuple[Watched, Outcome | None]]:
        """Return every collector with its last outcome."""
        return [(one, one.last) for one in self._watched.values()]
