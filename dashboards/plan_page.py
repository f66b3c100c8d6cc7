"""The HTML page of a plan: a pure function of its document `skewscope.plan.NAME/1` and its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skewscope import __version__
from skewscope.plans import Picture
from skewscope.reports import wording

from . import _report_html, report_page
from ._chart import Chart
from ._plan_pictures import Drawn, drawn, number

Document = Mapping[str, Any]

MOST_STEPS, MOST_ROWS, LONGEST = 100, 40, 160
FAMILY = "skewscope.plan."
SECTIONS = {"metrics": "Before and after", "steps": "What to do", "pictures": "Pictures", "inputs": "Assumptions",
            "plan": "The plan"}  # fmt: skip


def page(document: Document, pictures: Sequence[Picture]) -> str:
    """Return the whole HTML page of a plan; it loads nothing from anywhere, and every foreign text is escaped.

    Without JavaScript all words and tables stay: each picture has its sentence and its numbers beside it.
    """
    made = [drawn(picture) for picture in pictures]
    charts = [
        Chart(f"{at}-{panel}", title, "", figure)
        for at, one in enumerate(made)
        for panel, (title, figure) in enumerate(one.panels)
    ]
    inner = (
        _header(document, bool(pictures)) + f"<main>\n{_body(document, pictures, made)}</main>\n" + _footer(document)
    )
    return report_page._whole(f"skewscope plan {_name(document)}", inner, charts)


def _name(document: Document) -> str:
    return str(document["schema"]).removeprefix(FAMILY).partition("/")[0]


def _header(document: Document, drawn_any: bool) -> str:
    text, shown = _report_html.text, dict(SECTIONS)
    if not drawn_any:
        shown.pop("pictures")
    if not document["steps"]:
        shown.pop("steps")
    links = "".join(f'<a href="#{place}">{name}</a>' for place, name in shown.items())
    bad = "" if document["feasible"] else '<p class="mark S1">No such plan is possible.</p>'
    return (
        f'<header><p class="brand">skewscope plan {text(_name(document))}</p><h1>{text(document["verdict"])}</h1>'
        f'{bad}{_cards(document)}<nav aria-label="sections"><p>{links}</p></nav></header>\n'
    )


def _cards(document: Document) -> str:
    metric, bound, gap = str(document["objective"]), document["lower_bound"], document["gap"]
    cards = [("Objective", metric, "")]
    if metric in document["proposed"]:
        now, planned = document["current"].get(metric), document["proposed"][metric]
        cards += [("Now", number(now), ""), ("Planned", number(planned), _change(now, planned))]
    if bound is not None:
        proved = "reached: no plan is better" if document["optimal"] else f"gap {_percent(gap)}"
        cards.append(("Bound", number(bound), proved))
    cards.append(("Worked out in", wording.seconds(document["solve_s"]), ""))
    text = _report_html.text
    made = "".join(
        f"<div><dt>{name}</dt><dd>{text(said)}<small>{text(more)}</small></dd></div>" for name, said, more in cards
    )
    return f'<dl class="cards">{made}</dl>'


def _percent(share: float | None) -> str:
    """Return a share with two digits, since gaps of plans are small.

    >>> _percent(0.00031), _percent(None)
    ('0.031 %', 'unknown')
    """
    return "unknown" if share is None else f"{100 * share:.2g} %"


def _body(document: Document, pictures: Sequence[Picture], made: Sequence[Drawn]) -> str:
    parts = [_warnings(document["warnings"]), _metrics(document), _steps(document["steps"])]
    if pictures:
        sections = (_picture(at, picture, one) for at, (picture, one) in enumerate(zip(pictures, made, strict=True)))
        parts += [_title("pictures"), *sections]
    inputs = [(name, said(value)) for name, value in document["inputs"].items()]
    parts += [_title("inputs"), _report_html.table(("what", "value"), inputs, "assumptions")]
    return "".join([*parts, _title("plan"), *_contents(document["plan"])])


def _title(place: str) -> str:
    return f'<h2 id="{place}">{SECTIONS[place]}</h2>\n'


def _warnings(warnings: Sequence[object]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{_report_html.text(one)}</li>" for one in warnings)
    return f'<h2>Know before you act</h2><ul class="warnings">{items}</ul>\n'


def _metrics(document: Document) -> str:
    now, planned = document["current"], document["proposed"]
    names = list(dict.fromkeys([*now, *planned]))
    rows = [
        (name, number(now.get(name)), number(planned.get(name)), _change(now.get(name), planned.get(name)),
         number(document["lower_bound"]) if name == document["objective"] else "")
        for name in names
    ]  # fmt: skip
    if not rows:
        return f"{_title('metrics')}<p>Nothing is compared.</p>\n"
    return _title("metrics") + _report_html.table(
        ("metric", "now", "planned", "change", "bound"), rows, "before and after"
    )


def _change(now: object, planned: object) -> str:
    """Return how much a metric changes, in percent of what it was.

    >>> _change(0.5, 0.75), _change(0, 3), _change(None, 1.0)
    ('+50 %', '', '')
    """
    known = [isinstance(one, int | float) and not isinstance(one, bool) for one in (now, planned)]
    if not all(known) or not now or now == planned:
        return ""
    percent = 100 * (planned - now) / abs(now)  # type: ignore[operator, arg-type]
    return f"{percent:+.1f} %" if abs(percent) < 9.95 else f"{percent:+,.0f} %"


def _steps(steps: Sequence[object]) -> str:
    if not steps:
        return ""
    items = "".join(f"<li>{_report_html.text(step)}</li>\n" for step in steps[:MOST_STEPS])
    more = f"<p>{len(steps) - MOST_STEPS:,} more are in the JSON.</p>" if len(steps) > MOST_STEPS else ""
    return f'{_title("steps")}<ol class="todo">{items}</ol>{more}\n'


def _picture(at: int, picture: Picture, one: Drawn) -> str:
    text = _report_html.text
    spoken = f"{text(picture.title)}: {text(picture.text)}"
    panels = "".join(
        f'<figure aria-label="{spoken}{f" ({text(name)})" if name else ""}">'
        f"{f'<figcaption>{text(name)}</figcaption>' if name else ''}"
        f'<div class="plot" id="plot-{at}-{panel}"></div></figure>'
        for panel, (name, _) in enumerate(one.panels)
    )
    empty = "" if panels else '<p class="note">There is nothing to draw.</p>'
    beside = _report_html.table(one.columns, one.rows, f"table of {picture.title}") if one.rows else ""
    note = f'<p class="note">{text(one.note)}</p>' if one.note else ""
    wide = " wide" if len(one.panels) > 1 or len(one.columns) > 5 else ""
    scripts = _report_html.NO_SCRIPT if panels else empty
    return (
        f'<section class="chart" id="picture-{at}"><h3>{text(picture.title)}</h3>'
        f'<p class="said verdict">{text(picture.text)}</p>'
        f'<div class="both{wide}"><div class="panels">{panels}{scripts}</div>{beside}</div>{note}</section>\n'
    )


def _contents(plan: Mapping[str, Any]) -> list[str]:
    """Return what the plan holds: short values and records as tables, long arrays by their size alone."""
    tables = {name: value for name, value in plan.items() if _records(value)}
    short = [(name, said(value)) for name, value in plan.items() if name not in tables]
    made = [_report_html.table(("what", "value"), short, "the plan")] if short else []
    for name, records in tables.items():
        columns = list(dict.fromkeys(key for record in records[:MOST_ROWS] for key in record))
        rows = [tuple(said(record.get(column)) for column in columns) for record in records[:MOST_ROWS]]
        more = f"<p>{len(records) - MOST_ROWS:,} more are in the JSON.</p>" if len(records) > MOST_ROWS else ""
        listed = _report_html.table(columns, rows, name)
        made.append(f"<details><summary>{_report_html.text(name)}</summary>{listed}{more}</details>\n")
    return made or ["<p>There is none.</p>\n"]


def _records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def said(value: object) -> str:
    """Return any JSON value in a few words: numbers short, long lists by their shape.

    >>> said([1, 2.5]), said([[0] * 288] * 58), said({"a": 0.25}), said(None)
    ('1, 2.5', '58 x 288 values', 'a 0.25', '-')
    """
    if isinstance(value, list):
        flat = all(not isinstance(one, list | Mapping) for one in value)
        if flat and len(value) <= 12:
            return ", ".join(map(number, value)) or "none"
        inner = f" x {len(value[0]):,}" if value and isinstance(value[0], list) else ""
        return f"{len(value):,}{inner} values"
    if isinstance(value, Mapping):
        flat = all(not isinstance(one, list | Mapping) for one in value.values())
        text = ", ".join(f"{key} {number(one)}" for key, one in value.items()) if flat else json.dumps(value)
        return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return number(value)


def _footer(document: Document) -> str:
    told = f"skewscope {__version__}, {_report_html.text(document['schema'])}"
    return f"<footer>{told}. A plan changes nothing by itself.</footer>\n"
