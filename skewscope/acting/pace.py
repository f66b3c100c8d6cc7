"""How often schedulers are asked: at most so many requests a second, however much there is to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Pace:
    """At most `per_s` calls of `wait` a second, with as many as that at once.

    >>> slept = []
    >>> pace = Pace(2.0, clock_s=lambda: 0.0, sleep=slept.append)
    >>> for _ in range(3):
    ...     pace.wait()
    >>> slept
    [0.5]
    """

    per_s: float = 5.0
    clock_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _left: float = -1.0
    _last_s: float = 0.0

    def wait(self) -> None:
        """Wait until the next request may be sent."""
        now_s, most = self.clock_s(), max(1.0, self.per_s)
        gained = max(0.0, now_s - self._last_s) * self.per_s
        self._left = most if self._left < 0 else min(most, self._left + gained)
        self._last_s = now_s
        if self._left < 1.0:
            rest_s = (1.0 - self._left) / self.per_s
            self.sleep(rest_s)
            self._left, self._last_s = 1.0, now_s + rest_s
        self._left -= 1.0

    def rest(self, tries: int) -> None:
        """Wait a little longer after each try that failed: twice the time of a request, then four times, and so on."""
        self.sleep(2.0**tries / self.per_s)
