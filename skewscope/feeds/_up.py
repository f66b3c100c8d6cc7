"""Which targets a server scrapes, and which of them answered."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from ._api import Row
from ._labels import node


class Up:
    """The series `up` of one window. A server that does not answer leaves those known before, as silent."""

    def __init__(self, node_label: str) -> None:
        self._node_label = node_label
        self._answered: dict[tuple[str, str, str], bool] = {}  # (job, node, instance)

    @property
    def instances(self) -> list[str]:
        """Return the instances of all targets, sorted."""
        return sorted({instance for _, _, instance in self._answered})

    def forget(self) -> None:
        """Take all known targets for silent."""
        self._answered = dict.fromkeys(self._answered, False)

    def take(self, rows: Sequence[Row], begin_s: float, *, whole: bool = True) -> None:
        """Take the targets of a window that begins after `begin_s`.

        Those that a partial answer leaves out are still there: they are silent.
        """
        found: dict[tuple[str, str, str], bool] = {}
        for row in rows:
            labels = msgspec.json.decode(row.metric, type=dict[str, str])
            key = labels.get("job", ""), node(labels, self._node_label), labels.get("instance", "")
            found[key] = any(t_s > begin_s and value == "1" for t_s, value in row.values) or found.get(key, False)
        self._answered = found if whole else {**dict.fromkeys(self._answered, False), **found}

    def window(self, jobs: Collection[str], told: Collection[str] | None = None) -> tuple[int, tuple[str, ...]]:
        """Return how many nodes have a target of these scrape jobs, and which of them have one that is silent.

        Where answers were partial, `told` names the nodes that have samples: the others are silent.
        """
        mine = {key: up for key, up in self._answered.items() if key[0] in jobs}
        stale = {name for (_, name, _), up in mine.items() if not up or (told is not None and name not in told)}
        return len({name for _, name, _ in mine}), tuple(sorted(stale))
