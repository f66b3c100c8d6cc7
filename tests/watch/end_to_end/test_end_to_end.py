"""From a fault to a notification, with all programs real: a server's road and one without any server, side by side.

13 jobs run on 27 hosts, and 13 faults begin at one moment. Both roads watch the same agents' pages:

  pages -> Prometheus -> `skewscope watch --prometheus` -> Alertmanager -> webhook, and a webhook of its own
  pages -> `skewscope watch --scrape --store` -> webhook

In the middle every program is killed and started again; then the faults end. Nothing here is faster than life: the test
takes about six minutes, which it sleeps.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
F = SimpleNamespace(**run_path(str(HERE / "_fleet.py")))
P = SimpleNamespace(**run_path(str(HERE / "_programs.py")))
WITHIN_S = 90.0
LASTS_S = 150.0  # the faults
SETTLED_S = 114.0  # four windows, and the time to look at them
QUIET_S = 12.0
PHASE_S = float(os.environ.get("SKEWSCOPE_TEST_PHASE_S", "20"))  # of a window that is over when they begin
PAST = 14  # windows that are known at the beginning
CLEAR_S = 30
TOOLS = ("prometheus", "promtool", "prometheus-alertmanager")
FAULTS = F.SOFT | F.HARD
ROADS = ("server", "alertmanager", "serverless")  # paths of the receiver

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="no Prometheus and Alertmanager are installed"),
]


class Story:
    """What happened: notifications by path, and what services told at some moments."""

    def __init__(self, folder: Path) -> None:
        self.fleet = F.Fleet(FAULTS, LASTS_S)
        self.receiver = P.Receiver()
        self.folder = folder
        self.before, self.after, self.killed_ns = {}, {}, 0
        self.programs = {}

    def prepare(self) -> None:
        """Let the past be known, and start all programs; the faults begin in less than a minute then."""
        fleet, folder, hook = self.fleet, self.folder, self.receiver.url
        fleet.server.start()
        now_ns = time.time_ns()
        fleet.onset_ns = (now_ns // F.WINDOW_NS + 3) * F.WINDOW_NS + int(PHASE_S * 1e9)
        fleet.write_past(folder / "past", now_ns, PAST)
        fleet.fill_store(folder / "store", now_ns, PAST)
        (folder / "agents").write_text("\n".join(fleet.targets()))
        server = P.prometheus(folder / "prometheus", F.prometheus_config(fleet), folder / "past")
        manager = P.alertmanager(folder / "alertmanager", f"{hook}/alertmanager")
        self.programs = {
            "prometheus": server, "alertmanager": manager,
            "server": P.watch(folder / "a", "--prometheus", P.base(server), "--alertmanager", P.base(manager),
                              "--webhook", f"{hook}/server", "--clear-after", CLEAR_S),
            "serverless": P.watch(folder / "b", "--scrape", f"@{folder}/agents", "--store", folder / "store",
                                  "--webhook", f"{hook}/serverless", "--clear-after", CLEAR_S),
        }  # fmt: skip
        for program in self.programs.values():
            program.start()
        assert time.time_ns() < fleet.onset_ns, "this machine is too slow for the test: the faults began already"

    def sleep_until(self, second: float) -> None:
        """Sleep until so many seconds after the onset."""
        time.sleep(max(0.0, self.fleet.onset_ns / 1e9 + second - time.time()))

    def named(self, road: str) -> dict[tuple[str, str], int]:
        """Return (condition, place) to when (ns) it was told first; a better name for an incident may come later."""
        found: dict[tuple[str, str], int] = {}
        for t_ns, event, _, condition, place, _ in self.receiver.told(road):
            if event in ("opened", "changed"):
                found.setdefault((condition, place), t_ns)
        return found

    def closed(self, road: str) -> dict[str, int]:
        """Return incidents to when (ns) they were over; an Alertmanager's alert is over with each of its labels."""
        last: dict[str, dict[tuple[str, ...], tuple[int, str]]] = {}
        for t_ns, event, incident, *labels in self.receiver.told(road):
            key = tuple(labels) if road == "alertmanager" else ()
            last.setdefault(incident, {})[key] = t_ns, event
        return {
            incident: max(t_ns for t_ns, _ in parts.values())
            for incident, parts in last.items()
            if {event for _, event in parts.values()} == {"closed"}
        }

    def known(self) -> dict[str, set[tuple[str, str, str]]]:
        """Return what each service tells of its incidents: identity, condition, place."""
        return {
            road: {(one["id"], one["condition"], one["subject"]["id"]) for one in P.incidents(self.programs[road])}
            for road in ("server", "serverless")
        }

    def quiet(self) -> bool:
        """Return whether nothing was told lately: an Alertmanager writes down what it told each 5 s only."""
        return time.time_ns() - self.receiver.last_ns > QUIET_S * 1e9

    def tell(self) -> None:
        """Live through it."""
        self.sleep_until(0)
        P.until(lambda: all(self.fleet.truth <= set(self.named(road)) for road in ROADS), WITHIN_S)
        self.sleep_until(SETTLED_S)  # prices of the first windows still grow
        P.until(self.quiet, LASTS_S - SETTLED_S)
        self.before, self.killed_ns = self.known(), time.time_ns()
        self.programs["alertmanager"].again()
        self.programs["server"].again()
        self.programs["serverless"].again()
        self.programs["prometheus"].again()
        self.sleep_until(LASTS_S)
        P.until(lambda: all(len(self.closed(road)) >= len(F.SOFT) for road in ROADS), 170)
        self.after = self.known()

    def end(self) -> None:
        for program in self.programs.values():
            program.kill()
        self.receiver.stop()
        self.fleet.server.stop()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Return the story when it is over."""
    found = Story(tmp_path_factory.mktemp("story"))
    try:
        found.prepare()
        found.tell()
        yield found
    finally:
        found.end()


def conditions(story: Story, road: str) -> dict[str, str]:
    """Return incidents to the condition that they were told with last, whatever name ended."""
    return {one[2]: one[3] for one in story.receiver.told(road) if one[1] != "closed"}


def test_each_fault_is_told_within_90_s(story, capsys):
    onset_s, end_s = story.fleet.onset_ns / 1e9, story.fleet.onset_ns / 1e9 + LASTS_S
    told = {road: {place: t_ns / 1e9 - onset_s for place, t_ns in story.named(road).items()} for road in ROADS}
    over = {road: {conditions(story, road)[one]: t_ns / 1e9 - end_s for one, t_ns in story.closed(road).items()}
            for road in ROADS}  # fmt: skip
    with capsys.disabled():
        print("\nseconds from the onset to the notification, and from the end of the fault to that of the alert")
        print(f"{'':46}{''.join(f'{road:>13}' for road in (*ROADS, *ROADS))}")
        for place in sorted(story.fleet.truth):
            times = [*(told[road].get(place) for road in ROADS), *(over[road].get(place[0]) for road in ROADS)]
            shown = "".join(f"{'-' if s is None else f'{s:.1f}':>13}" for s in times)
            print(f"  {place[0]:24}{place[1]:20}{shown}")
    for road in ROADS:
        late = {place: told[road].get(place) for place in story.fleet.truth}
        assert {one: s for one, s in late.items() if s is None or not 0 < s <= WITHIN_S} == {}, road


def test_each_trouble_is_one_incident_told_once(story):
    for road in ROADS:
        told = story.receiver.told(road)
        assert sorted(conditions(story, road).values()) == sorted(FAULTS), road
        new = [one[2:] for one in told if one[1] in ("opened", "changed")]  # a worse severity may be told of again
        assert len(new) == len(set(new)), road
        assert {one[1] for one in told} <= {"opened", "changed", "closed"}, road
    for road in ("server", "serverless"):
        opened = [one[2] for one in story.receiver.told(road) if one[1] == "opened"]
        assert len(opened) == len(FAULTS), road


def test_places_are_those_of_the_faults(story):
    for road in ("server", "serverless"):
        assert {one[1:] for one in story.after[road]} == story.fleet.truth, road


def test_nothing_changes_when_every_program_ends_and_begins_again(story):
    for road in ("server", "serverless"):
        assert story.after[road] == story.before[road], road
    for road in ROADS:
        told = [one for one in story.receiver.told(road) if one[1] != "closed"]
        before = {one[2]: one[5] for one in told if one[0] <= story.killed_ns}
        again = [one for one in told if one[0] > story.killed_ns]
        # A fault that goes on may get dearer, which is told once; nothing else is.
        assert [one for one in again if one[5] >= before.get(one[2], "")] == [], road


def test_alerts_end_when_the_faults_do(story):
    for road in ROADS:
        over = sorted(conditions(story, road)[one] for one in story.closed(road))
        assert over == sorted(F.SOFT), road  # a part that broke is told for ten minutes: it stays broken
        ended = [one[2:] for one in story.receiver.told(road) if one[1] == "closed"]
        assert len(ended) == len(set(ended)), road
    for road in ("server", "serverless"):
        live = {one["condition"] for one in P.incidents(story.programs[road]) if one["state"] != "closed"}
        assert live == set(F.HARD), road
