"""What programs and notebooks use: read recordings, analyse them, ask views; heavy imports wait until needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from .analysis import Analysis
    from .contracts import Finding, Shown
    from .recording import Recording

Place = str | PathLike[str]


@dataclass(frozen=True)
class Report:
    """The analysis of a recording: what is wrong, whom it concerns, what it costs, and the tables behind it.

    In a notebook it shows itself as its page.
    """

    analysis: Analysis

    @cached_property
    def document(self) -> dict[str, Any]:
        """The `skewscope.report/1` document, plain JSON values."""
        from .planners.advise import advised
        from .reports.document import document

        return advised(document(self.analysis), self.analysis.tables, self.analysis.recording.parallelism)

    @property
    def verdict(self) -> str:
        """One sentence that a person can act on."""
        return str(self.analysis.summary["verdict"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """Step times, slowdown, waste; None where the recording does not show it."""
        return self.analysis.summary

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings, the dearest first."""
        return self.analysis.findings

    @cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Canonical and derived tables by name, yours to change; `skewscope schema TABLE` tells their columns."""
        return {name: table.copy(deep=False) for name, table in self.analysis.tables.items()}

    def culprits(self) -> tuple[Finding, ...]:
        """Return the findings that name somebody to act upon."""
        return tuple(one for one in self.findings if one.role == "culprit")

    def view(self, name: str, **settings: object) -> Shown:
        """Return the answer of one view, as "stragglers"; `settings` are its fields.

        Raises UsageError for a view that does not exist, NoData where the recording cannot answer it. Views that need
        a detailed reading want `analyze(..., detail=True)`.
        """
        from .catalogue import room
        from .contracts import View

        view: View = room("views", name.replace("_", "-")).kind()(**settings)
        return view.show(self.tables)

    def html(self) -> str:
        """Return the report as one self-contained page."""
        from .catalogue import load

        made: str = load("dashboards.report_page").page(self.document, self.analysis.tables)
        return made

    def save(self, path: Place) -> Path:
        """Write the page (.html) or the document (.json) and return the path; raises UsageError for another name."""
        import json

        from .errors import UsageError

        place = Path(path)
        if place.suffix not in (".html", ".json"):
            raise UsageError(f"{place}: name a file that ends with .html or .json")
        text = self.html() if place.suffix == ".html" else json.dumps(self.document, indent=2, allow_nan=False) + "\n"
        place.write_text(text, "utf-8")
        return place

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [
            f"{one.severity} {one.role} {one.subject.id}: {one.condition}, {one.summary}" for one in self.findings
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        page = escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:900px;border:0" title="skewscope report"></iframe>'


def read(*paths: Place, workers: int | None = None, detail: bool = False) -> Recording:
    """Return the recording that files and folders hold, of any mix of formats.

    `workers` are processes that read (default: as many as cores); `detail` also fills `operators`, `device_work` and
    `allocations`. Raises UsageError for a path that does not exist, NothingReadable with each file's reason.
    """
    from .sources import gather

    return gather([Path(path) for path in paths], workers=workers, detail=detail)


def analyze(
    *paths: Place, only: Collection[str] = (), workers: int | None = None, detail: bool = False
) -> Report:  # fmt: skip
    """Return the report on files and folders; `only` limits it to these condition ids.

    >>> report = analyze("sample_data/compute-slow")                # doctest: +SKIP
    >>> report.culprits()[0].subject.id                             # doctest: +SKIP
    'job/rank5'
    >>> report.view("stragglers").tables                            # doctest: +SKIP
    """
    from .analysis import analyze as analysed

    return Report(analysed(read(*paths, workers=workers, detail=detail), only=only))
