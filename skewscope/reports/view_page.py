"""The terminal page of views: the question, what stands out, the main table, and what could not be known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from . import view_document as made
from .wording import clean

TOP = 15
WIDE = 48  # letters of a text before it is cut
LONGEST_HEAD = 13  # letters of a heading's line


def page(answers: Iterable[Any], top: int = TOP) -> RenderableType:
    """Return the page of answers (`skewscope.viewing.Answer`) with the first `top` rows of each main table."""
    return Group(*(part for one in answers for part in _view(one, top)))


def _view(answer: Any, top: int) -> Sequence[RenderableType]:  # noqa: ANN401 - an Answer, which lives two floors above
    parts: list[RenderableType] = [Text(f"\n{answer.view}: {clean(answer.question)}", style="bold")]
    if answer.shown is None:
        return [*parts, Text(f"No answer: {clean(answer.missing)}", style="yellow")]
    parts += [Text(clean(line)) for line in answer.shown.said]
    tables = dict(answer.shown.tables)
    main = next(iter(tables.values()))
    parts += [Text(), _Fitted(main, top)]
    if len(main) > top:
        parts.append(Text(f"{len(main) - top} more rows: --top {len(main)}", style="dim"))
    others = [f"{name} ({len(rows)} rows)" for name, rows in list(tables.items())[1:]]
    if others:
        parts.append(Text(f"Also: {', '.join(others)}; --csv DIR and --json FILE have all, --table NAME shows one",
                          style="dim"))  # fmt: skip
    return [*parts, *(Text(f"Note: {clean(line)}", style="dim") for line in answer.shown.notes)]


class _Fitted:
    """A table of as many columns as the terminal is wide; it says which do not fit."""

    def __init__(self, rows: pd.DataFrame, top: int) -> None:
        self.names = [str(name) for name in rows.columns]
        self.numbers = [pd.api.types.is_numeric_dtype(rows[name]) for name in rows.columns]
        self.heads = ["\n".join(wrap(made.heading(name), LONGEST_HEAD)) for name in self.names]
        self.texts = made.texts(rows, top)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [self._width(place) for place in range(len(self.names))]
        total = [sum(widths[: place + 1]) + 2 * place for place in range(len(widths))]
        shown = max(1, sum(width <= options.max_width for width in total))
        grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
        for place in range(shown):
            grid.add_column(
                self.heads[place],
                justify="right" if self.numbers[place] else "left",
                vertical="top",
                overflow="ellipsis",
                no_wrap=True,
                max_width=None if self.numbers[place] else WIDE,
            )
        for row in self.texts:
            grid.add_row(*(Text(one) for one in row[:shown]))
        yield grid
        if shown < len(self.names):
            yield Text(f"Not shown for want of width: {', '.join(map(made.heading, self.names[shown:]))}", style="dim")

    def _width(self, place: int) -> int:
        cells = max((len(row[place]) for row in self.texts), default=0)
        head = max(map(len, self.heads[place].splitlines()), default=0)
        return max(head, cells if self.numbers[place] else min(cells, WIDE))
