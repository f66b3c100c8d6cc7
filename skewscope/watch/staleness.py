"""Says who tells nothing: a host that is silent is not healthy, it is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .. import subjects
from ..contracts import Evidence, Finding, Window
from ..feeds.contract import Told
from ..signals.windows import WINDOW_S

CONDITION = "telemetry-stale"
AFTER_COUNT = 2  # windows: one may be lost to a restart
FLEET_RATIO, MANY_COUNT = 0.5, 10  # of all hosts, or hosts: then it is the feed or the network, not hosts
CALM_RATIO = 0.5  # of that: below, it is single hosts again
NAMED_COUNT = 5
ADVICE = "see whether the agent runs there and its port can be reached: `systemctl status skewscope-agent`"
FLEET_ADVICE = "see whether the source of metrics answers, and the network to it"


@dataclass
class Staleness:
    """Counts for how many windows each host has been silent; `wide` while it is many at once."""

    silent: dict[str, int] = field(default_factory=dict)
    dead: int = 0
    wide: bool = False

    def look(self, told: Told) -> Iterator[Finding]:
        """Take a window and yield who has been silent for two or more: single hosts, or many at once as one."""
        self.silent = {node: self.silent.get(node, 0) + 1 for node in told.stale}
        self.dead = self.dead + 1 if not told.answered else 0
        lasting = sorted(node for node, count in self.silent.items() if count >= AFTER_COUNT)
        many = max(2.0, min(MANY_COUNT, FLEET_RATIO * told.targets))
        self.wide = self.dead >= AFTER_COUNT or len(lasting) >= (CALM_RATIO if self.wide else 1.0) * many
        if self.wide and (lasting or self.dead):
            yield _fleet(told, lasting, max(self.dead, *(self.silent[node] for node in lasting), AFTER_COUNT))
            return
        for node in lasting:
            yield _finding(told, subjects.node(node), self.silent[node], "S3", ADVICE, 1.0, node)

    def unknown(self, nodes: Sequence[str]) -> frozenset[str]:
        """Return of which hosts nothing can be concluded: those silent now, or all."""
        return frozenset(nodes) if self.dead else frozenset(self.silent)


def _fleet(told: Told, lasting: Sequence[str], count: int) -> Finding:
    share = 1.0 - told.answered / told.targets if told.targets else 1.0
    names = ", ".join(lasting[:NAMED_COUNT]) + (" ..." if len(lasting) > NAMED_COUNT else "")
    what = f"{told.targets - told.answered} of {told.targets} hosts" + (f" ({names})" if names else "")
    return _finding(told, subjects.rack("fleet"), count, "S2", FLEET_ADVICE, share, what)


def _finding(
    told: Told, subject: subjects.Subject, count: int, severity: str, advice: str, share: float, what: str
) -> Finding:
    since_s = count * WINDOW_S
    why = f"; {told.errors[0]}" if told.errors else ""
    return Finding(
        CONDITION, subject, "culprit", severity, 1.0, Window(told.end_ns - int(since_s * 1e9), told.end_ns), 0.0, 0.0,
        (Evidence("windows_without_samples", count, 0.0, AFTER_COUNT, "windows"),
         Evidence("silent_share", share, 0.0, None, "ratio")),
        f"{what} told nothing for {since_s:.0f} s, so nobody knows how it is there{why}", advice,
    )  # fmt: skip
