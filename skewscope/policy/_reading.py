"""Reads tables of TOML into the sections of a policy; what does not fit is named with file, key and mend."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from ..errors import UsageError

Section = TypeVar("Section")
MOST = sys.float_info.max  # no infinity, no whole number that no float holds
END = 1 << 63  # of whole numbers


def known(name: str, names: Sequence[str], where: str) -> str:
    """Return a name that is one of `names`; raises UsageError with near ones.

    >>> known("budget", ("budget", "breaker"), "policy.toml")
    'budget'
    """
    if name in names:
        return name
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(names)}"
    raise UsageError(f"{where}: {name} is unknown; {hint}")


def table(given: object, where: str) -> Mapping[str, Any]:
    """Return what is a table of TOML; raises UsageError for anything else."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: wants a table, as [{where.rpartition(' ')[2]}], not {given!r}")
    return given


def section(kind: type[Section], given: object, where: str) -> Section:
    """Return a section with the given keys, the others as by default; `where` is "FILE: NAME"."""
    declared = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for name, value in table(given, where).items():
        one = declared[known(name, tuple(declared), where)]
        made[name] = checked(one, value, f"{where}.{name}")
    return kind(**made)


def checked(one: dataclasses.Field[Any], value: object, where: str) -> Any:  # noqa: ANN401 - of any type
    """Return a key's value in its own type; raises UsageError where it does not fit."""
    says, fits = FORMS[str(one.type)]
    if not fits(value):
        raise UsageError(f"{where} = {value!r}: wants {says}")
    told = one.metadata
    if isinstance(value, int | float) and not isinstance(value, bool) and not told["least"] <= value <= told["most"]:
        most = "" if math.isinf(told["most"]) else f" and at most {told['most']:g}"
        raise UsageError(f"{where} = {value!r}: wants at least {told['least']:g}{most}")
    if told["one_of"]:
        for word in [value] if isinstance(value, str) else value:  # type: ignore[attr-defined]
            known(str(word), told["one_of"], where)
    return float(value) if one.type == "float" else tuple(value) if isinstance(value, list) else value  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _is_words(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())


FORMS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "float": ("a number", _is_number),
    "int": ("a whole number", lambda value: isinstance(value, int) and _is_number(value) and abs(value) < END),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("text", lambda value: isinstance(value, str)),
    "tuple[str, ...]": ('a list of texts, as ["a", "b"]', _is_words),
    "Mapping[str, str]": ('a table of texts, as { "a" = "b" }', _is_texts),
    "tuple[Mapping[str, str], ...]": (
        'a list of tables of texts, as [{ severity = "critical" }]',
        lambda value: isinstance(value, list | tuple) and all(_is_texts(one) for one in value),
    ),
}
