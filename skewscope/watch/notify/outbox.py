"""Tells one receiver of incidents, each change once: what waits survives a restart, what is refused is kept aside."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...web.post import Undelivered
from ..files import append_line, read_json, write_json
from .messages import event, remembered

FIRST_S, LONGEST_S = 2.0, 300.0  # between two tries
GIVE_UP_S = 86_400.0
MOST_WAITING = 10_000
MOST_KNOWN = 5_000
SCHEMA = "skewscope.outbox/1"
log = logging.getLogger("skewscope.watch")

Incident = Mapping[str, Any]
Make = Callable[[str, Incident], Any]  # what happened, incident -> body as JSON values
Send = Callable[[bytes, str], None]  # body, key; raises Undelivered


class Outbox:
    """A queue to one receiver, in order, sent from a thread of its own.

    `folder` keeps `outbox-NAME.json` (what was told, what waits) and `dead-letters-NAME.jsonl` (what was refused for
    good or could not be sent for a day); without one nothing outlives the process.
    """

    def __init__(
        self, name: str, make: Make, send: Send, folder: Path | None = None, *,
        clock_s: Callable[[], float] = time.time, first_s: float = FIRST_S,
    ) -> None:  # fmt: skip
        self.name, self._make, self._send, self._clock_s, self._first_s = name, make, send, clock_s, first_s
        self._file = folder / f"outbox-{name}.json" if folder else None
        self._dead = folder / f"dead-letters-{name}.jsonl" if folder else None
        self._told: dict[str, Any] = {}
        self._waiting: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self._news = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._load()

    def _load(self) -> None:
        if self._file is None:
            return
        try:
            kept = read_json(self._file, SCHEMA) or {"told": {}, "waiting": []}
            told = {str(name): remembered(one) for name, one in kept["told"].items()}
            waiting = [{"key": str(one["key"]), "since_s": float(one["since_s"]), "body": one["body"]}
                       for one in kept["waiting"]]  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s is damaged (%s); what it held is not known, so open incidents are told again",
                      self._file, error)  # fmt: skip
        else:
            self._told, self._waiting = told, waiting

    @property
    def waiting(self) -> int:
        """How many notifications wait."""
        with self._news:
            return len(self._waiting)

    def tell(self, incidents: Iterable[Incident]) -> None:
        """Queue what happened to incidents since they were told last, the oldest change first."""
        with self._news:
            for incident in sorted(incidents, key=lambda one: (one["changed_ns"], one["id"])):
                what = event(self._told.get(incident["id"]), incident)
                if not what:
                    continue
                self._told[incident["id"]] = remembered(incident)
                key = f"{incident['id']}-{incident['changed_ns']}-{what}"
                body = self._make(what, incident)
                self._waiting.append({"key": key, "since_s": self._clock_s(), "body": body})
            self._trim()
            self._save()
            self._news.notify_all()

    def _trim(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._bury(self._waiting.pop(0), "too many wait")
        closed = [name for name, one in self._told.items() if one["state"] == "closed"]
        for name in closed[: max(len(self._told) - MOST_KNOWN, 0)]:
            del self._told[name]

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, name=f"outbox {self.name}", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 5.0) -> None:
        """Send what can be sent at once, and end."""
        with self._news:
            self._stopping = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._news:
                self._news.wait_for(lambda: self._stopping or self._waiting, None if not pause_s else pause_s)
                if pause_s and not self._stopping:
                    self._news.wait_for(lambda: self._stopping, pause_s)
                if self._stopping and (pause_s or not self._waiting):
                    return
            pause_s = self.send_next(pause_s)

    def send_next(self, paused_s: float = 0.0) -> float:
        """Send the first that waits; return how long (s) to pause before the next try, 0 for none."""
        with self._news:
            if not self._waiting:
                return 0.0
            first = self._waiting[0]
        try:
            self._send(json.dumps(first["body"]).encode(), first["key"])
        except Undelivered as error:
            return self._not_sent(first, error, paused_s)
        except Exception as error:  # others wait behind it, and the thread must go on
            log.exception("notification to %s", self.name)
            return self._not_sent(first, Undelivered(f"{type(error).__name__}: {error}"), paused_s)
        self.counts["sent"] += 1
        self._done(first, "")
        return 0.0

    def _not_sent(self, first: dict[str, Any], error: Undelivered, paused_s: float) -> float:
        if not error.final and self._clock_s() - first["since_s"] < GIVE_UP_S:
            self.counts["retried"] += 1
            pause_s = max(min(2 * paused_s or self._first_s, LONGEST_S), error.after_s)
            log.warning("notification to %s waits %.0f s: %s", self.name, pause_s, error)
            return pause_s
        log.error("notification to %s is given up: %s", self.name, error)
        self._done(first, str(error))
        return 0.0

    def _done(self, first: dict[str, Any], reason: str) -> None:
        with self._news:
            if self._waiting and self._waiting[0] is first:
                self._waiting.pop(0)
            if reason:
                self._bury(first, reason)
            self._save()

    def _bury(self, one: dict[str, Any], reason: str) -> None:
        self.counts["failed"] += 1
        if self._dead is not None:
            try:
                append_line(self._dead, {**one, "reason": reason})
            except OSError as error:
                log.error("cannot keep what %s refused in %s: %s", self.name, self._dead, error)

    def _save(self) -> None:
        if self._file is not None:
            try:
                write_json(self._file, {"schema": SCHEMA, "told": self._told, "waiting": self._waiting})
            except OSError as error:
                log.error("cannot write %s: %s; it is tried again with the next change", self._file, error)
