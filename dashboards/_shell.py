"""What stands around the pages: header, navigation, landmarks and help; it never changes with the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from skewscope.reports import wording

from ._page import Page
from ._selection import Selection
from ._spoken import current, keyed, named
from ._view import View

REFRESH_MS = 5_000
MOST_JOBS = 200
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
{%favicon%}
{%css%}
</head>
<body>
<noscript>This dashboard needs JavaScript. `skewscope analyze --html FILE` writes a page whose words and tables do
not.</noscript>
{%app_entry%}
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>
"""


def layout(*, live: bool, signing_in: bool = False) -> html.Div:
    """Return the frame of all pages; the callbacks fill `jobs`, `where`, `nav` and `page`."""
    out = [html.A("Sign out", href="/logout")] if signing_in else []
    return html.Div(
        [
            dcc.Location(id="place", refresh="callback-nav"),
            dcc.Store(id="theme"),
            dcc.Store(id="sent"),
            dcc.Store(id="seen"),
            dcc.Store(id="told"),
            dcc.Interval(id="tick", interval=REFRESH_MS, disabled=not live),
            html.A("Skip to the content", href="#content", className="skip"),
            _header(),
            html.Nav(id="nav", className="pages", **named("pages")),
            html.Main(html.Div("Loading ...", id="page"), id="content", tabIndex="-1"),
            _help(),
            html.Footer([html.Span("Times of day are UTC. Press ? for keys."), *out]),
        ],
        id="shell",
    )


def _header() -> html.Header:
    return html.Header(
        [
            html.Div([html.Strong("skewscope"), html.Span(id="where", role="status")], className="brand"),
            html.Div(
                [
                    html.Div(id="jobs"),
                    html.Button("Theme", id="theme-button", n_clicks=0, title="dark or light"),
                    html.Button("Density", className="does-density", title="roomy or dense"),
                    html.Button("Copy link", className="does-link", title="a link to what is shown"),
                    html.Button("Keys", className="does-help", title="keyboard help"),
                ],
                className="tools",
            ),
        ]
    )


def _help() -> html.Dialog:
    return html.Dialog(
        [
            html.H2("Keys"),
            html.Ul(id="help-keys"),
            html.P("Charts: drag to zoom, double-click to see all. Tables hold the same numbers; Tab reaches them."),
            html.Button("Close", className="does-close"),
        ],
        id="help", **named("keyboard help"),
    )  # fmt: skip


def navigation(pages: Sequence[Page], path: str, selection: Selection) -> list[html.A]:
    """Return the links to all pages, which keep the selection but for the page's own switches."""
    kept = selection.having(show="", order="")
    keys = letters([page.title for page in pages])
    made = []
    for page, key in zip(pages, keys, strict=True):
        here = current(page.path == path, "page")
        made.append(html.A(page.title, href=kept.link(page.path), className="in", **keyed(key), **here))
    return made


def letters(titles: Sequence[str]) -> list[str]:
    """Return one key for each title, its first letter that is free.

    >>> letters(["Why", "Overview", "Wait"])
    ['w', 'o', 'a']
    """
    used: list[str] = []
    for title in titles:
        free = [letter for letter in title.lower() + "abcdefghijklmnopqrstuvwxyz" if letter.isalpha()]
        used.append(next(letter for letter in free if letter not in used))
    return used


def kept(page: str, selection: Selection) -> html.P:
    """Return the link that saves the page as it is."""
    href = f"/export/{page}.html{selection.query()}"
    return html.P(html.A("Save this page as one HTML file", href=href, download=""), className="exports")


def where(view: View) -> list[Any]:
    """Return what is shown and how old it is, in the header."""
    time = wording.clock(view.time_ns) if view.time_ns > 0 else "time unknown"
    dot = [html.Span("", className="dot late" if view.errors else "dot"), "live "] if view.live else []
    late = [html.Span(f" - {view.errors[0]}", className="late")] if view.errors else []
    return [*dot, html.Span(wording.clean(view.title)), f", data of {time}", *late]


def jobs(view: View, path: str, selection: Selection) -> list[Any]:
    """Return the job selector, nothing where there is one job or none."""
    names = view.jobs()
    if len(names) < 2 and not selection.job:
        return []
    links = [html.Li(_job(name, path, selection)) for name in ("", *names[:MOST_JOBS])]
    chosen = wording.clean(selection.job) or "all jobs"
    return [html.Details([html.Summary(f"Job: {chosen}"), html.Ul(links)], className="menu")]


def _job(name: str, path: str, selection: Selection) -> html.A:
    here = current(name == selection.job)
    return html.A(wording.clean(name) or "all jobs", href=selection.link(path, job=name), className="in", **here)
