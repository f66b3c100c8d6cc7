"""The roll of series: who each is, by number, with what is remembered of it from one window to the next."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from skewscope.contracts import Coded
from skewscope.signals.windows import is_counter

from ..sources._telemetry_series import Series

Array = np.ndarray[Any, Any]
TEXTS = ("metric", "labels", "node", "device", "job")
RANK = len(TEXTS)
FIRST_ROOM = 1 << 10
KEY = struct.Struct("6i")


class Roll:
    """Series by number 0, 1, ...; names are kept once and stand as codes, so that a series costs about 200 bytes.

    `codes` [room, 6] are those of metric, labels, node, device and job, and the rank; `last` is the newest value, NaN
    for none; `seen_ns` the end of the last window with a sample; `grew` whether a counter ever did.
    """

    def __init__(self) -> None:
        self.codes = np.zeros((FIRST_ROOM, RANK + 1), dtype=np.int32)
        self.last = np.full(FIRST_ROOM, np.nan)
        self.seen_ns = np.zeros(FIRST_ROOM, dtype=np.int64)
        self.grew = np.zeros(FIRST_ROOM, dtype=bool)
        self.counter = np.zeros(FIRST_ROOM, dtype=bool)
        self._names: list[dict[str, int]] = [{} for _ in TEXTS]
        self._place: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._place)

    def number(self, one: Series, now_ns: int = 0) -> int:
        """Return the number of a series; a new one counts as seen at `now_ns`."""
        texts = (one.meaning.metric, one.meaning.labels, one.node, one.device, one.job)
        codes = [names.setdefault(text, len(names)) for names, text in zip(self._names, texts, strict=True)]
        key = KEY.pack(*codes, one.rank)
        known = self._place.get(key)
        if known is not None:
            return known
        number = self._place[key] = len(self._place)
        self._make_room(number)
        self.codes[number] = (*codes, one.rank)
        self.counter[number] = is_counter(one.meaning.metric)
        self.seen_ns[number] = now_ns
        return number

    def names(self, column: int, codes: Array) -> Coded:
        """Return one column of names, coded in the order of the names among those used."""
        texts = list(self._names[column])
        used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
        order = sorted(used.tolist(), key=texts.__getitem__)
        rank = np.zeros(len(texts), dtype=np.int32)
        rank[order] = np.arange(len(order))
        return Coded(rank[codes], [texts[code] for code in order])

    def compact(self, before_ns: int) -> Array:
        """Forget series last seen before a time; return the new number of each old one, -1 for those forgotten."""
        count = len(self)
        kept = np.flatnonzero(self.seen_ns[:count] >= before_ns)
        moved = np.full(count, -1, dtype=np.int64)
        moved[kept] = np.arange(len(kept))
        codes = self.codes[kept]
        for column in range(RANK):
            texts = list(self._names[column])
            used, codes[:, column] = np.unique(codes[:, column], return_inverse=True)
            self._names[column] = {texts[code]: at for at, code in enumerate(used.tolist())}
        self.last, self.seen_ns = self.last[kept], self.seen_ns[kept]
        self.grew, self.counter, self.codes = self.grew[kept], self.counter[kept], codes
        self._place = {KEY.pack(*row): at for at, row in enumerate(codes.tolist())}
        self._make_room(len(kept))
        return moved

    def _make_room(self, number: int) -> None:
        room = len(self.last)
        if number < room:
            return
        more = max(number + 1, room * 3 // 2, FIRST_ROOM) - room
        self.codes = np.vstack((self.codes, np.zeros((more, RANK + 1), dtype=np.int32)))
        self.last = np.concatenate((self.last, np.full(more, np.nan)))
        self.seen_ns = np.concatenate((self.seen_ns, np.zeros(more, dtype=np.int64)))
        self.grew = np.concatenate((self.grew, np.zeros(more, dtype=bool)))
        self.counter = np.concatenate((self.counter, np.zeros(more, dtype=bool)))
