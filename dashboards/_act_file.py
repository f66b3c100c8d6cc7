"""Acts from the audit file of an engine: read as it grows, put beside the view of any other source."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from skewscope.errors import UsageError
from skewscope.policy.ledger import Ledger

from ._act_records import ACTION, Acts, Record, by_expiry, fits, whole, with_standing
from ._sources import Source, nobody
from ._view import View

GIVE = "give the --audit file of `skewscope watch --act`"
KEPT = 200  # records, as the API of the watching service gives


class ActFile:
    """The records of an audit file: the latest ones, what waits, and the breaker; only what is new is read again.

    Raises UsageError where the file cannot be read at first; one that vanishes later shows what was read last. The
    chain of hashes is not checked here: `skewscope audit verify` does.
    """

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path, self._clock_ns = path, clock_ns
        self._lock = threading.Lock()
        self._forget()
        try:
            self._read()
        except OSError as error:
            said = error.strerror or error
            raise UsageError(f"--acts {path}: {said}; {GIVE}") from None
        if self._offset and not self._latest:
            raise UsageError(f"--acts {path}: no line of it is a {ACTION}; {GIVE}")

    def acts(self) -> tuple[Acts, str, int]:
        """Return the acts, why they may be old ("" they are not), and a number that changes with them."""
        with self._lock:
            wrong = ""
            try:
                self._read()
            except OSError as error:
                wrong = f"{self.path}: {error.strerror or error}"
            now_ns = self._clock_ns()
            waiting = self._ledger.waiting.values()
            due = [one for one in waiting if (whole(one, "expires_ns") or now_ns + 1) > now_ns]
            records = with_standing(tuple(reversed(self._latest)), self._ledger.standing.values())
            acts = Acts(records, by_expiry(due), self._ledger.breaker)
            return acts, wrong, hash((self._offset, self._inode, len(due)))

    def _forget(self) -> None:
        self._offset, self._inode, self._ledger = 0, -1, Ledger()
        self._latest: deque[Record] = deque(maxlen=KEPT)

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:  # another file in its place
                self._forget()
                self._inode = found.st_ino
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # half written
                    break
                self._offset += len(line)
                self._note(line)

    def _note(self, line: bytes) -> None:
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            return
        if fits(record):
            self._latest.append(record)
            with contextlib.suppress(ValueError, TypeError, AttributeError):  # a field of another kind
                self._ledger.add(record)


class WithActs:
    """Another source's views with the acts of an audit file; asked again and again, as the file grows."""

    live = True

    def __init__(self, source: Source, file: ActFile) -> None:
        self._source, self._file = source, file

    def view(self) -> View:
        """Return the latest view, at once, with the acts of now."""
        view = self._source.view()
        acts, wrong, mark = self._file.acts()
        said = f"acts of {self._file.path}"
        title = said if view.title == View().title else f"{view.title}, {said}"
        errors = (*view.errors, wrong) if wrong else view.errors
        return replace(view, id=f"{view.id}~{mark:x}", title=title, acts=acts, errors=errors)

    def start(self, told: Callable[[], object] = nobody) -> None:
        """Begin to refresh the other source."""
        self._source.start(told)

    def stop(self) -> None:
        """End refreshing it."""
        self._source.stop()
