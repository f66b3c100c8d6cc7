"""Plain pages, without any script: signing in and out, confirming an action, saying what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import flask

from skewscope.reports import wording


def text(value: object) -> str:
    """Return foreign text as safe HTML.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    return escape(wording.clean(value))


def page(title: str, body: str, status: int = 200) -> flask.Response:
    """Return a page; `body` is HTML in which foreign text is escaped already."""
    made = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{text(title)} - skewscope</title>\n<link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/assets/dashboard.css">\n</head>\n'
        f'<body class="plain"><main><h1>{text(title)}</h1>\n{body}\n</main></body>\n</html>\n'
    )
    return flask.Response(made, status, content_type="text/html; charset=utf-8")


def hidden(fields: Mapping[str, str]) -> str:
    """Return hidden values of a form.

    >>> hidden({"a": '"'})
    '<input type="hidden" name="a" value="&quot;">'
    """
    return "".join(f'<input type="hidden" name="{text(name)}" value="{text(one)}">' for name, one in fields.items())


def refusal(status: int, why: str) -> flask.Response:
    """Return a page that says why something is refused."""
    titles = {400: "Not understood", 401: "Sign in first", 403: "Not allowed", 404: "Not found", 413: "Too large",
              429: "Too many attempts"}  # fmt: skip
    made = page(titles.get(status, "That did not work"), f'<p>{text(why)}</p><p><a href="/">Overview</a></p>', status)
    if status == 429:
        made.headers["Retry-After"] = "30"
    return made
