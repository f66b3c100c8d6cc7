"""Trials of nodes that are to come back: run on the node by the scheduler, judged by speed against its peers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from ..errors import SkewscopeError
from ..policy.sections import Retest
from ..retest import gate
from ..retest.document import Result, line
from .entry import kept
from .performing import Performer

CLOCKS_NS = 60 * 10**9  # by which clocks of hosts may differ
log = logging.getLogger("skewscope.acting")
Record = Mapping[str, Any]
T = TypeVar("T")


class Came(NamedTuple):
    """What came of a test: "pass" or "fail", and why."""

    result: str
    detail: str


@dataclass
class Judge:
    """Judges what a test wrote against what other nodes reached: `healthy` ones, and those of former tests.

    `path` is the file in which results are kept (None: nowhere), `healthy` a file or folder that a person fills.
    """

    path: Path | None = None
    healthy: Path | None = None

    def __call__(self, text: str, node: str, since_ns: int) -> Came:
        """Return the verdict on `node`; only one that is shown to be as fast as its peers passes.

        What it says of itself counts for nothing, nor what was measured before the test began. Raises Unreadable.
        """
        others = [one for place in (self.healthy, self.path) for one in _results(place)]
        result = gate.answer(text, node, since_ns - CLOCKS_NS, others)
        why = "; ".join(result.why)
        if result.measures:
            self._keep(result)
        return Came("pass", why) if result.verdict == "pass" else Came("fail", f"{result.verdict}: {why}")

    def _keep(self, result: Result) -> None:
        if self.path is not None:
            gate.keep(self.path, line(result))


def _results(place: Path | None) -> list[Result]:
    return gate.references(place) if place is not None and place.exists() else []


class Beside(Executor):
    """Runs each call in a thread of its own that ends with the process: a test of minutes must not hold its end up.

    >>> Beside().submit(max, 2, 3).result()
    3
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - of the call
        """Begin a call and return its future."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # as every executor: who asks for the result gets it
                future.set_exception(error)

        Thread(target=run, name="retest", daemon=True).start()
        return future


class Trials:
    """The tests under way, by act. `words` and times are of the policy; without an executor a test is waited for."""

    def __init__(self, judge: Judge, settings: Retest, executor: Executor | None = None) -> None:
        self._judge, self._settings, self._executor = judge, settings, executor
        self._running: dict[str, Future[Came]] = {}

    def start(self, hand: Performer, record: Record) -> None:
        """Write down that a test begins, and begin it; a scheduler that cannot run any fails it."""
        act = record["act"]
        begun = hand.write("testing", **kept(record), of=act, detail=" ".join(self._settings.words))
        running: Future[Came] = Future()
        if self._executor is not None:
            running = self._executor.submit(self._run, hand, record, begun["time_ns"])
        else:
            running.set_result(self._run(hand, record, begun["time_ns"]))
        self._running[act] = running

    def settle(self, hand: Performer) -> None:
        """Write down what came of tests that have ended, and of those that a crash cut off."""
        for act, record in list(hand.journal.testing.items()):
            if record.get("scheduler") != hand.name:
                continue
            running = self._running.get(act)
            if running is None:
                told = Came("fail", "the test was cut off: whoever began it is gone")
            elif running.done():
                del self._running[act]
                told = running.result()
            else:
                continue
            hand.write("tested", **kept(record), of=act, result=told.result, detail=told.detail)

    def _run(self, hand: Performer, record: Record, since_ns: int) -> Came:
        test = getattr(hand.actuator, "test", None)
        if test is None:
            return Came("fail", f"{hand.name} cannot run a test on a node; test it by hand, then `skewscope undo`")
        try:
            text = test(record, self._settings.words, self._settings.timeout_s)
            return self._judge(text, record["target"], since_ns)
        except (SkewscopeError, OSError) as error:
            return Came("fail", str(error))
        except Exception as error:  # a test that breaks has not passed
            log.exception("%s: the test of %s failed", hand.name, record["target"])
            return Came("fail", f"{type(error).__name__}: {error}")
