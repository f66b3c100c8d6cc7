"""The HTML page of views: words, tables and pictures of each answer in one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import report_page
from ._view_pictures import answered


def page(answers: Sequence[Any], inputs: Sequence[Any]) -> str:
    """Return the whole page of answers (`skewscope.viewing.Answer`) about these inputs; it loads nothing."""
    read = [one for one in inputs if one.status != "unreadable"]
    ranks = len({one.rank for one in read if one.rank >= 0})
    seen = f", {ranks} ranks" if ranks else ""
    said = f"{len(read)} of {len(inputs)} files{seen}, {sum(one.events for one in read):,} events."
    return report_page.standing(f"skewscope view {', '.join(one.view for one in answers)}", said, answered(answers))
