"""Replaces attributes of classes and modules, and puts them back."""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patches:
    """What was replaced, so that it can be undone in reverse order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, new: Any) -> None:
        """Set an attribute of a class or module until `undo`.

        The old value is taken from the owner's own dictionary: what `getattr` gives of a class written in C is bound
        differently and would not work when put back.
        """
        old = vars(owner).get(name, _ABSENT)
        setattr(owner, name, new)

        def back() -> None:
            if vars(owner).get(name, _ABSENT) is not new:
                return  # somebody has wrapped ours since: it stays, and ours lets everything through
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

        self._undo.append(back)

    def later(self, action: Callable[[], None]) -> None:
        """Run `action` on `undo`."""
        self._undo.append(action)

    def undo(self) -> None:
        """Put everything back; an error in one does not keep the others."""
        while self._undo:
            try:
                self._undo.pop()()
            except Exception:  # noqa: S112 - the module may be half torn down at exit
                continue
