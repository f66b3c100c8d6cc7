"""What the analysis would say in each turn of a replay: cases that appear some windows after a trouble began to hurt.

Windows flicker, shares are a little off, and what is nobody's fault looks like somebody's: the policy sees no truth.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field

from ..policy.cases import Around, Case
from ..simulate.week import SECOND_NS, Trouble
from ._replay_world import Run, World

WINDOW_NS = 30 * SECOND_NS
KEPT = 5  # windows that are looked back
FIRST = 2  # windows that show it before it is told at all
QUIET_NS, FORGOTTEN_NS, AGAIN_NS = 90 * SECOND_NS, 270 * SECOND_NS, 900 * SECOND_NS
STAGGER_NS = 60 * SECOND_NS  # between the nodes that a shared cause reaches


@dataclass
class Episode:
    """One incident: what the windows showed of one trouble at one place."""

    trouble: Trouble
    node: str
    number: int = 1
    shown: deque[bool] = field(default_factory=lambda: deque(maxlen=KEPT))
    opened_ns: int = -1
    seen_ns: int = -1
    run: Run | None = None

    @property
    def id(self) -> str:
        """The incident's id, another one where it came back after it was long over."""
        place = f"-{self.node}" if self.trouble.kind == "shared" else ""
        return f"{self.trouble.id}{place}-{self.number}"


class Watching:
    """Follows a world, turn by turn."""

    def __init__(self, world: World, seed: int = 0) -> None:
        """Take the world; `seed` decides which windows flicker."""
        self._world, self._seed = world, seed
        self._episodes: dict[tuple[str, str], Episode] = {}
        self._seen_ns = world.now_ns

    def cases(self) -> list[Case]:
        """Return the incidents of now, those that have just ended too, as the policy sees them."""
        now_ns = self._world.now_ns
        windows = max(1, (now_ns - self._seen_ns) // WINDOW_NS)
        self._seen_ns = now_ns
        for trouble in self._world.live:
            for node in trouble.nodes or ("",):
                self._look(trouble, node, min(windows, KEPT))
        for key, one in list(self._episodes.items()):
            self._age(key, one, min(windows, KEPT))
        return [
            _case(one, now_ns) for one in self._episodes.values() if 0 <= one.opened_ns and not _is_over(one, now_ns)
        ]

    def around(self) -> Around:
        """Return what else the policy is told: checkpoints and ends of jobs."""
        now_ns = self._world.now_ns
        running = [run for run in self._world.active if run.state == "running"]
        return Around(
            now_ns, since_checkpoint_s={run.work.id: run.since_checkpoint_s(now_ns) for run in running},
            remaining_s={run.work.id: (run.work.end_ns - now_ns) / SECOND_NS for run in running},
        )  # fmt: skip

    def steps(self) -> dict[str, float]:
        """Return the step times of jobs, seconds; none of those that stand or start."""
        now_ns = self._world.now_ns
        return {run.work.id: run.work.step_s / (1.0 - run.share) for run in self._world.active
                if run.state == "running" and run.share < 1.0 and now_ns >= run.ready_ns}  # fmt: skip

    def is_right(self, node: str) -> bool | None:
        """Return whether a node is truly at fault now, None where nobody knows the truth."""
        return bool(self._world.sick(node)) if self._world.week.is_known else None

    def _look(self, trouble: Trouble, node: str, windows: int) -> None:
        """Let the next windows show a trouble where a job feels it, or seems to."""
        now_ns = self._world.now_ns
        later_ns = trouble.nodes.index(node) * STAGGER_NS if trouble.kind == "shared" else 0
        if now_ns < trouble.onset_ns + later_ns:
            return
        run = self._felt(trouble, node)
        key = (trouble.id, node)
        one = self._episodes.get(key)
        if one is None and run is None:
            return
        if one is None or (run and one.opened_ns >= 0 and now_ns - one.seen_ns > AGAIN_NS):
            number = one.number + 1 if one else 1
            one = self._episodes[key] = Episode(trouble, _blamed(trouble, node, run), number)
        one.run = run or one.run
        for at in range(windows):
            self._show(one, run is not None and self._is_shown(trouble, now_ns + at), now_ns)

    def _felt(self, trouble: Trouble, node: str) -> Run | None:
        now_ns = self._world.now_ns
        for run in self._world.hurts(trouble):
            if now_ns >= run.ready_ns and (not node or trouble.kind == "shared" or node in run.nodes):
                return run
        return None

    def _is_shown(self, trouble: Trouble, at: int) -> bool:
        drawn = zlib.crc32(f"{self._seed} {trouble.id} {at}".encode()) / 2**32
        return drawn < trouble.seen and trouble.told_at(at) > 0

    def _show(self, one: Episode, shown: bool, now_ns: int) -> None:
        one.shown.append(shown)
        if shown:
            one.seen_ns = now_ns
        if one.opened_ns < 0 and sum(one.shown) >= FIRST:
            one.opened_ns = now_ns

    def _age(self, key: tuple[str, str], one: Episode, windows: int) -> None:
        """Let windows pass over what is no longer there."""
        if one.trouble in self._world.live:
            return
        for _ in range(windows):
            one.shown.append(False)
        if self._world.now_ns - one.seen_ns > AGAIN_NS:
            del self._episodes[key]


def _blamed(trouble: Trouble, node: str, run: Run | None) -> str:
    """Return the node that the findings name: that of the trouble, or, misled, another one of its job."""
    if not (trouble.is_misled and run and node in run.nodes):
        return node
    return run.nodes[(run.nodes.index(node) + 1) % len(run.nodes)]


def _is_over(one: Episode, now_ns: int) -> bool:
    return now_ns - one.seen_ns > FORGOTTEN_NS


def _case(one: Episode, now_ns: int) -> Case:
    trouble, run = one.trouble, one.run
    ranks = run.work.ranks if run else 0
    healthy, told = now_ns - one.seen_ns > QUIET_NS, trouble.told_at(now_ns)
    return Case(
        one.id, trouble.condition, _subject(one), one.node, trouble.gpu, trouble.rack, run.work.id if run else "",
        ranks, trouble.severity, confidence=trouble.confidence, share=told, lost_gpus=told * ranks,
        opened_ns=one.opened_ns, seen_ns=one.seen_ns, seen_count=sum(one.shown), of_count=len(one.shown),
        steps=_steps(one, now_ns), peers=max(ranks - 1, 0), healthy=healthy,
        summary=f"{trouble.condition} costs {told:.0%} of the step",
    )  # fmt: skip


def _subject(one: Episode) -> str:
    if not one.node:
        return one.trouble.job or one.trouble.rack or "job"
    return f"{one.node}/gpu{one.trouble.gpu}" if one.trouble.gpu >= 0 else one.node


def _steps(one: Episode, now_ns: int) -> int:
    """Return how many steps were compared: those since the onset that five windows show."""
    if one.run is None:
        return 0
    seconds = min((now_ns - one.trouble.onset_ns) / SECOND_NS, 24 * WINDOW_NS / SECOND_NS)
    return int(seconds / one.run.work.step_s)
