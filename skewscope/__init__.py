"""Says which rank, link, expert, stage or host makes a GPU job slow, what it costs and what to do about it.

Example:
    import skewscope

    report = skewscope.analyze("traces/")
    print(report.verdict)
    for finding in report.culprits():
        print(finding.subject.id, finding.condition, finding.lost_s)
    report.save("report.html")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Report, analyze, read

__version__ = "0.1.0"
__all__ = ["Report", "analyze", "read"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - functions and a class
    """Return what `__all__` names; imported when it is first asked for, as agents and the hook must stay light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("skewscope.api"), name)
