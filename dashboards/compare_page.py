"""The HTML page of a comparison: a pure function of its document `skewscope.compare/1` and both runs' steps."""

from __future__ import annotations

from . import report_page
from ._chart import Chart, Floats, Found
from ._charts_compare import charts


def page(document: Found, before_s: Floats, after_s: Floats) -> str:
    """Return the whole page; it loads nothing from anywhere, and every foreign text is escaped.

    The arrays are the judged steps of both runs in s.
    """
    drawn = charts(document, before_s, after_s)
    if document["notes"]:
        rows = tuple((note,) for note in document["notes"])
        drawn.append(Chart("notes", "What to know", "How far these numbers reach.", None, ("note",), rows))
    title = f"{document['before']['name']} and {document['after']['name']}"
    return report_page.standing(f"skewscope compare: {title}", document["verdict"], drawn)
