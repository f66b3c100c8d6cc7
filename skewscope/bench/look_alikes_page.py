"""The matrix of look-alikes for people: a page of the documentation, and a page on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..reports import wording
from .look_alikes import WORLD
from .totals import NOTHING

Document = Mapping[str, Any]
WIDTH = 120
TITLE = "# Look-alikes told apart\n\n"
PARAGRAPHS = (
    "{pairs} pairs of conditions are confused by people: the pages of the rooms name them (`skewscope conditions "
    "NAME`, under *Look-alikes*). For each of the two there are runs in which it alone is true. This page counts what "
    "was then named as the root cause.",
    "Measured with {seeds} from {first}{effect}, all rooms watching as they would live. Conditions marked "
    "with * show in recordings only: there all rooms look at the worlds of the condition's own room, once each.",
    "{runs} runs: {right} name the true condition ({share}), {mixed} its look-alike ({causes} of them one that is "
    "known to make it visible), {otherwise} something else, {nothing} nothing. In {besides} runs a look-alike was "
    "wrongly claimed as well, at any time. {apart} of {tried} pairs are told apart both ways in every run.",
    "Repeat it: `skewscope bench look-alikes {flag}{strength}--seeds {count} --every {every} --markdown FILE`.",
)
FAMILIES = """
## By family

Rows are what was true, columns what was named (numbers are those of the rows); empty is never.
"""
PAIRS = """
## By pair

*Right*: the true one was named; *mixed*: its look-alike was; *else*: another condition; *none*: nothing; *too*: the
look-alike was claimed as well, at some time. An arrow points from a cause to what it makes visible.

| first | | second | only the first is true: runs | right | mixed | else | none | too \
| only the second: runs | right | mixed | else | none | too |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
COUNTS = ("runs", "right", "look_alike", "something_else", "nothing", "besides")
MOST = 12  # pairs that are told one by one on a terminal


def markdown(document: Document) -> str:
    """Return a Markdown page of a `skewscope.look_alikes/1` document."""
    overall, seeds = document["overall"], document["seeds"]
    effect = document["effect"]
    values = dict(
        pairs=overall["pairs"], count=seeds["count"], seeds=_seeds(seeds), first=seeds["first"],
        effect=f", each fault strong enough to cost {effect:.0%} of the step where it can" if effect else "",
        runs=overall["runs"], right=overall["right"], share=wording.share(overall["right_share"]),
        mixed=overall["look_alike"], causes=overall["causes"], otherwise=overall["something_else"],
        nothing=overall["nothing"], besides=overall["besides"],
        apart=overall["pairs_told_apart"], tried=overall["pairs_tried"],
        flag="--judge " if seeds["set"] == "judging" else "", strength=f"--effect {effect:g} " if effect else "",
        every=document["looks"]["every_windows"],
    )  # fmt: skip
    blocks = "".join(_block(family) for family in document["families"])
    head = "\n\n".join(fill(part.format(**values), WIDTH, break_on_hyphens=False) for part in PARAGRAPHS)
    return TITLE + head + "\n" + FAMILIES + blocks + PAIRS + "".join(_pair_line(pair) for pair in document["pairs"])


def _seeds(told: Document) -> str:
    """Return how many seeds of which set.

    >>> _seeds({"count": 1, "set": "judging"})
    '1 judging seed'
    """
    return f"{told['count']} {told['set']} seed{'s' if told['count'] != 1 else ''}"


def _block(family: Document) -> str:
    rows, columns = family["rows"], family["columns"]
    heads = [str(number) for number in range(1, len(rows) + 1)]
    heads += [column if column == NOTHING else f"`{column}`" for column in columns[len(rows) :]]
    lines = [f"\n### {family['family']}\n\n| | true | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}\n"]
    for number, (row, counts) in enumerate(zip(rows, family["counts"], strict=True), 1):
        cells = " | ".join(str(count) if count else "" for count in counts)
        star = "*" if WORLD in family["made_of"][row] else ""
        lines.append(f"| {number} | `{row}`{star} | {cells} |\n")
    return "".join(lines)


def _pair_line(pair: Document) -> str:
    arrow = {pair["one"]: "→", pair["other"]: "←"}.get(pair["cause"], "")
    cells = [str(pair[side][name]) for side in ("only_one", "only_other") for name in COUNTS]
    return f"| `{pair['one']}` | {arrow} | `{pair['other']}` | {' | '.join(cells)} |\n"


def page(document: Document) -> RenderableType:
    """Return the page of a `skewscope.look_alikes/1` document for a terminal."""
    overall, seeds = document["overall"], document["seeds"]
    first = (f"{overall['runs']} runs in which only one of two look-alikes is true, {_seeds(seeds)} from "
             f"{seeds['first']}")  # fmt: skip
    lines: list[RenderableType] = [Text(first), _families(document["families"])]
    lines += [Text(line) for line in _mixed(document["pairs"])]
    lines += [Text(wording.clean(line)) for line in _remarks(document)]
    return Group(*lines)


def _families(families: Iterable[Document]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(("true", "runs", "right", "named instead")):
        table.add_column(column, justify="right" if number in (1, 2) else "left")
    for family in families:
        for row, counts in zip(family["rows"], family["counts"], strict=True):
            named = dict(zip(family["columns"], counts, strict=True))
            instead = ", ".join(f"{name} {count}" for name, count in named.items() if count and name != row)
            table.add_row(row, str(sum(counts)), str(named[row]), instead)
    return table


def _mixed(pairs: Sequence[Document]) -> Iterator[str]:
    """Yield the pairs of which one was named, or claimed too, where the other was true."""
    sides = [(pair["one"], pair["other"], pair["only_one"]) for pair in pairs]
    sides += [(pair["other"], pair["one"], pair["only_other"]) for pair in pairs]
    told = [
        f"Mixed up: {truth} is true, {other} was named in {side['look_alike']} and claimed too in {side['besides']} "
        f"of {side['runs']} runs"
        for truth, other, side in sides
        if side["look_alike"] or side["besides"]
    ]
    yield from told[:MOST]
    if len(told) > MOST:
        yield f"  and {len(told) - MOST} more in the JSON"


def _remarks(document: Document) -> Iterator[str]:
    overall = document["overall"]
    share = wording.share(overall["right_share"])
    yield (
        f"{overall['right']} of {overall['runs']} runs name the true condition ({share}); "
        f"{overall['pairs_told_apart']} of {overall['pairs_tried']} pairs are told apart in every run, both ways"
    )
    if document["untried"]:
        yield f"No run has only: {', '.join(document['untried'])}"
    yield from (
        f"Failed: {one['scenario']} with seed {one['seed']}: {one['error']}" for one in document["failures"][:MOST]
    )
