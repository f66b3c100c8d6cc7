"""Blocks as parts of a page: heading, verdict, switches, chart, table, exports. All foreign text stays text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode

from dash import dcc, html
from plotly.io.json import to_json_plotly

from skewscope.reports import wording

from ._act_diff import KINDS
from ._page import Block, Cell, Control, Form, Link
from ._selection import Selection
from ._spoken import current, labelled, named

MOST_ROWS = 500
CONFIG: Any = {
    "displaylogo": False, "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "sendDataToCloud", "autoScale2d"],
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A block ready to be shown: the parts that change with the data apart from the frame that does not."""

    name: str
    zoom: bool
    wide: bool
    words: list[Any]
    figure: Mapping[str, Any] | None
    table: list[Any] | None
    foot: list[Any]
    mark: str  # changes with the content

    @property
    def shape(self) -> str:
        """What the frame holds: while it stays, the parts can be changed in place, and a zoom survives.

        >>> Drawn("map", False, False, [], {}, None, [], "a").shape
        'map plot'
        """
        plot = ("zoom" if self.zoom else "plot") if self.figure is not None else ""
        return " ".join(
            [self.name, plot, "table" if self.table is not None else "", "wide" if self.wide else ""]
        ).strip()

    def section(self) -> html.Section:
        """Return the block as a part of a page."""
        both: list[Any] = [] if self.figure is None else [self._plot(self.figure)]
        if self.table is not None:
            both.append(html.Div(self.table, id={"kind": "table", "name": self.name}))
        parts: list[Any] = [html.Div(self.words, id={"kind": "words", "name": self.name})]
        if both:
            parts.append(html.Div(both, className="both wide" if self.wide else "both"))
        parts.append(html.Div(self.foot, id={"kind": "foot", "name": self.name}))
        return html.Section(parts, className="chart", id=f"block-{self.name}")

    def parts(self, figure: Mapping[str, Any] | None = None) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Yield (id, properties) of the parts that change with the data; `figure` takes the place of the block's."""
        yield {"kind": "words", "name": self.name}, {"children": self.words}
        yield {"kind": "foot", "name": self.name}, {"children": self.foot}
        if self.table is not None:
            yield {"kind": "table", "name": self.name}, {"children": self.table}
        if self.figure is not None:
            yield {"kind": self._kind, "name": self.name}, {"figure": figure or self.figure}

    @property
    def _kind(self) -> str:
        return "zoom" if self.zoom else "plot"

    def _plot(self, figure: Mapping[str, Any]) -> html.Figure:
        height = figure["layout"].get("height", 380)
        graph = dcc.Graph(
            id={"kind": self._kind, "name": self.name}, figure=dict(figure), style={"height": f"{height}px"},
            config=_config(self.name), responsive=True,
        )  # fmt: skip
        return html.Figure(graph, **labelled(f"title-{self.name} said-{self.name}"))


def drawn(
    block: Block, figure: Mapping[str, Any] | None, page: str, path: str, selection: Selection, *, acting: bool
) -> Drawn:
    """Return a block ready to be shown; `figure` is its figure in the page's colours; `acting` shows its forms."""
    words = _words(block, path, selection, empty=figure is None and not block.rows)
    table = _table(block) if block.rows else None
    foot = _foot(block, page, selection, acting=acting, plot=figure is not None)
    wide = figure is None or len(block.columns) > 5
    mark = blake2b(to_json_plotly([words, figure, table, foot]).encode(), digest_size=6).hexdigest()
    return Drawn(block.name, block.zoom, wide, words, figure, table, foot, mark)


def _words(block: Block, path: str, selection: Selection, *, empty: bool) -> list[Any]:
    words: list[Any] = [
        html.H2(wording.clean(block.title), id=f"title-{block.name}"),
        html.P(wording.clean(block.verdict), className="verdict", id=f"said-{block.name}"),
    ]
    if block.advice and empty:
        words.append(html.P(wording.clean(block.advice), className="advice"))
    words += [_control(one, path, selection) for one in block.controls]
    return words + ([_lines(block)] if block.lines else [])


def _lines(block: Block) -> html.Pre:
    """Return lines as they are; what goes and what comes differ by their sign, and by colour."""
    lines = [html.Span(f"{wording.clean(one)}\n", className=KINDS.get(one[:2], "")) for one in block.lines]
    label = named(f"changes of {wording.clean(block.title)}")
    return html.Pre(lines, className="diff", tabIndex="0", role="region", **label)


def _foot(block: Block, page: str, selection: Selection, *, acting: bool, plot: bool) -> list[Any]:
    parts: list[Any] = []
    if block.note:
        parts.append(html.P(wording.clean(block.note), className="note"))
    if block.links:
        parts.append(html.P([_cell(one) for one in block.links], className="leads"))
    if acting and block.forms:
        parts.append(html.P([_form(one) for one in block.forms], className="leads"))
    if block.rows or block.data is not None:
        parts.append(_exports(block, page, selection, plot=plot))
    return parts


def _config(name: str) -> Any:  # noqa: ANN401 - plotly's own keys
    return {**CONFIG, "toImageButtonOptions": {"filename": f"skewscope-{name}"}}


def _table(block: Block) -> list[Any]:
    head = html.Tr([html.Th(wording.clean(name), scope="col") for name in block.columns])
    rows = [html.Tr([_data(cell) for cell in row]) for row in block.rows[:MOST_ROWS]]
    inner = html.Table([html.Thead(head), html.Tbody(rows)])
    label = named(f"table of {wording.clean(block.title)}")
    more = f"{len(block.rows) - MOST_ROWS:,} more rows are in the exports." if len(block.rows) > MOST_ROWS else ""
    return [
        html.Div(inner, className="scroll", tabIndex="0", role="region", **label),
        *([html.P(more)] if more else []),
    ]


def _data(cell: Cell) -> html.Td:
    text = cell.text if isinstance(cell, Link) else cell
    return html.Td(_cell(cell), className="tight" if len(text) <= 16 else "")


def _cell(cell: Cell) -> Any:  # noqa: ANN401 - text or a component
    if not isinstance(cell, Link):
        return wording.clean(cell)
    inside = cell.href.startswith("/") and not cell.href.startswith(("//", "/\\"))
    text = wording.clean(cell.text)
    return html.A(text, href=cell.href, className="in") if inside else text


def _control(control: Control, path: str, selection: Selection) -> html.Nav:
    links = []
    for value, text in control.options:
        href = selection.link(path, **{control.field: value})
        links.append(html.A(wording.clean(text), href=href, className="in", **current(value == control.chosen)))
    label = wording.clean(control.label)
    return html.Nav([html.Span(label), *links], className="switch", **named(label))


def _form(form: Form) -> html.A:
    """Return the way to a form: it is a plain page of its own, where the person confirms."""
    return html.A(wording.clean(form.label), href=f"/act/{form.action}?{urlencode(form.fields)}", className="act")


def _exports(block: Block, page: str, selection: Selection, *, plot: bool) -> html.P:
    base, query = f"/export/{page}/{block.name}", selection.query()
    title = wording.clean(block.title)
    links: list[Any] = [
        html.A(kind, href=f"{base}.{kind.lower()}{query}", download="", **named(f"{kind} of {title}"))
        for kind in ("CSV", "Parquet")
    ]
    if plot:
        links += [
            html.Button(kind, className=f"does-{kind.lower()}", **named(f"{kind} of {title}"))
            for kind in ("PNG", "SVG")
        ]
    return html.P(links, className="exports")
