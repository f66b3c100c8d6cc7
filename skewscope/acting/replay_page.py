"""What a replay tells: a table for people, the document `skewscope.replay/1` for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..acts import LADDER, VERBS
from ..plans import plain
from ..simulate.week import Week
from .replay import HOUR_S, STRONG, Deed, Played

SCHEMA = "skewscope.replay/1"
OF_NODES = ("slow", "passing", "hard")
HEAD = ("policy", "would do", "right", "wrong", "back", "asked", "yes", "saved", "", "cost", "net", "node-h out",
        "most out")  # fmt: skip
LEGEND = (
    "GPU-hours. saved: less slowness, and its share of what single nodes cost. cost: more restarts, work done twice,",
    "waiting for nodes. right, wrong: of fences and restarts, whether the node was truly at fault. back: taken back,",
    "after a test of speed or by people. asked, yes: proposals to people. most out: nodes fenced at once.",
)
MOST_DEEDS = 40  # printed; all are in the JSON


@dataclass(frozen=True)
class Compared:
    """One policy over one week or several, beside the same weeks without anybody acting."""

    played: Sequence[Played]
    baselines: Sequence[Played]

    @property
    def saved_gpu_hours(self) -> float:
        """What jobs lost less to slowness."""
        return _slowed(self.baselines) - _slowed(self.played)

    @property
    def cost_gpu_hours(self) -> float:
        """What jobs lost more to restarts, work done twice and waiting."""
        return _price(self.played) - _price(self.baselines)

    @property
    def deeds(self) -> list[Deed]:
        """All acts, in order."""
        return [deed for one in self.played for deed in one.deeds]

    def count(self, *phases: str) -> int:
        """Return how many audit records are of these phases."""
        return sum(one.counts[phase] for one in self.played for phase in phases)

    def of(self, right: bool) -> int | None:
        """Return how many fences and restarts were right, or wrong; None where nobody knows."""
        strong = [deed.right for deed in self.deeds if deed.verb in STRONG]
        return None if None in strong else strong.count(right)


def _slowed(played: Sequence[Played]) -> float:
    return sum(one.slowed_gpu_hours for one in played)


def _price(played: Sequence[Played]) -> float:
    return sum(one.price_gpu_hours for one in played)


def of_nodes(baselines: Sequence[Played]) -> float:
    """Return the GPU-hours that single nodes cost: what acting on nodes could save at most."""
    return sum(one.losses.by_kind.get(kind, 0.0) for one in baselines for kind in OF_NODES) / HOUR_S


def page(weeks: Sequence[Week], compared: Sequence[Compared], *, deeds: bool = False) -> str:
    """Return what people read: the weeks, what is lost where nobody acts, a row for each policy, what they mean."""
    rows = [HEAD, *(_row(one) for one in compared)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    lines = [*_about(weeks, compared[0].baselines), ""]
    for row in rows:
        left = [f"{text:{width}}" for text, width in zip(row[:2], widths[:2], strict=True)]
        right = [f"{text:>{width}}" for text, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join((*left, *right)).rstrip())
    lines += ["", *LEGEND]
    for one in compared if deeds else ():
        lines += ["", f"{one.played[0].name}:", *_deed_lines(one)]
    return "\n".join(lines) + "\n"


def _about(weeks: Sequence[Week], baselines: Sequence[Played]) -> list[str]:
    counts: Counter[str] = Counter()
    for week in weeks:
        counts.update(week.counts)
    told = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    about = weeks[0].about if len(weeks) == 1 else f"{weeks[0].about} and {len(weeks) - 1} more weeks"
    if all(week.is_known for week in weeks):
        about += f": {sum(counts.values())} troubles ({told})"
    lost = f"{_slowed(baselines):,.0f} GPU-h slowed, {of_nodes(baselines):,.0f} of them by single nodes"
    return [about, f"Where nobody acts: {lost}; {_price(baselines):,.0f} GPU-h of restarts and waiting"]


def _row(one: Compared) -> tuple[str, ...]:
    first = one.played[0]
    saved, cost = one.saved_gpu_hours, one.cost_gpu_hours
    out = sum(each.losses.fenced_node_s for each in one.played) / HOUR_S
    most = max(each.losses.most_out for each in one.played)
    back = one.count("undone") if one.deeds else 0
    numbers = (one.of(True), one.of(False), back, one.count("proposed"), one.count("approved"))
    counts = ("?" if number is None else str(number) for number in numbers)
    most_savable = of_nodes(one.baselines)
    share = f"{saved / most_savable:.0%}" if most_savable > 0 else ""
    hours = (_hours(value) for value in (cost, saved - cost, out))
    return (first.name, _verbs(one), *counts, _hours(saved), share, *hours, str(most))


def _hours(value: float) -> str:
    """Return a number of hours without a minus before nothing.

    >>> _hours(-0.2), _hours(1234.5)
    ('0', '1,234')
    """
    return f"{round(value):,}"


def _verbs(one: Compared) -> str:
    """Return the acts by verb, the gentlest first; of a policy that looks on what it would have told."""
    done = Counter(deed.verb for deed in one.deeds)
    told = Counter[str]()
    for each in one.played:
        told.update(each.told)
    verbs = ", ".join(f"{verb} {done[verb]}" for verb in VERBS if done[verb])
    if not verbs and told:
        return "nothing; tells " + ", ".join(f"{verb} {told[verb]}" for verb in VERBS if told[verb])
    return verbs or "nothing"


def _deed_lines(one: Compared) -> list[str]:
    shown = [deed for deed in one.deeds if deed.verb in (*LADDER, "requeue")]
    lines = [_deed_line(deed) for deed in shown[:MOST_DEEDS]]
    return lines + ([f"  ... and {len(shown) - MOST_DEEDS} more (--json)"] if len(shown) > MOST_DEEDS else [])


def _deed_line(deed: Deed) -> str:
    when = datetime.fromtimestamp(deed.time_ns / 1e9, UTC).strftime("%a %d %b %H:%M")
    sure = {True: "right", False: "wrong", None: ""}[deed.right]
    return f"  {when}  {deed.verb:10} {deed.target:8} {deed.condition:24} of {deed.job or '-':8} {sure}".rstrip()


def document(weeks: Sequence[Week], compared: Sequence[Compared]) -> dict[str, Any]:
    """Return the document `skewscope.replay/1`."""
    baselines = compared[0].baselines
    told = {
        "schema": SCHEMA,
        "weeks": [{"about": one.about, "start_ns": one.start_ns, "end_ns": one.end_ns, "nodes": len(one.machines),
                   "jobs": len(one.works), "is_known": one.is_known, "troubles": one.counts} for one in weeks],
        "nobody": {"slowed_gpu_hours": _slowed(baselines), "of_nodes_gpu_hours": of_nodes(baselines),
                   "price_gpu_hours": _price(baselines)},
        "policies": [_policy(one) for one in compared],
    }  # fmt: skip
    made: dict[str, Any] = plain(told)
    return made


def _policy(one: Compared) -> Mapping[str, Any]:
    first, verbs = one.played[0], Counter(deed.verb for deed in one.deeds)
    phases = ("observed", "proposed", "approved", "rejected", "expired", "undone", "failed", "refused", "breaker")
    held: Counter[str] = Counter()
    for each in one.played:
        held.update(each.held)
    return {
        "name": first.name, "mode": first.mode, "version": first.version, "saved_gpu_hours": one.saved_gpu_hours,
        "cost_gpu_hours": one.cost_gpu_hours, "net_gpu_hours": one.saved_gpu_hours - one.cost_gpu_hours,
        "slowed_gpu_hours": _slowed(one.played), "price_gpu_hours": _price(one.played), "acts": verbs,
        "right": one.of(True), "wrong": one.of(False), "records": {phase: one.count(phase) for phase in phases},
        "tests": {"pass": sum(each.passed for each in one.played), "fail": sum(each.failed for each in one.played)},
        "held": held, "fenced_node_hours": sum(each.losses.fenced_node_s for each in one.played) / HOUR_S,
        "most_out": max(each.losses.most_out for each in one.played),
        "restarts": sum((each.losses.restarts for each in one.played), Counter()),
        "deeds": [asdict(deed) for deed in one.deeds],
    }  # fmt: skip
