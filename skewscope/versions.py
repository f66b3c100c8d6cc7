"""What of a newer skewscope is found on disk is refused and left as it is: nobody guesses what it means."""

from __future__ import annotations

from collections.abc import Mapping


def newer(told: object, known: str) -> str:
    """Return what to say of a document whose schema is a later version of the one that is `known`, "" of any other.

    >>> newer({"schema": "skewscope.outbox/2"}, "skewscope.outbox/1")
    'is skewscope.outbox/2, of a newer skewscope; this one reads skewscope.outbox/1'
    >>> newer({"schema": "skewscope.outbox/1"}, "skewscope.outbox/1"), newer([], "skewscope.outbox/1")
    ('', '')
    """
    schema = str(told.get("schema")) if isinstance(told, Mapping) else ""
    name, _, version = schema.rpartition("/")
    family, _, ours = known.rpartition("/")
    later = name == family and version.isascii() and version.isdecimal() and _order(version) > _order(ours)
    return f"is {schema}, of a newer skewscope; this one reads {known}" if later else ""


def _order(version: str) -> tuple[int, str]:
    """Return what numbers are compared by, however many digits they have."""
    plain = version.lstrip("0")
    return len(plain), plain
