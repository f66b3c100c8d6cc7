"""Keeps the latest results of slow work, made once however many ask at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Place(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: list[T] = []


class Kept(Generic[T]):
    """Holds at most `most` results; the one that was not asked for longest goes first. Threads may share it.

    With `size_bytes` they are also at most `most_bytes` together, but for the newest one.

    >>> kept = Kept[int](2); kept.get("a", lambda: 1), kept.get("a", lambda: 2)
    (1, 1)
    """

    def __init__(self, most: int, size_bytes: Callable[[T], int] | None = None, most_bytes: int = 0) -> None:
        self._most, self._size_bytes, self._most_bytes = most, size_bytes, most_bytes
        self._places: OrderedDict[Hashable, _Place[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of `key`, made by `make` where there is none; what `make` raises is kept by nobody."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > self._most:
                self._places.popitem(last=False)
        with place.lock:
            if place.value:
                return place.value[0]
            made = make()
            place.value.append(made)
        if self._size_bytes is not None:
            self._shrink(key, self._size_bytes)
        return made

    def _shrink(self, newest: Hashable, size_bytes: Callable[[T], int]) -> None:
        with self._lock:
            sizes = {key: size_bytes(place.value[0]) for key, place in self._places.items() if place.value}
            for key in [key for key in sizes if key != newest]:  # the one not asked for longest stands first
                if sum(sizes.values()) > self._most_bytes:
                    del self._places[key], sizes[key]
