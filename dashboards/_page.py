"""What a page of the dashboard is: blocks, each with a verdict in words, a chart and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go

from ._chart import Chart
from ._selection import Selection
from ._view import View


@dataclass(frozen=True)
class Link:
    """A cell, or a word, that leads to another page; `href` comes from `Selection.link`."""

    text: str
    href: str


Cell = str | Link


@dataclass(frozen=True)
class Control:
    """A switch above a block: it sets a field of the selection to one of `options` (value, text)."""

    label: str
    field: str
    options: tuple[tuple[str, str], ...]
    chosen: str = ""


@dataclass(frozen=True)
class Form:
    """A form that acts. It is posted to /act/ACTION with `fields` as hidden values; only operators see its button.

    With `reason` the person is asked for one, in words. Actions: approve, snooze, reject.
    """

    action: str
    label: str
    fields: Mapping[str, str] = field(default_factory=dict)
    reason: bool = True


@dataclass(frozen=True)
class Block:
    """One chart with its words and its table. `name` is unique on the page and made of a-z, 0-9 and "-".

    `verdict` is one sentence with numbers; `advice` says what to do where there is no data. `data` is what an export
    gives, the rows of the table where it is None. With `zoom` the app asks `Page.zoomed` for the range in view. `lines`
    are shown as they are: those with `- ` were, those with `+ ` become (see `_act_diff`).
    """

    name: str
    title: str
    verdict: str
    figure: go.Figure | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    note: str = ""
    advice: str = ""
    controls: tuple[Control, ...] = ()
    links: tuple[Link, ...] = ()
    forms: tuple[Form, ...] = ()
    zoom: bool = False
    data: pd.DataFrame | None = None
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, chart: Chart, *, advice: str = "", zoom: bool = False, data: pd.DataFrame | None = None) -> Block:
        """Return a chart of the report page as a block."""
        return cls(
            chart.name, chart.title, chart.verdict, chart.figure, chart.columns, chart.rows, chart.note, advice,
            zoom=zoom, data=data,
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """Return what an export of the block gives.

        >>> Block("a", "A", "One.", columns=("rank",), rows=((Link("5", "/why?rank=5"),),)).table()["rank"].tolist()
        ['5']
        """
        if self.data is not None:
            return self.data
        rows = [tuple(cell.text if isinstance(cell, Link) else cell for cell in row) for row in self.rows]
        return pd.DataFrame(rows, columns=list(self.columns))


class Page(Protocol):
    """One page. Its class is named after its file; `needs` are the tables without which it has nothing to show."""

    path: ClassVar[str]
    title: ClassVar[str]
    order: ClassVar[int]
    needs: ClassVar[tuple[str, ...]]

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the page's blocks, never none: an empty view gives a block with advice."""


@runtime_checkable
class Zooming(Protocol):
    """A page with a block whose figure is made anew for the range in view."""

    def zoomed(
        self, view: View, selection: Selection, x0: float, x1: float, y0: float, y1: float, block: str = ""
    ) -> go.Figure | None:
        """Return the figure of the range, in the units of the axes; None leaves the one that is there."""


HOW = (
    "Load something: `skewscope dashboard RECORDING...`, `--report FILE` (made by `skewscope analyze --out DIR`), "
    "`--store DIR`, `--watch URL` or `--prometheus URL`."
)


def nothing(name: str, title: str, why: str, advice: str = HOW) -> Block:
    """Return the empty state of a block: what is missing, and what to do to get it.

    >>> nothing("map", "Map", "no steps were recorded").verdict
    'Nothing to show: no steps were recorded.'
    """
    return Block(name, title, f"Nothing to show: {why}.", advice=advice)
