"""Rows of the watching service: one that asks a small simulated fleet without any server, with store and state."""

from __future__ import annotations

import contextlib
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import _faults as faults
from _matrix_live import besieged
from _rows import Impossible, Row, holds, row

from skewscope.store import Reader

END_TO_END = Path(__file__).parents[1] / "watch" / "end_to_end"
P = SimpleNamespace(**run_path(str(END_TO_END / "_programs.py")))
F = SimpleNamespace(**run_path(str(END_TO_END / "_fleet.py")))
ROWS: list[Row] = []
FAULTS = {"gpu-clock-pinned-low": 0.3, "gpu-off-bus": 0.0}
PAST, SINCE = 14, 8  # windows in the store, and how many of them have the fault
ALL = (0, 1 << 62)
WINDOW_S = 95.0  # within which one more window is certainly told on a crowded machine


class Watched:
    """The fleet, its service, and the files of that in `disk`."""

    def __init__(self, folder: Path, disk: Path | None = None) -> None:
        self.folder, self.disk = folder, disk or folder
        self.fleet = F.Fleet(FAULTS, 1200.0)
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.fleet.server.start()
        now_ns = time.time_ns()
        self.fleet.onset_ns = (now_ns // F.WINDOW_NS - SINCE) * F.WINDOW_NS
        self.fleet.fill_store(self.disk / "store", now_ns, PAST)
        self.more: list[str] = []
        self.program = None

    def start(self) -> None:
        targets = ",".join([*self.fleet.targets(), *self.more])
        self.program = P.watch(self.disk, "--scrape", targets, "--store", self.disk / "store", "--scrape-interval", 10)
        self.program.words[1:3] = ["-c", faults.CLOCK, str(self.clock)]  # instead of -m skewscope
        self.program.log = self.folder / "log"
        self.program.start()

    @property
    def log(self) -> str:
        return self.program.log.read_text()

    def known(self) -> dict[tuple[str, str], str]:
        """Return (condition, place) of the fleet's faults to the identity of their incidents."""
        told = P.incidents(self.program)
        found = {(one["condition"], one["subject"]["id"]): one["id"] for one in told if one["state"] != "closed"}
        return {place: found[place] for place in self.fleet.truth if place in found}

    def named(self) -> dict[tuple[str, str], str]:
        """Return `known` once all faults are."""
        holds(
            P.until(lambda: set(self.known()) == self.fleet.truth, WINDOW_S), (self.known(), self.reasons(), self.log)
        )
        return self.known()

    def reasons(self) -> str:
        """Return why the service is not ready, "" where it is."""
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(P.base(self.program) + "/readyz", timeout=10).read()
            return ""
        try:
            urllib.request.urlopen(P.base(self.program) + "/readyz", timeout=10).read()
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()
        return ""

    def windows(self) -> set[int]:
        """Return when the windows in the store ended (ns)."""
        return set(Reader(self.disk / "store").read(*ALL)["windows"]["t_ns"].tolist())

    def another(self) -> None:
        """Wait until one more window is kept."""
        before = max(self.windows())
        holds(P.until(lambda: max(self.windows()) > before, WINDOW_S, 1.0), (self.reasons(), self.log))

    def end(self) -> None:
        code = self.program.kill(signal.SIGTERM) if self.program else 0
        self.fleet.server.stop()
        holds(code == 0, f"exit code {code}: {self.log}")


@contextlib.contextmanager
def watched(folder: Path, disk: Path | None = None):
    """Yield a service that has not started; it must end with code 0."""
    one = Watched(folder, disk)
    try:
        yield one
    except BaseException:
        if one.program:
            one.program.kill()
        one.fleet.server.stop()
        raise
    one.end()


@row(ROWS, "watch", "slow loris", "it answers within 10 s beside 300 clients that send a byte a second")
def watch_loris(folder: Path) -> str:
    return besieged(P.watch(folder, "--scrape", f"127.0.0.1:{P.free_port()}"), "/metrics")


@row(ROWS, "watch", "kill -9", "the same incidents under the same identities; no window in the store is lost")
def watch_killed(folder: Path) -> str:
    with watched(folder) as one:
        one.start()
        one.another()  # incidents are kept with each window
        before, kept = one.named(), one.windows()
        one.program.again()
        after = one.named()
        holds(after == before, (before, after))
        holds(kept <= one.windows(), "windows are lost")
        return f"{len(after)} incidents as before, all {len(kept)} windows still there"


@row(ROWS, "watch", "disk full", "verdicts go on; /readyz says why it is not ready; with room again it is, by itself")
def watch_full(folder: Path) -> str:
    with faults.small_disk(folder / "disk", "32m") as small:
        if not small:
            raise Impossible("only root may mount a small disk")
        with watched(folder, folder / "disk") as one:
            one.start()
            before, kept = one.named(), one.windows()
            ballast = faults.fill(folder / "disk")
            holds(P.until(one.reasons, WINDOW_S), one.log)
            said = one.reasons().splitlines()[0]
            holds(one.known() == before and kept <= one.windows(), (said, one.known()))
            ballast.unlink()
            holds(P.until(lambda: not one.reasons(), WINDOW_S), one.reasons())
            holds(one.known() == before and not Reader(one.disk / "store").damaged, one.known())
            return f"{said.replace(str(folder), 'DIR')!r}; ready again by itself, nothing lost"


@row(ROWS, "watch", "clock jump", "an hour ahead and back it goes on with windows, with the same incidents")
def watch_clock(folder: Path) -> str:
    with watched(folder) as one:
        one.start()
        before = one.named()
        one.clock.write_text("3600")
        begun_ns = time.time_ns()
        holds(P.until(lambda: max(one.windows()) > begun_ns + 3000 * 10**9, WINDOW_S), one.log)
        one.clock.write_text("0")
        holds(P.until(lambda: "went back" in one.log, WINDOW_S), one.log)
        after = one.named()
        holds(after == before, (before, after))
        return f"a window of the hour ahead, then back in the present: {len(after)} incidents keep their identities"


@row(
    ROWS,
    "watch",
    "network cut",
    "windows come in time; healthy nodes are read, the others told",
)
def watch_cut(folder: Path) -> str:
    with watched(folder) as one:
        page = one.fleet.page(one.fleet.pages.nodes[0], time.time_ns())
        sick = {"silent": faults.Failing(faults.silent), "reset": faults.Failing(faults.resets(page))}
        try:
            one.more = [f"{name}=http://127.0.0.1:{it.address[1]}/metrics" for name, it in sick.items()]
            one.more.append(f"refused=http://127.0.0.1:{P.free_port()}/metrics")
            one.start()
            before = one.named()
            one.another()
            one.another()
            holds(one.known() == before, one.known())
            rows = Reader(one.disk / "store").read(max(one.windows()) - 1, max(one.windows()))["windows"]
            nodes = set(rows["node"].astype(str))
            holds(nodes >= set(one.fleet.pages.nodes), f"only {nodes}")
            page = str(P.get(P.base(one.program) + "/metrics"))
            lines = [line for line in page.splitlines() if line.startswith("skewscope_watch") and "stale" in line]
            holds(any(float(line.rpartition(" ")[2]) >= 3 for line in lines), lines)
            return f"two windows in time, with all {len(one.fleet.pages.nodes)} healthy nodes; 3 are told stale"
        finally:
            for it in sick.values():
                it.stop()


@row(ROWS, "watch", "corrupt store and state, half-written files",
     "it starts; damaged segments and state are told and kept aside, the rest is read")  # fmt: skip
def watch_damaged(folder: Path) -> str:
    with watched(folder) as one:
        segments = sorted((folder / "store").glob("windows-*.segment"))
        faults.flip_bits(segments[1], 400)
        faults.cut(segments[3])
        (folder / "store/.windows-1-1.segment.tmp").write_bytes(b"PAR1 half")
        (folder / "state").mkdir()
        (folder / "state/state.json").write_text('{"schema": "skewscope.watch-state/1", "board": {"inc')
        begun_s = time.monotonic()
        one.start()
        took_s = time.monotonic() - begun_s
        one.named()
        holds((folder / "state/state.damaged.json").exists() and "put aside" in one.log, one.log)
        holds(len(one.windows()) >= PAST - 2, f"{len(one.windows())} windows")
        holds(not (folder / "store/.windows-1-1.segment.tmp").exists(), "half a file is left")
        return f"answers after {took_s:.1f} s; both faults found in {len(one.windows())} windows; state put aside"
