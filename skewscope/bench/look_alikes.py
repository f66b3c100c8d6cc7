"""What is claimed where only one of two look-alikes is true: the document `skewscope.look_alikes/1`.

A condition that a scenario has as its only fault is watched there as it would be live, with several seeds. The others
show in recordings only, so the worlds in which their own room must find them are shown to all rooms at once. The claim
of a run is the first that concerns the fault: the root cause that a report names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__, catalogue
from ..contracts import Detector, Finding, World
from ..precedence import EXPLAINED
from .cases import look
from .matching import WRONG
from .pairs import Pair, conditions, families
from .results import Case, Result
from .seeds import name
from .totals import NOTHING, share, wilson
from .watching import Watched

SCHEMA = "skewscope.look_alikes/1"
FLEET, WORLD = "fleet", "world"
Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What was said in one run where only `truth` was true.

    `claim` is the condition that was named first, or `nothing`; `besides` are the wrong claims of other conditions that
    were raised at any time; `scene` is the scenario or world, `kind` which of the two.
    """

    truth: str
    scene: str
    kind: str
    claim: str
    besides: frozenset[str] = frozenset()


def answers(results: Iterable[Result]) -> list[Answer]:
    """Return what was said in runs with one fault; runs that failed say nothing."""
    return [_answer(result.case, result.watched) for result in results
            if result.watched is not None and len(result.watched.caught) == 1]  # fmt: skip


def _answer(case: Case, watched: Watched) -> Answer:
    (caught,) = watched.caught
    truth = caught.fault.condition
    wrong = {alarm.condition for alarm in watched.alarms if alarm.outcome == WRONG}
    return Answer(truth, case.scenario, FLEET, caught.blamed or NOTHING, frozenset(wrong - {truth}))


def recorded(wanted: Collection[str]) -> list[Answer]:
    """Return what all rooms together say of the worlds of these conditions' own rooms."""
    made = []
    for condition in sorted(wanted):
        detector: Detector = catalogue.room("detectors", condition).load()
        made += [told(condition, world) for world in detector.cases() if world.expect]
    return made


def told(condition: str, world: World) -> Answer:
    """Return what is said of a world: its first culprit, else the condition itself where it is told without blame."""
    found = look(world.tables)
    claim = next((one.condition for one in found if one.role == "culprit"), "")
    if not claim:
        claim = condition if _is_told(condition, found) else NOTHING
    culprits = {one.condition for one in found if one.role == "culprit"}
    return Answer(condition, f"{condition}/{world.name}", WORLD, claim, frozenset(culprits - {condition, claim}))


def _is_told(condition: str, found: Iterable[Finding]) -> bool:
    return any(one.condition == condition for one in found)


def document(
    said: Sequence[Answer], some: Sequence[Pair], results: Sequence[Result], *, judge: bool, seeds: range
) -> Document:
    """Return `skewscope.look_alikes/1` of the answers about some pairs; `results` tell how they came about."""
    case = results[0].case if results else Case("", 0)
    tried = [_pair(pair, said) for pair in some]
    return {
        "schema": SCHEMA, "version": __version__,
        "seeds": {"set": name(judge), "first": seeds.start, "count": len(seeds)},
        "looks": {"every_windows": case.every}, "effect": case.effect,
        "overall": _overall(said, some, tried),
        "families": [_family(title, names, said) for title, names in families({one.truth for one in said})],
        "pairs": tried,
        "untried": sorted(set(conditions(some)) - {one.truth for one in said}),
        "failures": [{"scenario": one.case.scenario, "seed": one.case.seed, "error": one.error}
                     for one in results if one.error],
    }  # fmt: skip


def _pair(pair: Pair, said: Sequence[Answer]) -> Document:
    return {
        "one": pair.one, "other": pair.other, "told_by": list(pair.told_by), "cause": pair.cause,
        "only_one": _counts(pair.one, pair.other, said), "only_other": _counts(pair.other, pair.one, said),
    }  # fmt: skip


def _counts(truth: str, look_alike: str, said: Sequence[Answer]) -> Document:
    """Return how often which was named where `truth` alone was true; `besides`: the look-alike was claimed as well."""
    mine = [one for one in said if one.truth == truth]
    claims = Counter(one.claim for one in mine)
    known = claims[truth], claims[look_alike], claims[NOTHING]
    return {
        "runs": len(mine), "right": known[0], "look_alike": known[1], "something_else": len(mine) - sum(known),
        "nothing": known[2], "besides": sum(look_alike in one.besides for one in mine),
    }  # fmt: skip


def _family(title: str, names: Sequence[str], said: Sequence[Answer]) -> Document:
    """Return the matrix of a family: rows were true, columns named: its conditions, others where they were, nothing."""
    counts = Counter((one.truth, one.claim) for one in said if one.truth in names)
    others = sorted({claim for _, claim in counts} - {*names, NOTHING})
    columns = [*names, *others, NOTHING]
    return {
        "family": title, "rows": list(names), "columns": columns,
        "made_of": {row: sorted({one.kind for one in said if one.truth == row}) for row in names},
        "counts": [[counts[row, column] for column in columns] for row in names],
    }  # fmt: skip


def _overall(said: Sequence[Answer], some: Sequence[Pair], tried: Sequence[Document]) -> Document:
    likes = {(pair.one, pair.other) for pair in some} | {(pair.other, pair.one) for pair in some}
    right = sum(one.claim == one.truth for one in said)
    mixed = sum((one.truth, one.claim) in likes for one in said)
    nothing = sum(one.claim == NOTHING for one in said)
    apart = sum(_is_apart(one["only_one"]) and _is_apart(one["only_other"]) for one in tried)
    return {
        "runs": len(said), "right": right, "right_share": share(right, len(said)), "right_95": wilson(right, len(said)),
        "look_alike": mixed,
        "causes": sum((one.truth, one.claim) in likes and one.truth in EXPLAINED.get(one.claim, ()) for one in said),
        "something_else": len(said) - right - mixed - nothing, "nothing": nothing,
        "besides": sum(any((one.truth, other) in likes for other in one.besides) for one in said),
        "pairs": len(some), "pairs_told_apart": apart,
        "pairs_tried": sum(one["only_one"]["runs"] > 0 < one["only_other"]["runs"] for one in tried),
    }  # fmt: skip


def _is_apart(side: Document) -> bool:
    """Return whether the look-alike was never named where only the other was true."""
    return bool(side["runs"]) and not side["look_alike"] and not side["besides"]
