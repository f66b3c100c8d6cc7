"""What can be taken away: the data of a block as CSV or Parquet, a page as one HTML file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import flask
import pandas as pd

from skewscope.reports import wording

from ._chart import Chart
from ._page import Block, Link
from ._plain import refusal
from ._selection import Selection
from .report_page import standing

if TYPE_CHECKING:
    from .app import Dashboard

KINDS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
RISKY = ("=", "+", "-", "@", "\t", "\r")


def install(server: flask.Flask, dashboard: Dashboard) -> None:
    """Add /export/PAGE/BLOCK.csv, .parquet and /export/PAGE.html, for the selection in the query."""

    def block(page: str, name: str, kind: str) -> flask.Response:
        found = [one for one in _blocks(dashboard, page) or () if one.name == name]
        if not found or kind not in KINDS:
            return refusal(404, "There is no such export.")
        return _attached(encoded(found[0].table(), kind), KINDS[kind], f"skewscope-{page}-{name}.{kind}")

    def whole(page: str) -> flask.Response:
        found = _blocks(dashboard, page)
        if found is None:
            return refusal(404, "There is no such page.")
        view = dashboard.view()
        title = f"skewscope: {dashboard.pages[page].title}"
        said = f"{view.title}, data of {wording.clock(view.time_ns) if view.time_ns > 0 else 'unknown time'}."
        text = standing(title, said, [_chart(one) for one in found])
        return _attached(text.encode(), "text/html; charset=utf-8", f"skewscope-{page}.html")

    server.add_url_rule("/export/<page>/<name>.<kind>", "export", block)
    server.add_url_rule("/export/<page>.html", "export-page", whole)


def _blocks(dashboard: Dashboard, page: str) -> Sequence[Block] | None:
    if page not in dashboard.pages:
        return None
    selection = Selection.of(flask.request.query_string.decode("ascii", "replace"))
    return dashboard.blocks(dashboard.view(), page, selection)


def encoded(table: pd.DataFrame, kind: str) -> bytes:
    r"""Return a table as CSV or Parquet. In CSV no text can be taken for a formula by a spreadsheet.

    >>> encoded(pd.DataFrame({"a": ["=1+1"]}), "csv")
    b"a\n'=1+1\n"
    """
    if kind == "parquet":
        plain = table.rename(columns=str)
        return bytes(plain.to_parquet(index=False))
    safe = pd.DataFrame({_guarded(str(name)): _safe(column) for name, column in table.items()})
    held = io.StringIO()
    safe.to_csv(held, index=False, lineterminator="\n")
    return held.getvalue().encode("utf-8", "replace")


def _safe(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    return column.astype(object).map(lambda one: _guarded(one) if isinstance(one, str) else one)


def _guarded(text: str) -> str:
    risky = text.startswith(RISKY) and not text[1:2].isdigit() or text.startswith(("=", "@"))
    return f"'{text}" if risky and text != "-" else text


def _attached(body: bytes, kind: str, name: str) -> flask.Response:
    reply = flask.Response(body, content_type=kind)
    reply.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return reply


def _chart(block: Block) -> Chart:
    rows = tuple(tuple(cell.text if isinstance(cell, Link) else cell for cell in row) for row in block.rows)
    note = " ".join(part for part in (block.advice, block.note, "; ".join(block.lines)) if part)
    return Chart(block.name, block.title, block.verdict, block.figure, block.columns, rows, note)
