"""What `view` and `analyze --views` share: names, ranks and settings on the command line, the list, CSV files."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _files, _work

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..analysis import Analysis
    from ..catalogue import Room
    from ..recording import Recording
    from ..viewing import Answer

LOG = logging.getLogger("skewscope")


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas; raises argparse.ArgumentTypeError for an empty one.

    >>> names("kernels, steps")
    ('kernels', 'steps')
    """
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError("wants views, separated by commas; `skewscope view --list` lists them")
    return found


def ranks(text: str) -> list[tuple[int, int]]:
    """Return the stretches of ranks that a text names, first and last of each; raises argparse.ArgumentTypeError.

    >>> ranks("0,3-7")
    [(0, 0), (3, 7)]
    """
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise argparse.ArgumentTypeError(f"{text!r}: wants ranks and stretches of ranks, as 0,3-7")
        found.append((int(first), int(last or first)))
    return found


def setting(text: str) -> tuple[str, str]:
    """Return name and value of NAME=VALUE; raises argparse.ArgumentTypeError.

    >>> setting("top_count=50")
    ('top_count', '50')
    """
    name, sign, value = text.partition("=")
    if not name.strip() or not sign:
        raise argparse.ArgumentTypeError(f"{text!r}: wants NAME=VALUE, as top_count=50")
    return name.strip(), value.strip()


def settings_known(rooms: Sequence[Room], settings: Mapping[str, str]) -> None:
    """Raise UsageError for a setting that none of the views knows, before the long work."""
    from ..viewing import with_settings

    with_settings(rooms, settings)


def facts(rooms: Sequence[Room], recording: Recording) -> dict[str, str]:
    """Return settings that the recording itself knows: what layout the job declares."""
    sizes = " ".join(f"{name}={size}" for name, size in recording.parallelism.items() if size)
    return {"parallelism.declared": sizes} if any(room.id == "parallelism" for room in rooms) else {}


def tell_fault(view: str, error: Exception) -> None:
    """Log that a view failed; the others go on."""
    LOG.error(
        "view %s failed: %s: %s; please report it", view, type(error).__name__, error, exc_info=LOG.isEnabledFor(10)
    )


@dataclasses.dataclass(frozen=True)
class Asked:
    """Views that a report is to hold."""

    rooms: tuple[Room, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Asked:
        """Return the views of these names; raises UsageError that lists near names."""
        from ..viewing import named

        return cls(named(names))

    @property
    def detail(self) -> bool:
        """Return whether one of them needs a detailed reading."""
        from ..viewing import deep

        return any(deep(room) for room in self.rooms)

    def answers(self, analysis: Analysis) -> list[Answer]:
        """Return their answers; a view that fails is logged and does not stop the report."""
        from ..viewing import answers

        if not self.rooms:
            return []
        with _work.progress("viewing") as moved:
            return answers(analysis.tables, self.rooms, facts(self.rooms, analysis.recording), tell_fault, moved)


def listed(rooms: Sequence[Room], *, full: bool) -> RenderableType:
    """Return the list of views with their questions; in `full` with what each needs, its settings and its page."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ..viewing import deep, question

    if full:
        return Group(*(Text(_page(room)) for room in rooms))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    for room in rooms:
        kind = room.kind()
        needs = Text(f"needs {', '.join(kind.needs)}" if kind.needs else "", style="dim")
        grid.add_row(Text(room.id, style="bold"), "deep" if deep(room) else "light", Group(Text(question(room)), needs))
    return grid


def _page(room: Room) -> str:
    from ..viewing import deep

    kind = room.kind()
    fields: Sequence[Any] = dataclasses.fields(kind)
    settings = [f"  {field.name} = {field.default}" for field in fields]
    lines = [f"{room.id} ({'deep' if deep(room) else 'light'}; needs {', '.join(kind.needs)})", "", room.page().strip()]
    return "\n".join([*lines, *(["", "Settings (--set NAME=VALUE):", *settings] if settings else []), ""])


def write_csv(folder: Path, answers: Sequence[Answer]) -> None:
    """Write every table of every answer as FOLDER/VIEW/TABLE.csv."""
    for one in answers:
        if one.shown is None:
            continue
        place = _files.make_folder(folder / one.view, "--csv")
        for name, rows in one.shown.tables.items():
            _files.write_text(place / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))
