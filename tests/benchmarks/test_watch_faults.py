"""Faults of everything around a watching service, one after another, for 20 minutes: does it hold, and forget nothing?

Two services watch one simulated fleet of four slow or broken jobs: one through Prometheus, one without a server. In
turn Prometheus is away, half of the agents are (those with the faults), pages are garbage or hold too many series, the
disk is full, and the clock of the second service is an hour ahead. SKEWSCOPE_BENCH_SOAK_S shortens or lengthens it.

The full disk is a small tmpfs, which needs root; without it that part is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

END_TO_END = Path(__file__).parents[1] / "watch" / "end_to_end"
F = SimpleNamespace(**run_path(str(END_TO_END / "_fleet.py")))
P = SimpleNamespace(**run_path(str(END_TO_END / "_programs.py")))
LENGTH_S = float(os.environ.get("SKEWSCOPE_BENCH_SOAK_S", "1200"))
FAULTS = {"gpu-clock-pinned-low": 0.3, "gpu-hw-slowdown": 0.35, "gpu-off-bus": 0.0, "host-cpu-contention": 0.35}
PAST = 40  # windows: the horizon is full, so that memory has no reason to grow
DISK = "64m"
BOMB_SERIES = 20_000  # new ones on every page
AHEAD_S = 3600
GROWTH_RATIO = 0.10  # of memory, over the second half
TOOLS = ("prometheus", "promtool")
CLOCK = """
import pathlib, sys, time
path, real_ns, real, known = pathlib.Path(sys.argv.pop(1)), time.time_ns, time.time, [0.0, 0.0]
def ahead():
    if time.monotonic() > known[0]:
        known[:] = time.monotonic() + 1.0, float(path.read_text())
    return known[1]
time.time_ns, time.time = lambda: real_ns() + int(ahead() * 1e9), lambda: real() + ahead()
from skewscope.commands import main
sys.exit(main())
"""  # a program whose clock is ahead by the seconds in a file

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="no Prometheus is installed"),
]


@contextlib.contextmanager
def small_disk(folder):
    """Yield whether a folder is a small disk of its own."""
    folder.mkdir()
    small = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder], check=False).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "-l", folder], check=False)


class Soak:
    """The fleet, both services, and what was seen of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, folder / "disk"
        self.fleet = F.Fleet(FAULTS, LENGTH_S + 900)
        self.receiver = P.Receiver()
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.memory: dict[str, list[tuple[float, int]]] = {"server": [], "serverless": []}
        self.ended = threading.Event()
        self.notes: list[str] = []
        self.programs = {}

    def start(self) -> None:
        fleet, folder = self.fleet, self.folder
        fleet.server.start()
        now_ns = time.time_ns()
        fleet.onset_ns = (now_ns // F.WINDOW_NS + 2) * F.WINDOW_NS
        fleet.write_past(folder / "past", now_ns, PAST)
        fleet.fill_store(self.disk / "store", now_ns, PAST)
        self.prometheus = P.prometheus(folder / "prometheus", F.prometheus_config(fleet), folder / "past")
        hook = self.receiver.url
        self.programs = {
            "server": P.watch(self.disk / "a", "--prometheus", P.base(self.prometheus), "--webhook", f"{hook}/server"),
            "serverless": P.watch(self.disk / "b", "--scrape", ",".join(fleet.targets()), "--store",
                                  self.disk / "store", "--webhook", f"{hook}/serverless"),
        }  # fmt: skip
        self.programs["serverless"].words[1:3] = ["-c", CLOCK, str(self.clock)]  # instead of -m skewscope
        for road, program in self.programs.items():
            program.log = folder / f"{road}.log"
        self.prometheus.start()
        for program in self.programs.values():
            program.start()
        threading.Thread(target=self._weigh, daemon=True).start()

    def _weigh(self) -> None:
        while not self.ended.wait(5.0):
            for road, program in self.programs.items():
                with contextlib.suppress(OSError):
                    self.memory[road].append((time.monotonic(), program.rss_bytes()))

    def end(self) -> None:
        self.ended.set()
        for program in (*self.programs.values(), self.prometheus):
            program.kill()
        self.receiver.stop()
        self.fleet.server.stop()

    def stage(self, name: str, least_s: float, share: float) -> None:
        """Live through a part of the run; both services must be there all the time."""
        lasts_s = max(least_s, share * LENGTH_S)
        end = time.monotonic() + lasts_s
        while time.monotonic() < end:
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
            for road, program in self.programs.items():
                assert program.alive, f"{name}: {road} ended: {program.log.read_text()[-3000:]}"
        told = {road: "; ".join(self.reasons(road)) or "ready" for road in self.programs}
        self.notes.append(f"{name} for {lasts_s:.0f} s: {told['server'][:150]} | {told['serverless'][:150]}")

    def reasons(self, road: str) -> list[str]:
        """Return why a service is not ready."""
        try:
            urllib.request.urlopen(P.base(self.programs[road]) + "/readyz", timeout=10).read()
        except urllib.error.HTTPError as error:
            return error.read().decode().split("\n")
        return []

    def faults(self, road: str) -> dict[tuple[str, str], tuple[str, str]]:
        """Return (condition, place) of the fleet's faults to (identity, state) of their incidents."""
        told = P.incidents(self.programs[road])
        found = {(one["condition"], one["subject"]["id"]): (one["id"], one["state"]) for one in told}
        return {place: found[place] for place in self.fleet.truth if place in found}

    def stale(self, road: str) -> set[str]:
        """Return the places of which nobody knows how they are."""
        told = P.incidents(self.programs[road])
        return {one["subject"]["id"] for one in told
                if one["condition"] == "telemetry-stale" and one["state"] not in ("mitigated", "closed")}  # fmt: skip


def bomb(numbers):
    """Return a trick: pages with many series that never come again."""

    def page(body: bytes) -> bytes:
        more = [f'skewscope_steps_total{{job_id="bomb-{next(numbers)}",rank="0"}} 7' for _ in range(BOMB_SERIES)]
        return body + "\n".join(more).encode() + b"\n"

    return page


def fill(folder: Path) -> Path:
    """Return a file that takes all the room there is."""
    path = folder / "full"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return path


def told_in(soak: Soak, what: str, road: str, condition: str) -> list[str]:
    return [one[2] for one in soak.receiver.told(road) if one[1] == what and one[3] == condition]


def lived(soak: Soak, small: bool) -> None:
    """Let one thing after another go wrong."""
    fleet, nodes = soak.fleet, soak.fleet.pages.nodes
    soak.stage("all is well with the programs", 100, 0.1)
    for _ in range(3):  # on a crowded machine the last one may need another look or two
        soak.first = {road: soak.faults(road) for road in soak.programs}
        if all(set(found) == fleet.truth for found in soak.first.values()):
            break
        soak.stage("all is well a little longer", 30, 0.0)
    soak.prometheus.kill()
    soak.stage("Prometheus is away", 100, 0.12)
    assert soak.stale("server") and not soak.stale("serverless")
    soak.prometheus.start()
    fleet.tricks = {node: lambda body: b"" for node in nodes[::2]}
    soak.stage("half of the agents are gone", 100, 0.12)
    assert soak.stale("server") and soak.stale("serverless")
    numbers = itertools.count()
    fleet.tricks = {nodes[1]: bomb(numbers), nodes[3]: lambda body: os.urandom(len(body)),
                    nodes[5]: lambda body: body[: len(body) // 2]}  # fmt: skip
    soak.stage("garbage, half a page, a label bomb", 60, 0.12)
    fleet.tricks = {}
    if small:
        full = fill(soak.disk)
        soak.stage("the disk is full", 65, 0.12)
        assert all(soak.reasons(road) for road in soak.programs)
        full.unlink()
        soak.stage("there is room again", 65, 0.05)
        assert not any(soak.reasons(road) for road in soak.programs)
    soak.clock.write_text(str(AHEAD_S))
    soak.stage("the clock is an hour ahead", 65, 0.12)
    soak.clock.write_text("0")
    soak.stage("all is well again", 150, 0.2)


def test_a_service_outlives_what_goes_wrong_around_it(tmp_path, capsys):
    with small_disk(tmp_path / "disk") as small:
        soak = Soak(tmp_path)
        try:
            soak.start()
            lived(soak, small)
            last = {road: soak.faults(road) for road in soak.programs}
        finally:
            soak.end()
            report(soak, capsys)
    for road in soak.programs:
        assert set(soak.first[road]) == soak.fleet.truth, road
        assert {place: one[0] for place, one in last[road].items()} == {
            place: one[0] for place, one in soak.first[road].items()
        }, road
        assert "closed" not in {state for _, state in last[road].values()}, road
        for condition in FAULTS:
            assert len(told_in(soak, "opened", road, condition)) == 1, (road, condition)
            assert told_in(soak, "closed", road, condition) == [], (road, condition)
        growth, mean = slope(soak.memory[road])
        assert growth < GROWTH_RATIO * mean, road


def slope(memory: list[tuple[float, int]]) -> tuple[float, float]:
    """Return how many bytes a line through the second half grows, and their mean."""
    times, sizes = np.array(memory[len(memory) // 2 :], dtype=float).T
    return float(np.polyfit(times, sizes, 1)[0] * (times[-1] - times[0])), float(sizes.mean())


def report(soak: Soak, capsys) -> None:
    with capsys.disabled():
        print()
        for note in soak.notes:
            print(f"  {note}")
        for road, memory in soak.memory.items():
            if len(memory) > 8:
                growth, mean = slope(memory)
                half_s = memory[-1][0] - memory[len(memory) // 2][0]
                print(f"  {road}: {mean / 2**20:.0f} MiB in the second half, {growth / 2**20:+.1f} MiB over its "
                      f"{half_s:.0f} s; most {max(size for _, size in memory) / 2**20:.0f} MiB")  # fmt: skip
            kinds = [(one[1], one[3], one[4]) for one in soak.receiver.told(road)]
            print(f"  {road} told: {kinds}")
