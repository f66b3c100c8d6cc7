"""People in a replay: they answer proposals during their hours, after a while, and are wrong now and then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ..simulate.week import HOUR_NS, SECOND_NS
from ._replay_world import World

DAY_NS = 24 * HOUR_NS
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Habits:
    """When people answer and how: `knows` is the share of real node faults that they say yes to, `fooled` of others."""

    from_hour: int = 8
    to_hour: int = 20
    median_s: float = 480.0
    knows: float = 0.95
    fooled: float = 0.4
    reset_s: float = 7200.0  # after which they close an open breaker


@dataclass
class Person:
    """Answers proposals; what is due comes from `new`, as a file of decisions would give it."""

    world: World
    habits: Habits = Habits()
    seed: int = 0
    _due: list[tuple[int, Answer]] = field(default_factory=list)
    _open_ns: int = -1

    def see(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take note of proposals, of a breaker that opened, and of nodes that a person is called for."""
        for record in records:
            if record["phase"] == "proposed":
                self._propose(record)
            elif record["phase"] == "breaker" and record.get("result") == "open":
                self._open_ns = record["time_ns"]
            elif record.get("result") == "escalate":
                self.world.call(record["target"])

    def new(self) -> list[Answer]:
        """Return the answers that are due now."""
        now_ns = self.world.now_ns
        due = [answer for time_ns, answer in self._due if time_ns <= now_ns]
        self._due = [one for one in self._due if one[0] > now_ns]
        return due

    def closes_breaker(self) -> bool:
        """Return whether somebody resets the breaker now: once, some time after it opened, while at work."""
        now_ns = self.world.now_ns
        ready = 0 <= self._open_ns <= now_ns - self.habits.reset_s * SECOND_NS and self._works(now_ns)
        self._open_ns = -1 if ready else self._open_ns
        return ready

    def _propose(self, record: Mapping[str, Any]) -> None:
        draw = Random(f"{self.seed} {record['act']}")
        yes = draw.random() < (self.habits.knows if self.world.sick(record["target"]) else self.habits.fooled)
        two = any("2 persons" in said["text"] for said in record.get("why") or ())
        for person in ("first", "second") if two else ("first",):
            time_ns = self._when(
                record["time_ns"] + int(draw.lognormvariate(0, 0.6) * self.habits.median_s * SECOND_NS)
            )
            self._due.append((time_ns, {
                "schema": "skewscope.decision/1", "act": record["act"], "key": f"{record['act']}-{person}",
                "decision": "approve" if yes else "reject", "person": person, "time_ns": time_ns, "reason": "replay",
            }))  # fmt: skip

    def _works(self, time_ns: int) -> bool:
        return self.habits.from_hour * HOUR_NS <= time_ns % DAY_NS < self.habits.to_hour * HOUR_NS

    def _when(self, time_ns: int) -> int:
        """Return when somebody is there to answer: then, or when the next day begins."""
        if self._works(time_ns):
            return time_ns
        morning_ns = time_ns // DAY_NS * DAY_NS + self.habits.from_hour * HOUR_NS
        return morning_ns if time_ns < morning_ns else morning_ns + DAY_NS
