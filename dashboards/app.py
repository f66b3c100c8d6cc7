"""The dashboard: pages in, a server out. Pages read snapshots; the address holds what is selected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dash
import flask
from dash import MATCH, ClientsideFunction, Input, Output, State, html, no_update, set_props
from dash.exceptions import PreventUpdate

from skewscope.catalogue import rooms

from . import _acts, _export, _login, _security, _shell
from ._blocks import Drawn, drawn
from ._kept import Kept
from ._page import Block, Page, Zooming
from ._security import Guard
from ._selection import LONGEST_QUERY, Selection
from ._sources import Source
from ._theme import themed
from ._view import View
from ._zoom import Axes, Ends, held, linked, numbers, zoom, zooms

log = logging.getLogger("skewscope.dashboard")
KEPT_PAGES = 24
MAKERS = 2  # threads that make pages: what many visitors ask for at once is made in turn, so that memory is bounded
FIRST = ("overview", "ranks")


class Dashboard:
    """Serves pages of the views that `source` gives; `server` is the WSGI application."""

    def __init__(
        self, source: Source, guard: Guard | None = None, audit: _acts.Audit | None = None,
        pages: Mapping[str, Page] | None = None,
    ) -> None:  # fmt: skip
        """Take pages by their ids; None takes all of `dashboards/pages`."""
        self.source, self.guard, self.audit = source, guard or Guard(), audit
        found = {room.id: room.load() for room in rooms("dashboards.pages")} if pages is None else pages
        self.pages: dict[str, Page] = dict(sorted(found.items(), key=lambda one: (one[1].order, one[0])))
        self._by_path = {page.path: name for name, page in self.pages.items()}
        self._makers = ThreadPoolExecutor(MAKERS, "makers")
        self._blocks = Kept[tuple[Block, ...]](KEPT_PAGES)
        self._drawn = Kept[tuple[Drawn, ...]](KEPT_PAGES)
        self.server = flask.Flask("skewscope.dashboard", static_folder=None)
        served: Any = self.server  # Dash takes it, its annotation does not say so
        self.app = dash.Dash(
            "skewscope.dashboard", server=served, title="skewscope", use_pages=False, update_title="", pages_folder="",
            assets_folder=str(Path(__file__).parent / "assets"), assets_ignore=r"report\..*",
            index_string=_shell.INDEX, suppress_callback_exceptions=True, add_log_handler=False,
            meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        )  # fmt: skip
        self.app.layout = _shell.layout(live=source.live, signing_in=self.guard.signing_in)
        self._callbacks()
        _login.install(self.server, self.guard)
        _acts.install(self.server, self.guard, self.audit, self.view)
        _export.install(self.server, self)
        _security.install(self.server, self.guard, self.app.csp_hashes(), frozenset(self._by_path))

    def view(self) -> View:
        """Return the latest view, with what people decided."""
        view = self.source.view()
        if self.audit is None:
            return view
        told = self.audit.latest()
        return replace(view, id=f"{view.id}.{self.audit.count}", decisions=told)

    def blocks(self, view: View, name: str, selection: Selection) -> tuple[Block, ...]:
        """Return the blocks of the page `name`; one that fails is told instead of raised."""
        page, plain = self.pages[name], selection.having(zoom="")
        try:
            return self._blocks.get(
                (view.id, name, plain.query()), lambda: self._makers.submit(_made, page, view, plain).result()
            )
        except Exception:
            log.exception("page %s failed", name)
            said = "This page could not be made from the data; the log of the server says why."
            return (Block("failed", page.title, said, advice="Please report it; the other pages are not concerned."),)

    def warm(self) -> None:
        """Make what a first visitor sees: the pages in `FIRST`, without a selection."""
        view = self.view()
        for name in FIRST:
            if name in self.pages:
                self._parts(view, Asked(name, Selection()), acting=False)

    def _parts(self, view: View, asked: Asked, *, acting: bool) -> tuple[Drawn, ...]:
        """Return a page's blocks ready to be shown, made once."""
        return self._drawn.get((view.id, asked, acting), lambda: self._draw(view, asked, acting))

    def _callbacks(self) -> None:
        app: Any = self.app
        call, script = app.callback, app.clientside_callback
        place = (Input("place", "pathname"), Input("place", "search"))
        call(
            Output("page", "children"), Output("nav", "children"), Output("jobs", "children"),
            Output("where", "children"), Output("sent", "data"), *place, Input("seen", "data"),
            Input("theme", "data"), State("sent", "data"),
        )(self._show)  # fmt: skip
        zoom = {"kind": "zoom", "name": MATCH}
        call(
            Output(zoom, "figure"), Input(zoom, "relayoutData"), State(zoom, "id"), State("place", "pathname"),
            State("place", "search"), State("theme", "data"), prevent_initial_call=True,
        )(self._zoomed)  # fmt: skip
        script(ClientsideFunction("skewscope", "theme"), Output("theme", "data"), Input("theme-button", "n_clicks"))
        script(
            ClientsideFunction("skewscope", "seen"), Output("seen", "data"), Input("tick", "n_intervals"),
            prevent_initial_call=True,
        )  # fmt: skip
        script(
            ClientsideFunction("skewscope", "shown"), Output("told", "data"), Input("sent", "data"),
            prevent_initial_call=True,
        )  # fmt: skip

    def _show(self, path: object, search: object, seen: object, theme: object, sent: object) -> tuple[Any, ...]:
        """Return page, navigation, jobs, header and what was sent; only what changed since."""
        asked = self._asked(path, search, theme)
        view, acting = self.view(), self.guard.person().operator
        if asked is None:
            return _unknown(), _shell.navigation(list(self.pages.values()), "", Selection()), [], [], None
        page, selection = self.pages[asked.name], asked.selection
        key = f"{asked.name} {selection.query()} {asked.dark} {acting}"  # a zoom was answered when it was made
        old = sent if isinstance(sent, dict) and sent.get("key") == key else {}
        if old.get("view") == view.id:
            raise PreventUpdate
        parts = self._parts(view, asked, acting=acting)
        shapes = [one.shape for one in parts]
        told = {"key": key, "view": view.id, "shapes": shapes, "marks": [one.mark for one in parts]}
        jobs = _shell.jobs(view, page.path, selection)
        marks = old.get("marks")
        if old.get("shapes") == shapes and isinstance(marks, list) and len(marks) == len(parts):
            changed = [one for one, mark in zip(parts, marks, strict=True) if mark != one.mark]
            self._change(changed, zooms(seen), lambda block, ends: self._range(view, asked, block, ends))
            return no_update, no_update, jobs, _shell.where(view), told
        nav = _shell.navigation(list(self.pages.values()), page.path, selection)
        sections = [one.section() for one in parts]
        return [html.H1(page.title), *sections, _shell.kept(asked.name, selection)], nav, jobs, _shell.where(view), told

    def _draw(self, view: View, asked: Asked, acting: bool) -> tuple[Drawn, ...]:
        """Return a page's blocks, ready to be shown, zoomed as the address says."""
        path, zoomed, made = self.pages[asked.name].path, linked(asked.zoom), []
        for block in self.blocks(view, asked.name, asked.selection):
            figure = None if block.figure is None else asked.themed(block.figure, block.name)
            axes = zoomed.get(block.name)
            if figure is not None and axes is not None:
                ends = numbers(axes) if block.zoom else None
                figure = held((self._range(view, asked, block.name, ends) if ends else None) or figure, axes)
            made.append(drawn(block, figure, asked.name, path, asked.selection, acting=acting))
        return tuple(made)

    def _change(
        self, changed: Sequence[Drawn], zoomed: Mapping[str, Axes], again: Callable[[str, Ends], dict[str, Any] | None]
    ) -> None:
        """Change blocks in place; what is zoomed stays so, and a map gets its range anew."""
        for one in changed:
            axes, figure = zoomed.get(one.name), one.figure
            if axes is not None and figure is not None:
                ends = numbers(axes) if one.zoom else None
                figure = held((again(one.name, ends) if ends else None) or figure, axes)
            for place, values in one.parts(figure):
                set_props(place, values)

    def _range(self, view: View, asked: Asked, block: str, ends: Ends) -> dict[str, Any] | None:
        """Return the figure of a range, None where the page does not make one, or cannot."""
        page = self.pages[asked.name]
        if not isinstance(page, Zooming):
            return None
        try:
            made = self._makers.submit(page.zoomed, view, asked.selection, *ends, block=block).result()
        except Exception:
            log.exception("zooming %s of page %s failed", block, asked.name)
            return None
        return None if made is None else asked.themed(made, block)

    def _zoomed(self, relayout: object, graph: object, path: object, search: object, theme: object) -> dict[str, Any]:
        """Return a zoomable figure for the range in view, the whole one where the zoom was taken back."""
        asked = self._asked(path, search, theme)
        block = str(graph.get("name", "")) if isinstance(graph, dict) else ""
        axes = zoom(relayout)
        if asked is None or axes is None:
            raise PreventUpdate
        view, figure = self.view(), None
        if not axes:
            blocks = self.blocks(view, asked.name, asked.selection)
            whole = [one for one in blocks if one.name == block and one.figure is not None]
            figure = asked.themed(whole[0].figure, block) if whole else None
        elif ends := numbers(axes):
            figure = self._range(view, asked, block, ends)
        if figure is None:
            raise PreventUpdate
        return held(figure, axes)

    def _asked(self, path: object, search: object, theme: object) -> Asked | None:
        """Return what is asked for, None for an unknown path."""
        name = self._by_path.get(path) if isinstance(path, str) else None
        query = search if isinstance(search, str) and len(search) <= LONGEST_QUERY else ""
        selection = Selection.of(query)
        return None if name is None else Asked(name, selection.having(zoom=""), theme == "dark", selection.zoom)


@dataclass(frozen=True)
class Asked:
    """A page by its name, for a selection; `zoom` is what of its maps is in view, as the address tells it."""

    name: str
    selection: Selection
    dark: bool = False
    zoom: str = ""

    def themed(self, figure: Any, block: str) -> dict[str, Any]:  # noqa: ANN401 - a figure
        """Return a figure of a block in the page's colours."""
        return themed(figure, dark=self.dark, revision=f"{self.name} {block} {self.selection.query()}")


def _made(page: Page, view: View, selection: Selection) -> tuple[Block, ...]:
    return tuple(page.blocks(view, selection))


def _unknown() -> list[Any]:
    return [html.H1("No such page"), html.P("The pages that there are stand above.")]
