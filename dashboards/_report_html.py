"""The words and tables of the report page, as HTML in which every foreign text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from skewscope import __version__
from skewscope.reports import wording

from ._chart import Chart, Found

NO_SCRIPT = '<noscript><p class="note">The drawing needs JavaScript; the table holds its main numbers.</p></noscript>'
MOST = 60  # rows of findings or inputs before the page refers to the JSON


def body(document: Mapping[str, Any], charts: Sequence[Chart], views: Sequence[Chart] = ()) -> str:
    """Return everything between the body tags but the scripts."""
    sections = [
        _findings(wording.culprits_first(document["findings"])),
        _todo(document),
        '<h2 id="charts-top">Charts</h2>' + "".join(_chart(chart) for chart in charts),
        '<h2 id="views-top">Views</h2>' + "".join(_chart(chart) for chart in views) if views else "",
        _remarks(document),
        _inputs(document["inputs"]),
    ]
    return f"{_header(document, views=bool(views))}<main>\n{''.join(sections)}</main>\n{_footer(document)}"


def plain_body(title: str, said: str, charts: Sequence[Chart]) -> str:
    """Return the body of a page that holds nothing but charts."""
    inner = "".join(_chart(chart) for chart in charts)
    footer = f"<footer>skewscope {__version__}. Times of day are UTC.</footer>\n"
    return f"<header><h1>{text(title)}</h1><p>{text(said)}</p></header><main>\n{inner}</main>\n{footer}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Return an HTML table in a frame that keyboards can scroll; all texts are escaped."""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>\n" for row in rows)
    return _framed(f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>", name)


def text(value: object) -> str:
    """Return foreign text as safe HTML.

    >>> text("<script>")
    '&lt;script&gt;'
    """
    return escape(wording.clean(value))


def _framed(inner: str, name: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(name)}"><table>{inner}</table></div>\n'


def _cell(value: str) -> str:
    kind = ' class="tight"' if len(value) <= 16 else ' class="long"' if len(value) > 32 else ""
    return f"<td{kind}>{text(value)}</td>"


def _header(document: Mapping[str, Any], *, views: bool) -> str:
    places = {"findings": "Findings", "todo": "What to do", "charts-top": "Charts", "views-top": "Views",
              "inputs": "Inputs"}  # fmt: skip
    if not views:
        del places["views-top"]
    links = "".join(f'<a href="#{place}">{name}</a>' for place, name in places.items())
    verdict = text(document["summary"]["verdict"])
    return (
        f'<header><p class="brand">skewscope report</p><h1>{verdict}</h1>{_cards(document)}'
        f'<nav aria-label="sections"><p>{links}</p></nav></header>\n'
    )


def _cards(document: Mapping[str, Any]) -> str:
    job, summary = document["job"], document["summary"]
    times = summary["step_time_s"]
    layout = ", ".join(f"{key} {size}" for key, size in job["parallelism"].items() if size and size > 1)
    cards = [
        ("Ranks", str(job["ranks"]), layout),
        ("Steps", str(job["steps"]), ""),
        ("Step time", wording.seconds(times["mean"]), f"p99 {wording.seconds(times['p99'])}"),
        ("Ideal step", wording.seconds(summary["ideal_step_time_s"]), "every cause repaired"),
        ("Slowdown", wording.ratio(summary["slowdown"]), "measured over ideal"),
        ("Wasted", wording.share(summary["wasted_share"]), f"{wording.hours(summary['wasted_gpu_hours'])} GPU-hours"),
    ]
    made = "".join(
        f"<div><dt>{name}</dt><dd>{text(said)}<small>{text(more)}</small></dd></div>" for name, said, more in cards
    )
    return f'<dl class="cards">{made}</dl>'


def _findings(findings: Sequence[Found]) -> str:
    title = '<h2 id="findings">Findings</h2>\n'
    if not findings:
        return f'{title}<p class="good">Nothing was found that makes this job slow.</p>\n'
    columns = ("", "severity", "who", "condition", "role", "cost/step", "share", "GPU-h", "conf.", "when")
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    lines = "".join(_finding(one) for one in findings[:MOST])
    more = f"<p>{len(findings) - MOST} more are in the JSON report.</p>" if len(findings) > MOST else ""
    return (
        f"{title}{_framed(f'<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>', 'findings')}{more}{_proof(findings)}"
    )


def _finding(one: Found) -> str:
    cost, grade = one["cost"], one["severity"]
    cells = [
        wording.who(one["subject"]), one["condition"], one["role"], *wording.price(cost),
        wording.share(one["confidence"]), wording.window(one["window"]),
    ]  # fmt: skip
    mark = f'<td class="tight">{text(one["id"])}</td><td><span class="mark {text(grade)}">{text(grade)}</span></td>'
    return f'<tr class="{text(one["role"])}">{mark}{"".join(_cell(cell) for cell in cells)}</tr>\n'


def _proof(findings: Sequence[Found]) -> str:
    parts = []
    for one in findings[:MOST]:
        if not one["evidence"]:
            continue
        rows = [
            (
                signal["signal"],
                *(wording.quantity(signal[name], signal["unit"]) for name in ("value", "baseline", "threshold")),
            )
            for signal in one["evidence"]
        ]  # fmt: skip
        linked = f"<p>Explains: {text(', '.join(one['explains']))}</p>" if one["explains"] else ""
        parts.append(
            f"<h3>{text(one['id'])} {text(one['condition'])}</h3><p>{text(one.get('summary', ''))}</p>{linked}"
            + table(("signal", "value", "usual", "threshold"), rows, f"evidence of {one['id']}")
        )
    return f"<details><summary>Evidence of each finding</summary>{''.join(parts)}</details>\n" if parts else ""


def _todo(document: Mapping[str, Any]) -> str:
    title = '<h2 id="todo">What to do next</h2>\n'
    culprits = [one for one in document["findings"] if one["role"] == "culprit"]
    if not culprits:
        return f"{title}<p>Nothing to repair: no rank, link, stage or host was found guilty.</p>\n"
    items = "".join(_task(one, document["recommendations"]) for one in culprits[:8])
    return f'{title}<ol class="todo">{items}</ol>\n'


def _task(one: Found, recommendations: Sequence[Found]) -> str:
    advice = one.get("advice") or "See the runbook"
    runbook = f"<code>skewscope conditions {text(one['runbook'])}</code>"
    actions = "".join(_action(answer) for answer in recommendations if one["id"] in answer["for"])
    summary = one.get("summary") or f"{one['condition']}: {wording.who(one['subject'])}"
    return f"<li><strong>{text(summary)}</strong><p>{text(advice.rstrip('.'))}. Runbook: {runbook}</p>{actions}</li>\n"


def _action(answer: Found) -> str:
    gain, replayed = answer["predicted"], wording.replayed(answer)
    more = f" {text(replayed[0].upper() + replayed[1:])}." if replayed else ""
    return (
        f"<p>Recommended: {text(answer['action'])}; at best the step takes {wording.share(gain['step_time_ratio'])} of "
        f"today's time and {wording.hours(gain['gpu_hours_saved'])} GPU-hours are saved (confidence "
        f"{wording.share(gain['confidence'])}). Cost: {text(answer['cost'])}. Risk: {text(answer['risk'])}.{more}</p>"
    )


def _chart(chart: Chart) -> str:
    said = text(chart.verdict)
    plot = ""
    if chart.figure is not None:
        spoken = f"{text(chart.title)}: {said}"
        plot = f'<div class="plot" id="plot-{chart.name}" role="img" aria-label="{spoken}"></div>{NO_SCRIPT}'
    beside = table(chart.columns, chart.rows, f"table of {chart.title}") if chart.rows else ""
    note = f'<p class="note">{text(chart.note)}</p>' if chart.note else ""
    wide = " wide" if len(chart.columns) > 5 or not chart.rows else ""
    return (
        f'<section class="chart" id="chart-{chart.name}"><h3>{text(chart.title)}</h3>'
        f'<p class="said verdict">{said}</p><div class="both{wide}">{plot}{beside}</div>{note}</section>\n'
    )


def _remarks(document: Mapping[str, Any]) -> str:
    said = wording.aside(document)
    if not said:
        return ""
    items = "".join(f"<li>{text(line)}</li>" for line in said[:MOST])
    return f"<h2>Context, and what cannot be decided</h2><ul>{items}</ul>\n"


def _inputs(inputs: Sequence[Found]) -> str:
    bad = [one for one in inputs if one["status"] != "ok"]
    rows = [
        (
            one["status"], one["path"], one["format"] or wording.UNKNOWN,
            wording.UNKNOWN if one["rank"] is None else str(one["rank"]), f"{one['events']:,}", one["error"] or "",
        )
        for one in [*bad, *(one for one in inputs if one["status"] == "ok")][:MOST]
    ]  # fmt: skip
    said = f"{len(inputs) - len(bad)} of {len(inputs)} files were read whole."
    if len(inputs) > MOST:
        said += f" {MOST} are listed, those with problems first."
    listed = table(("status", "file", "format", "rank", "events", "reason"), rows, "inputs")
    opened = " open" if bad else ""
    return f'<h2 id="inputs">Inputs</h2><details{opened}><summary>{said}</summary>{listed}</details>\n'


def _footer(document: Mapping[str, Any]) -> str:
    return f"<footer>skewscope {__version__}, {text(document['schema'])}. Times of day are UTC.</footer>\n"
