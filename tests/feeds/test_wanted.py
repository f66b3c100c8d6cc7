"""What the rooms ask for is wanted, whatever way they write its name."""

from __future__ import annotations

import pytest

from skewscope.catalogue import rooms
from skewscope.feeds.wanted import wanted
from skewscope.metrics import METRICS
from skewscope.signals import view
from skewscope.sources import _step_names


@pytest.fixture
def asked(monkeypatch):
    """Return the names of all metrics that rooms ask for, as they ask."""
    seen: set[str] = set()
    real = view._of_metric

    def noting(table, columns, metric):
        seen.add(metric)
        return real(table, columns, metric)

    monkeypatch.setattr(view, "_of_metric", noting)
    return seen


def test_all_that_rooms_ask_for_is_wanted(asked):
    for room in rooms("detectors"):
        detector = room.load()
        if "windows" in detector.needs:
            list(detector.detect(next(world for world in detector.cases() if world.expect).tables))
    assert len(asked) > 40
    of_logs = set(_step_names.METRICS.values())  # no server has them
    assert asked - of_logs <= wanted(), sorted(asked - of_logs - wanted())


def test_much_of_what_is_exported_is_not():
    names = {metric.name for metric in METRICS}
    assert len(wanted() & names) < 0.6 * len(names)
