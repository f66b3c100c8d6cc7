"""Runs an action when a module has been imported: at once, or when somebody imports it later."""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOT = "torch"  # nothing of it is touched before all of it is there


class _Loader:
    """Stands in for a module's loader while the module runs, then takes itself away."""

    def __init__(self, loader: Any, done: Callable[[str], None]) -> None:
        self._loader = loader
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the real loader make the module."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its real loader, then tell that it is there."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._done(module.__name__)


class Watch:
    """Calls `actions[name](module)` once for each named module, as soon as it and all of torch are imported.

    `fault` takes what an action raises: an import must not fail for our sake.
    """

    def __init__(self, actions: Mapping[str, Callable[[ModuleType], None]], fault: Callable[[Exception], None]) -> None:
        self._waiting = dict(actions)
        self._names = {*actions, ROOT}
        self._there: set[str] = set()
        self._fault = fault

    def start(self) -> None:
        """Serve what is imported already and watch for the rest."""
        for name in self._names:
            module = sys.modules.get(name)
            if module is not None and not getattr(module.__spec__, "_initializing", False):
                self._there.add(name)
        self._serve()
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Watch no longer."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is waited for by the other finders, with our stand-in as its loader."""
        if name not in self._names or name in self._there:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self._arrived)  # type: ignore[assignment]
                return spec
        return None

    def _arrived(self, name: str) -> None:
        self._there.add(name)
        self._serve()

    def _serve(self) -> None:
        if ROOT not in self._there:
            return
        for name in [name for name in self._waiting if name in self._there]:
            try:
                self._waiting.pop(name)(sys.modules[name])
            except Exception as error:
                self._fault(error)
