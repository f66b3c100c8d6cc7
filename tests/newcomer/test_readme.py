"""README from top to bottom: every command that it shows is run, line by line, with real things behind its names.

Run by `make newcomer`. `traces/` is a recording, `n1:9709` an agent, `prometheus:9090` a Prometheus of a fleet with a
fault, Slurm a real one of eight nodes. What runs until Ctrl-C has to answer, and to end by it.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytestmark = pytest.mark.newcomer

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_data"
CLUSTER = run_path(str(ROOT / "tests/actuators/slurm/_cluster.py"))
BIN = os.environ.get("SKEWSCOPE_NEWCOMER_BIN", str(Path(sys.executable).parent))
CLONE = Path(BIN).parents[1]  # where `make demo` makes its environment
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.S | re.M)
COMMANDS = [line for block in BLOCK.findall((ROOT / "README.md").read_text("utf-8")) for line in block.splitlines()]
ELSEWHERE = ("make test",)  # what CI runs for every change, in an environment of its own
STAYS = re.compile(r"skewscope (up|watch|dashboard|top|agent)(?! --list)")
HAS_IT = {"skewscope view critical-path": "dlrm-8-ranks", "skewscope plan pipeline": "pipeline-imbalance"}
NAMED = "result/report.json --finding f1"  # nine steps are too few to act by themselves: somebody names the finding
ENDS_WITH = {"--fail-on": 1, "--fail-if-slower": 1}  # gates, and there is something to stop
ADDRESS = re.compile(r"https?://[\d.:]+|(?<=serving )[\d.:]+")
ANSWER_S, END_S, LINE_S = 120, 30, 900
TRAIN = """
import time, torch, torch.distributed as dist
dist.init_process_group("gloo")
for step in range(20):
    time.sleep(0.01 + 0.02 * (dist.get_rank() == 5))
    dist.all_reduce(torch.ones(1000))
dist.destroy_process_group()
"""


@dataclass(frozen=True)
class Place:
    """Where commands run: a folder, the environment, and what the README's names of machines stand for."""

    folder: Path
    environ: dict[str, str]
    names: dict[str, str]
    reasons: Callable[[], set[str]]  # why Slurm has nodes out of service

    def real(self, line: str) -> str:
        """Return a line of the README with real addresses, and a recording that has what is asked for, in it."""
        for command, sample in HAS_IT.items():
            if line.startswith(command):
                line = line.replace("traces/", f"sample_data/{sample}")
        for name, value in self.names.items():
            line = line.replace(name, value)
        return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("readme")
    environ = {
        **os.environ, "PATH": f"{BIN}:{CLUSTER['PATH']}:{Path(sys.executable).parent}", "HOME": str(folder / "home"),
        "SKEWSCOPE_SPOOL": str(folder / "spool"),
    }  # fmt: skip
    (folder / "home").mkdir()
    recordings(folder)
    with ExitStack() as stack:
        cluster = stack.enter_context(contextmanager(CLUSTER["running"])())
        environ["SLURM_CONF"] = str(cluster.conf)
        here = Place(folder, environ, {}, lambda: {node["reason"] for node in cluster.nodes()})
        agents = [listening(stack, here, "skewscope agent --listen 127.0.0.1:0")[-1] for _ in range(2)]
        (folder / "agents.txt").write_text("\n".join(agents))
        fleet = "skewscope up --simulate coll-late-rank --with-prometheus --dashboard none --listen 127.0.0.1:0"
        prometheus, alertmanager, watch = listening(stack, here, fleet, 3)
        yield replace(here, names={
            "n1:9709,n2:9709": ",".join(agents), "http://prometheus:9090": prometheus,
            "http://alertmanager:9093": alertmanager, "http://127.0.0.1:9710": watch,
            "result/report.json": NAMED, "/var/lib/skewscope": str(folder / "store"),
            "/run/skewscope/spool": str(folder / "spool"),
        })  # fmt: skip


def recordings(folder: Path) -> None:
    """Lay down what the README calls by names of its own."""
    (folder / "sample_data").symlink_to(SAMPLES)
    (folder / "before").symlink_to(SAMPLES / "compute-slow")
    (folder / "after").symlink_to(SAMPLES / "pipeline-imbalance")
    (folder / "traces").mkdir()
    for path in (SAMPLES / "compute-slow").glob("*[0-9b].*j*"):  # of hosts that the Slurm here has
        packed = path.suffix == ".gz"
        text = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).replace(b'"node', b'"n')
        (folder / "traces" / path.name).write_bytes(gzip.compress(text) if packed else text)
    draw = np.random.default_rng(1)
    seconds = 1.0 + draw.exponential(0.05, (200, 16)) + 3.0 * (draw.random((200, 16)) < 0.05)
    np.savetxt(folder / "delays.csv", seconds, delimiter=",")
    (folder / "train.py").write_text(TRAIN)
    for ranks in (8, 16, 32):
        words = ["simulate", "healthy-training", "--ranks", str(ranks), "--out", str(folder / f"runs/{ranks}"), "-q"]
        subprocess.run([f"{BIN}/skewscope", *words], check=True, stdout=subprocess.DEVNULL)


def listening(stack: ExitStack, place: Place, line: str, count: int = 1) -> list[str]:
    """Start what stays until the block ends; return the first different addresses that it tells."""
    log = place.folder / f"{len(list(place.folder.glob('*.log')))}.log"
    process = stack.enter_context(started(place, line, log))
    end_s = time.monotonic() + ANSWER_S
    while True:
        text = log.read_text()
        found = list(dict.fromkeys(ADDRESS.findall(text)))
        if len(found) >= count:
            return found[:count]
        assert process.poll() is None and time.monotonic() < end_s, f"{line}\n{text}"
        time.sleep(0.2)


@contextmanager
def started(place: Place, line: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a command that stays; afterwards it has to end by Ctrl-C."""
    words = shlex.split(line, comments=True)
    with log.open("wb") as out:
        process = subprocess.Popen(words, cwd=place.folder, env=place.environ, stdout=out, stderr=out)
    try:
        yield process
        assert process.poll() is None, f"{line}\n{log.read_text()}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code in (0, 130), f"{line}: exit code {code}\n{log.read_text()}"


def answers(address: str) -> bool:
    """Return whether a page is served there."""
    try:
        with urllib.request.urlopen(address if "//" in address else f"http://{address}/metrics", timeout=10) as page:
            return bool(page.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if not line.startswith(ELSEWHERE)], ids=lambda line: line.partition(" #")[0]
)
def test_command_of_the_readme(line: str, place: Place, capsys: pytest.CaptureFixture[str]):
    start_s = time.monotonic()
    if STAYS.match(line):
        stays(place, place.real(line))
    else:
        ends(place, place.real(line))
    with capsys.disabled():
        print(f"\n{time.monotonic() - start_s:6.1f} s  README.md: {line.partition(' #')[0].rstrip()}", end="")


def stays(place: Place, line: str) -> None:
    """Start a command, hear an answer of it, end it."""
    if line.startswith("skewscope top"):
        log = place.folder / "top.txt"
        with started(place, line, log):
            CLUSTER["until"](lambda: "culprit" in log.read_text(), ANSWER_S)
        return
    with ExitStack() as stack:
        (address,) = listening(stack, place, line)
        CLUSTER["until"](lambda: answers(address), ANSWER_S)


def ends(place: Place, line: str) -> None:
    """Run a command to its end."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=CLONE if line.startswith("make") else place.folder,
        env=place.environ, capture_output=True, text=True, timeout=LINE_S,
    )  # fmt: skip
    wanted = next((code for flag, code in ENDS_WITH.items() if flag in line), 0)
    assert done.returncode == wanted, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    if line.startswith("skewscope act"):
        ours = any(reason.startswith("skewscope:") for reason in place.reasons())
        assert ours == ("--apply" in line), done.stdout


def test_every_command_of_the_readme_is_told_as_one_to_run():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(COMMANDS) == len(re.findall(r"^(?:skewscope|make) ", text, re.M)) > 40
    assert shutil.which("make")
