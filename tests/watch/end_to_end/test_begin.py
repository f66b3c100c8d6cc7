"""A service that begins again asks its source for the past once, and then for windows that end from now on."""

from __future__ import annotations

import pandas as pd
import pytest

from skewscope.feeds.contract import Told
from skewscope.frames import empty, frame
from skewscope.watch.service import Plan, Service

WINDOW_NS = 30 * 10**9
NOW_NS = 1_795_900_000 * 10**9 // WINDOW_NS * WINDOW_NS + 7 * 10**9


class Source:
    """Knows one old window; says that nobody answered in any later one, as a scraper that was not there then."""

    def __init__(self, known_ns: int) -> None:
        self.known_ns, self.asked, self.service = known_ns, [], None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def history(self, begin_ns, end_ns):
        yield told(self.known_ns, frame("windows", {
            "t_ns": self.known_ns, "window_ns": WINDOW_NS, "node": ["n1"], "device": "",
            "metric": "skewscope_steps_total", "labels": "", "job": "llm", "rank": 0,
            "last_value": 1.0, "increase_value": 1.0, "samples_count": 2,
        }))  # fmt: skip

    def window(self, end_ns):
        self.asked.append(end_ns)
        self.service.stop()
        return told(end_ns, empty("windows"))


def told(end_ns: int, windows: pd.DataFrame) -> Told:
    return Told(end_ns, {"windows": windows, "events": empty("events")}, 1, len(windows), (), (), 2 * len(windows))


@pytest.mark.parametrize("away", range(1, 6))
def test_windows_in_which_nobody_looked_are_not_asked_for(away):
    source = Source(NOW_NS // WINDOW_NS * WINDOW_NS - away * WINDOW_NS)
    source.service = Service(Plan(source, lambda snapshot: None, clock_ns=lambda: NOW_NS))
    source.service.run()
    assert source.asked == [NOW_NS // WINDOW_NS * WINDOW_NS + WINDOW_NS]
