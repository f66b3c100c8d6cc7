"""Attributes for those who hear a page or use keys, in the form that Dash's components take."""

from __future__ import annotations

from typing import Any


def named(label: str) -> Any:  # noqa: ANN401 - keyword arguments with a dash in the name
    """Return a name for a part that has no text of its own, or not enough.

    >>> named("pages")
    {'aria-label': 'pages'}
    """
    return {"aria-label": label}


def labelled(names: str) -> Any:  # noqa: ANN401
    """Return the reference to the parts, by their ids, whose text names this one.

    >>> labelled("title said")
    {'aria-labelledby': 'title said'}
    """
    return {"aria-labelledby": names}


def current(is_it: bool, kind: str = "true") -> Any:  # noqa: ANN401
    """Return the mark of the link that leads to what is shown, nothing for others.

    >>> current(True, "page"), current(False)
    ({'aria-current': 'page'}, {})
    """
    return {"aria-current": kind} if is_it else {}


def keyed(key: str) -> Any:  # noqa: ANN401
    """Return the key that follows a link, after g.

    >>> keyed("w")
    {'data-key': 'w'}
    """
    return {"data-key": key}
