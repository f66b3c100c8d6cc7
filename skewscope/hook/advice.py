"""Reads the hints that skewscope gives to a job: shares of the batch, limits, moves of experts. It never raises.

    from skewscope.hook.advice import Advice

    advice = Advice("http://127.0.0.1:9714")           # or the folder of the `engine` actuator
    samples = advice.split(512, ranks=64)[rank]         # 8 each where there is no hint
    limit = advice.limit("requests", default=256)

`current` costs no more than a look at the clock: what is new is fetched by a thread of its own. All ranks must follow
the same hint at the same step, so ask on rank 0, at a step where a change is welcome, and broadcast what it says.
Environment: SKEWSCOPE_ADVICE (address or folder, where none is given), SKEWSCOPE_JOB (the job's name, else that of
Slurm or torchrun). Only the standard library is used.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from ._place import job_name

SCHEMA = "skewscope.advice/1"
MOST_BYTES = 1 << 19
WIDEST_RATIO = 16.0  # between two weights: beyond, a hint is a mistake

LARGEST = 1e15


@dataclass(frozen=True)
class Hint:
    """One hint. `version` is another for each; 0 means that there is none. `expires_ns` is since the epoch."""

    version: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    act: str = ""
    expires_ns: int = 0


NONE = Hint()


class Advice:
    """The hints of one job, asked for every `every_s`; what was heard last counts until `grace_s` after its end."""

    def __init__(
        self, where: str = "", job: str = "", *, every_s: float = 30.0, timeout_s: float = 2.0, grace_s: float = 300.0,
        clock_ns: Callable[[], int] = time.time_ns, timer_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._where = where or os.environ.get("SKEWSCOPE_ADVICE", "")
        self._job = job or job_name()
        self._every_s, self._timeout_s, self._grace_ns = every_s, timeout_s, int(grace_s * 1e9)
        self._clock_ns, self._timer_s = clock_ns, timer_s
        self._heard = NONE
        self._asked_s = -math.inf
        self._thread: threading.Thread | None = None
        self.trouble = ""  # why the last question brought no answer

    def current(self) -> Hint:
        """Return the hint that stands now, from memory; start to ask for a newer one where it is time."""
        try:
            if self._is_due():
                self._asked_s = self._timer_s()
                self._thread = threading.Thread(target=self.refresh, name="skewscope-advice", daemon=True)
                self._thread.start()
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
        return self._standing()

    def _is_due(self) -> bool:
        asking = self._thread is not None and self._thread.is_alive()
        return bool(self._where) and not asking and self._timer_s() - self._asked_s >= self._every_s

    def refresh(self) -> Hint:
        """Ask now, wait for the answer (`timeout_s` at most for each step of it), and return the hint that stands."""
        try:
            self._asked_s = self._timer_s()
            if self._where:
                self._heard = _understood(self._asked())
                self.trouble = ""
        except Exception as error:  # a hint is never worth a training run
            self.trouble = f"{type(error).__name__}: {error}"
        return self._standing()

    def _standing(self) -> Hint:
        heard = self._heard
        return heard if heard.version and self._clock_ns() < heard.expires_ns + self._grace_ns else NONE

    def _asked(self) -> bytes:
        """Return the document as it lies there, b"" where there is none for the job."""
        if self._where.startswith(("http://", "https://")):
            return _fetched(self._where, self._job, self._timeout_s)
        path = self._where
        if os.path.isdir(path):
            path = os.path.join(path, f"{_quoted(self._job)}.json")
        try:
            with open(path, "rb") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return b""

    def weights(self, ranks: int) -> list[float]:
        """Return how much work each rank is to get, 1.0 on average; all 1.0 where no hint fits this number of ranks."""
        told: Any = self.current().values.get("weights")
        numbers = [one for one in map(_number, told) if one is not None] if isinstance(told, list) else []
        if len(numbers) != ranks or len(told) != ranks or not numbers:
            return [1.0] * ranks
        if not 0 < max(numbers) <= WIDEST_RATIO * min(numbers):
            return [1.0] * ranks
        return [one * ranks / math.fsum(numbers) for one in numbers]

    def split(self, samples: int, ranks: int) -> list[int]:
        """Return how many samples each rank is to get: whole numbers by weight, their sum is `samples`.

        >>> Advice(where="/nonexistent").split(10, ranks=4)
        [3, 3, 2, 2]
        """
        return shares(samples, self.weights(ranks))

    def limit(self, name: str, default: float) -> float:
        """Return a limit by its name, as of requests that are admitted; `default` where no hint tells it."""
        limits = self.current().values.get("limits")
        told = limits.get(name) if isinstance(limits, dict) else None
        number = _number(told)
        return default if number is None else number

    def experts(self) -> Any:  # noqa: ANN401 - what the planner of experts says
        """Return what is said of experts, None where nothing is."""
        return self.current().values.get("experts")


def shares(samples: int, weights: list[float]) -> list[int]:
    """Return whole shares by weight with the sum `samples`; each gets one at least, where there are enough.

    >>> shares(8, [1.0, 1.0, 0.4])
    [3, 3, 2]
    """
    least = 1 if samples >= len(weights) else 0
    free = samples - least * len(weights)
    exact = [free * weight / math.fsum(weights) for weight in weights]
    whole = [int(one) for one in exact]
    order = sorted(range(len(weights)), key=lambda at: whole[at] - exact[at])
    for at in order[: free - sum(whole)]:
        whole[at] += 1
    return [least + one for one in whole]


def _number(value: object) -> float | None:
    """Return a number that can be meant, None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
        return None
    return float(value)


def _understood(content: bytes) -> Hint:
    """Return the hint of a document; raises ValueError, KeyError or TypeError for what is none."""
    if not content:
        return NONE
    told = json.loads(content)
    if told["schema"] != SCHEMA or not isinstance(told["hint"], dict):
        raise ValueError(f"wants a document {SCHEMA}")
    return Hint(int(told["version"]), told["hint"], str(told.get("act", "")), int(told["expires_ns"]))


def _quoted(job: str) -> str:
    safe = quote(job, safe="", errors="surrogatepass")
    return "%2E" + safe[1:] if safe[:1] == "." else safe


def _fetched(url: str, job: str, timeout_s: float) -> bytes:
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        path = parts.path if parts.path.strip("/") else "/advice"
        connection.request("GET", f"{path}?job={quote(job, safe='', errors='surrogatepass')}")
        reply = connection.getresponse()
        content = reply.read(MOST_BYTES)
    finally:
        connection.close()
    if reply.status == 404:
        return b""
    if reply.status != 200:
        raise ConnectionError(f"status {reply.status}")
    return content
