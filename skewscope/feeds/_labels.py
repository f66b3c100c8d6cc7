"""What series of a server mean: labels as they came are understood once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from skewscope.metrics import METRICS
from skewscope.signals.identity import OF_PARTS

from ..sources import _exposition_names
from ._api import Row
from ._cutter import Cutter, Renumbered
from ._roll import Array

EXPORTED = "exported_"  # before a label that a scrape's own label pushed aside
PROBE = {"gpu": "0", "device": "eth0", "port": "1", "mode": "user", "xid": "1", "nvlink": "0"}
UNKNOWN = -1
MOST_NEW = 5000  # series of a node in a window: more are no metrics of a host, but of a fault in what names them
SPARE = 10_000  # labels known beyond twice those of a window: then all are learnt again
DECLARED = {
    metric.name + part: frozenset((*metric.labels, *OF_PARTS))
    for metric in METRICS
    for part in _exposition_names.PARTS.get(metric.kind, ("",))
}


def node(labels: Mapping[str, str], label: str = "") -> str:
    """Return the node that labels of a scraped series name, "" for none: of the wanted label, `node`, then as usual.

    >>> node({"instance": "10.0.0.7:9400", "node": "gpu7"}), node({"instance": "n1:9400"})
    ('gpu7', 'n1')
    """
    return labels.get(label, "") or labels.get("node", "") or _exposition_names.host(labels)


class Labels:
    """Labels, as bytes of an answer, to numbers of series."""

    def __init__(self, cutter: Cutter, node_label: str) -> None:
        self._jobs: tuple[set[str], set[str]] = (set(), set())  # scrape jobs of agents, of others
        self._cutter = cutter
        self._node_label = node_label
        self._numbers: dict[bytes, int] = {}
        self._former: dict[bytes, int] = {}  # known before this window, if many were
        self._rows = 0  # of this window
        self._new: Counter[str] = Counter()  # series of each node that were not known before this window

    @property
    def jobs(self) -> set[str]:
        """Return the scrape jobs of agents, or where there are none of all that told something."""
        return self._jobs[0] or self._jobs[1]

    def samples(self, rows: Sequence[Row]) -> tuple[Array, Array, Array]:
        """Return (numbers, values, times in ns) of all samples of an answer that mean something."""
        known = self._numbers
        self._rows += len(rows)
        numbers, counts = [], []
        values: list[tuple[float, str]] = []
        for row in rows:
            key = bytes(row.metric)
            number = known.get(key)
            if number is None:
                number = self._learn(key)
            if number != UNKNOWN:
                numbers.append(number)
                counts.append(len(row.values))
                values += row.values
        told = np.array([value for _, value in values], dtype=np.float64)
        t_s = np.array([t_s for t_s, _ in values], dtype=np.float64)
        whole_ms = np.rint(t_s * 1000).astype(np.int64)
        return np.repeat(np.array(numbers, dtype=np.int64), counts), told, whole_ms * 10**6

    def name(self, row: Row) -> str:
        """Return the metric of a row."""
        return msgspec.json.decode(row.metric, type=dict[str, str]).get("__name__", "")

    def means(self, name: str) -> bool:
        """Return whether series of this name may mean something.

        >>> Labels(Cutter(), "").means("node_boot_time_seconds")
        False
        """
        return bool(_exposition_names.series(name, PROBE))

    def _learn(self, key: bytes) -> int:
        number = self._former.get(key)
        if number is None:
            labels = msgspec.json.decode(key, type=dict[str, str])
            here = node(labels, self._node_label)
            if here and self._new[here] >= MOST_NEW:  # not remembered: in another window there may be room
                self._new[here] += 1
                return UNKNOWN
            with self._cutter.lock:
                number = self._number(labels, here)
            self._new[here] += number != UNKNOWN
        self._numbers[key] = number
        return number

    def end_window(self) -> list[str]:
        """Return what was wrong with labels in this window; of too many, those that the next does not have are gone."""
        wrong = [f"{here}: {count} new series in a window, more than {MOST_NEW}: the rest is left out"
                 for here, count in self._new.items() if here and count > MOST_NEW]  # fmt: skip
        many = len(self._numbers) > 2 * self._rows + SPARE
        self._former, self._numbers = (self._numbers, {}) if many else ({}, self._numbers)
        self._rows, self._new = 0, Counter()
        return wrong

    def _number(self, labels: dict[str, str], here: str) -> int:
        name = labels.pop("__name__", "")
        job = labels.get("job", "")
        for pushed in [label for label in labels if label.startswith(EXPORTED)]:
            labels[pushed.removeprefix(EXPORTED)] = labels.pop(pushed)
        own = DECLARED.get(name)
        if own is not None:  # what else stands there the scrape added
            labels = {label: value for label, value in labels.items() if label in own}
        some = _exposition_names.series(name, labels)
        if not some:
            return UNKNOWN
        self._jobs[not name.startswith("skewscope_")].add(job)
        return self._cutter.number([replace(one, node=here) for one in some])

    def renumber(self, renumbered: Renumbered) -> None:
        """Take the new numbers of all series."""
        self._numbers, self._former = (_moved(known, renumbered) for known in (self._numbers, self._former))


def _moved(known: Mapping[bytes, int], renumbered: Renumbered) -> dict[bytes, int]:
    new = renumbered(np.fromiter(known.values(), dtype=np.int64, count=len(known)))
    return {key: number for key, number in zip(known, new.tolist(), strict=True) if number != UNKNOWN}
