"""A dashboard of made-up pages, and requests as a browser sends them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go

from skewscope.catalogue import load

app, pages, sources, views, security, acts = (
    load(f"dashboards.{name}") for name in ("app", "_page", "_sources", "_view", "_security", "_acts")
)
Block, View = pages.Block, views.View
OUTPUT = "..page.children...nav.children...jobs.children...where.children...sent.data.."
PARTS = (("page", "children"), ("nav", "children"), ("jobs", "children"), ("where", "children"), ("sent", "data"))
OUTPUTS = [{"id": name, "property": what} for name, what in PARTS]
ZOOM = '{"kind":"zoom","name":["MATCH"]}.figure'


class Maps:
    """A page with a map that tells the view's id, a line, and a table that never changes."""

    path, title, order, needs = "/", "Maps", 0, ()

    def blocks(self, view: Any, selection: Any) -> tuple[Any, ...]:
        if view.title == "broken":
            raise ValueError("no such thing")
        figure = go.Figure(go.Heatmap(z=np.zeros((2, 2), dtype=np.uint8)))
        row = (pages.Link(f"rank <{selection.rank}>", selection.link("/why", rank=5)), "=1+1")
        return (
            Block("map", "Map", f"seen {view.id}", figure, zoom=True),
            Block("line", "Line", f"value {view.id}", go.Figure(go.Scatter(y=[1, 2]))),
            Block("same", "Same", "never changes", columns=("who", "what"), rows=(row,)),
            Block("do", "Do", "act", forms=(pages.Form("approve", "Approve", {"recommendation": "r1"}),)),
        )

    def zoomed(self, view: Any, selection: Any, x0: float, x1: float, y0: float, y1: float, block: str = "") -> Any:
        return go.Figure(go.Heatmap(z=[[x0, x1]]))


class Why:
    """A page of words."""

    path, title, order, needs = "/why", "Why", 1, ()

    def blocks(self, view: Any, selection: Any) -> tuple[Any, ...]:
        return (Block("why", "Why", f"because of rank {selection.rank}"),)


class Changing:
    """A source whose view a test swaps."""

    live = True

    def __init__(self, view: Any) -> None:
        self.now = view

    def view(self) -> Any:
        return self.now


def served(view: Any = None, guard: Any = None, audit: Any = None) -> tuple[Any, Any]:
    """Return a client and the source behind it."""
    source = Changing(view or View(id="one", title="made up"))
    made = app.Dashboard(source, guard, audit, {"maps": Maps(), "why": Why()})
    return made.server.test_client(), source


def body(
    path: str = "/", search: str = "", *, sent: Any = None, seen: Any = None, theme: str = "light"
) -> dict[str, Any]:
    """Return what a browser posts to see a page."""
    return {
        "output": OUTPUT, "outputs": OUTPUTS, "changedPropIds": ["place.pathname"],
        "inputs": [
            {"id": "place", "property": "pathname", "value": path},
            {"id": "place", "property": "search", "value": search},
            {"id": "seen", "property": "data", "value": seen}, {"id": "theme", "property": "data", "value": theme},
        ],
        "state": [{"id": "sent", "property": "data", "value": sent}],
    }  # fmt: skip


def zoom_body(relayout: Any, path: Any = "/", name: Any = "map") -> dict[str, Any]:
    """Return what a browser posts after a zoom."""
    place = {"kind": "zoom", "name": name}
    said = json.dumps(place, separators=(",", ":"), sort_keys=True)
    return {
        "output": ZOOM, "outputs": {"id": place, "property": "figure"}, "changedPropIds": [f"{said}.relayoutData"],
        "inputs": [{"id": place, "property": "relayoutData", "value": relayout}],
        "state": [
            {"id": place, "property": "id", "value": place}, {"id": "place", "property": "pathname", "value": path},
            {"id": "place", "property": "search", "value": ""}, {"id": "theme", "property": "data", "value": "light"},
        ],
    }  # fmt: skip


def shown(client: Any, *words: Any, **more: Any) -> dict[str, Any]:
    """Return the answer to a page request."""
    reply = client.post("/_dash-update-component", json=body(*words, **more))
    assert reply.status_code == 200, reply.text
    return json.loads(reply.data)
