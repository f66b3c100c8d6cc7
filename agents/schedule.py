"""When each collector is due: its interval, its back-off after failures, and how fresh its last samples are."""

from __future__ import annotations

from dataclasses import dataclass

from .crew import NO_DATA, OK, Outcome
from .exposition import Block

LONGEST_BACK_OFF_S = 300.0
LOOK_AGAIN_S = 60.0  # where there was nothing of the kind, something may have come
FRESH_PERIODS = 2


@dataclass
class Watched:
    """One collector as the node sees it; times are monotonic seconds."""

    id: str
    group: str
    process: str
    interval_s: float
    comes_and_goes: bool = False  # nothing of the kind now says little about the next second: jobs start at any time
    due_s: float = 0.0
    failures: int = 0
    overruns: int = 0
    dropped: int = 0
    last: Outcome | None = None
    last_s: float = 0.0
    block: Block | None = None
    block_s: float = float("-inf")
    series: int = 0
    success_s: float = 0.0  # realtime of the last success, for people

    def take(self, outcome: Outcome, now_s: float, realtime_s: float) -> None:
        """Note an outcome and when to run next."""
        self.last, self.last_s = outcome, now_s
        self.dropped += outcome.dropped
        self.overruns += outcome.seconds > self.interval_s
        if outcome.state == OK:
            self.failures, self.block, self.block_s, self.success_s = 0, outcome.block, now_s, realtime_s
            self.series = outcome.series
            return
        self.failures += outcome.state != NO_DATA
        if outcome.state == NO_DATA:
            self.block, wait_s = None, self.interval_s if self.comes_and_goes else max(self.interval_s, LOOK_AGAIN_S)
        else:
            wait_s = min(self.interval_s * 2 ** min(self.failures, 8), max(LONGEST_BACK_OFF_S, self.interval_s))
        self.due_s = now_s + wait_s

    def plan(self, now_s: float) -> None:
        """Set the next run one interval on, keeping step with the others."""
        missed = max(0.0, now_s - self.due_s) // self.interval_s if self.due_s else 0.0
        self.due_s = (self.due_s or now_s) + (missed + 1) * self.interval_s

    def fresh(self, now_s: float) -> Block | None:
        """Return the last samples while they are younger than two periods; old values are worse than none."""
        return self.block if now_s - self.block_s < FRESH_PERIODS * self.interval_s + 0.5 else None

    def __post_init__(self) -> None:
        self.label = (self.id,)

    @property
    def lane(self) -> str:
        """Where it runs: "nvml", or the host's lane of its group."""
        return self.process if self.process == "nvml" else self.group

    @property
    def broken(self) -> bool:
        """Whether it should give samples and does not."""
        return self.last is not None and self.last.state not in (OK, NO_DATA)
