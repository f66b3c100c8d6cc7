"""Rows of the agent, of a job under the hook, and of the dashboard."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import _faults as faults
from _rows import Impossible, Row, holds, row

P = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "watch" / "end_to_end" / "_programs.py")))
ROWS: list[Row] = []
SKEWSCOPE = [sys.executable, "-m", "skewscope"]
ANSWER_S = 10.0  # the usual timeout of a scrape
LOOKS = 5


def agent(folder: Path, *flags: object, clock: Path | None = None):
    """Return an agent that has not started."""
    port = P.free_port()
    start = [sys.executable, "-c", faults.CLOCK, clock] if clock else SKEWSCOPE
    words = [*start, "agent", "--listen", f"127.0.0.1:{port}", "--spool", folder / "spool", "--quiet", *flags]
    return P.Program(words, f"http://127.0.0.1:{port}/readyz", folder / "agent.log")


def dashboard(folder: Path, *flags: object):
    """Return a dashboard that has not started."""
    port = P.free_port()
    words = [*SKEWSCOPE, "dashboard", "--listen", f"127.0.0.1:{port}", "--quiet", *flags]
    return P.Program(words, f"http://127.0.0.1:{port}/healthz", folder / "dashboard.log")


def ready(program) -> None:
    """Start a program; it answers, and with 200."""
    program.start()
    holds(P.until(lambda: P.get(program.url), 30.0, 0.1), program.log.read_text())


def answered(program, path: str) -> float:
    """Return how long the slowest of some answers took (s)."""
    slowest_s = 0.0
    for _ in range(LOOKS):
        begun_s = time.monotonic()
        try:
            with urllib.request.urlopen(P.base(program) + path, timeout=ANSWER_S) as reply:
                reply.read()
        except OSError as error:
            raise AssertionError(f"{path}: {error} after {time.monotonic() - begun_s:.1f} s") from None
        slowest_s = max(slowest_s, time.monotonic() - begun_s)
        time.sleep(0.2)
    return slowest_s


def besieged(program, path: str) -> str:
    """Return what was seen of a listener with hundreds of slow clients."""
    ready(program)
    # `watch` is alive before its first window, but has nothing to tell until then.
    holds(P.until(lambda: P.get(P.base(program) + path), 30.0, 0.1), program.log.read_text())
    port = int(program.url.split(":")[2].partition("/")[0])
    try:
        with faults.Loris(("127.0.0.1", port)) as slow:
            slowest_s = answered(program, path)
        return f"{slow.begun} slow connections; the slowest of {LOOKS} answers took {slowest_s:.2f} s"
    finally:
        holds(program.kill(signal.SIGTERM) == 0, program.log.read_text())


@row(ROWS, "agent", "slow loris", "a scrape is answered within 10 s beside 300 clients that send a byte a second",
     quick=True)  # fmt: skip
def agent_loris(folder: Path) -> str:
    return besieged(agent(folder, "--collectors", "host-cpu"), "/metrics")


@row(ROWS, "agent", "kill -9", "started again at the same address it is ready, without a person")
def agent_killed(folder: Path) -> str:
    one = agent(folder)
    ready(one)
    for _ in range(2):
        one.kill()
        begun_s = time.monotonic()
        ready(one)
    took_s = time.monotonic() - begun_s
    holds(one.kill(signal.SIGTERM) == 0, one.log.read_text())
    return f"killed twice; ready again after {took_s:.1f} s"


@row(ROWS, "agent", "clock jump", "pages go on to be made when the clock goes an hour ahead and back")
def agent_clock(folder: Path) -> str:
    clock = folder / "clock"
    clock.write_text("0")
    one = agent(folder, clock=clock)
    ready(one)
    try:
        for ahead_s in ("3600", "0", "-3600"):
            clock.write_text(ahead_s)
            before = P.get(P.base(one) + "/metrics")
            holds(P.until(lambda before=before: P.get(P.base(one) + "/metrics") != before, 15.0, 0.2), "no new page")
            time.sleep(1.5)
            holds(P.get(one.url) == "ready\n", f"not ready at {ahead_s} s")
    finally:
        code = one.kill(signal.SIGTERM)
    holds(code == 0, one.log.read_text())
    return "an hour ahead, back, and an hour behind: new pages, ready all the time"


@row(ROWS, "agent", "disk full, damaged rings", "it answers; what is whole is read, the rest does not end it")
def agent_disk(folder: Path) -> str:
    with faults.small_disk(folder / "spool", "8m") as small:
        if not small:
            raise Impossible("only root may mount a small disk")
        (folder / "spool/a.ring").write_bytes(b"SKEW" + bytes(3000))
        (folder / "spool/b.ring").write_bytes(b"")
        faults.fill(folder / "spool")
        one = agent(folder)
        ready(one)
        slowest_s = answered(one, "/metrics")
        code = one.kill(signal.SIGTERM)
        holds(code == 0, one.log.read_text())
    return f"answers within {slowest_s:.2f} s, exit code 0"


@row(ROWS, "hook", "disk full", "the job goes on; output and exit code are its own")
def hook_disk(folder: Path) -> str:
    with faults.small_disk(folder / "spool", "1m") as small:
        if not small:
            raise Impossible("only root may mount a small disk")
        faults.fill(folder / "spool")
        code = "import torch; print(int(torch.ones(7).sum())); raise SystemExit(5)"
        done = subprocess.run([*SKEWSCOPE, "run", "--spool", folder / "spool", "--", sys.executable, "-c", code],
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    holds((done.returncode, done.stdout) == (5, "7\n"), done)
    return f"exit code 5 and the output are the job's; told: {done.stderr.strip().splitlines()[-1:] or 'nothing'}"


@row(ROWS, "dashboard", "slow loris", "a page is answered within 10 s beside 300 clients that send a byte a second")
def dashboard_loris(folder: Path) -> str:
    return besieged(dashboard(folder), "/")


@row(ROWS, "dashboard", "kill -9", "started again at the same address it shows its pages, without a person")
def dashboard_killed(folder: Path) -> str:
    one = dashboard(folder)
    ready(one)
    one.kill()
    begun_s = time.monotonic()
    ready(one)
    took_s = time.monotonic() - begun_s
    holds(one.kill(signal.SIGTERM) == 0, one.log.read_text())
    return f"pages again after {took_s:.1f} s"


@row(ROWS, "dashboard", "network cut", "pages are answered within 10 s while its source is silent, or refuses")
def dashboard_cut(folder: Path) -> str:
    dead, slowest_s = faults.Failing(faults.silent), 0.0
    try:
        for source in (f"http://127.0.0.1:{dead.address[1]}", f"http://127.0.0.1:{P.free_port()}"):
            one = dashboard(folder, "--watch", source)
            one.start()
            slowest_s = max(slowest_s, answered(one, "/"), answered(one, "/_dash-layout"))
            holds(one.kill(signal.SIGTERM) == 0, one.log.read_text())
    finally:
        dead.stop()
    return f"silent and refused: the slowest page took {slowest_s:.2f} s"


@row(ROWS, "dashboard", "half-written report", "exit code 2 or 3 and one line that names the file")
def dashboard_half(folder: Path) -> str:
    (folder / "report.json").write_text('{"schema": "skewscope.report/1", "findings": [')
    done = subprocess.run([*SKEWSCOPE, "dashboard", "--report", folder / "report.json", "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    holds(done.returncode in (2, 3) and "report.json" in done.stderr and "Traceback" not in done.stderr, done)
    return f"exit code {done.returncode}; {done.stderr.strip().splitlines()[-1].replace(str(folder), 'DIR')[:120]}"
