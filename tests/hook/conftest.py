"""Runs the jobs of _ranks.py once and reads what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from skewscope.spool import KINDS, OPS, PHASES, UNITS, Header, RingReader

collect_ignore = ["_ranks.py", "_training.py"]
HERE = Path(__file__).parent
JOBS = (
    "collectives:2", "messages:3", "late_waits:2", "ddp:2", "ddp:3", "sharded:2", "functionals:2", "phases:2",
    "pipeline:2", "errors:2", "restored:1", "forked:1", "flight:2",
)  # fmt: skip
NAMES = {"collective": OPS, "phase": PHASES, "work": UNITS}


@dataclass(frozen=True)
class Record:
    kind: str
    name: str
    group: int
    flags: int
    step: int
    seq: int
    start_ns: int
    end_ns: int
    device_ns: int
    size: int
    extra: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns


def read(path: Path) -> tuple[Header, list[Record]]:
    """Return the header and the records of a ring, but for the pauses of the garbage collector."""
    reader = RingReader(path)
    drained = reader.drain()
    assert not drained.malformed and not drained.overwritten
    records = []
    for _, kind, op, *rest, _ in drained.rows:
        if KINDS[kind] != "experts" and (KINDS[kind], op) != ("phase", PHASES.index("gc")):
            records.append(Record(KINDS[kind], NAMES.get(KINDS[kind], ("",))[op], *rest))
    return reader.header, records


@dataclass(frozen=True)
class Jobs:
    folder: Path

    def told(self, name: str, rank: int = 0) -> Any:
        error = self.folder / name / f"error{rank}.txt"
        assert not error.exists(), error.read_text()
        return json.loads((self.folder / name / f"rank{rank}.json").read_text())

    def ring(self, name: str, rank: int = 0) -> tuple[Header, list[Record]]:
        self.told(name, rank)
        (path, *_) = sorted((self.folder / name / "spool").glob(f"*-r{rank}-*.ring"))
        return read(path)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    if find_spec("torch") is None:
        pytest.skip("no torch here")
    folder = tmp_path_factory.mktemp("hook")
    run_python([str(HERE / "_ranks.py"), str(folder), *JOBS], TORCH_FR_BUFFER_SIZE="200")
    return Jobs(folder)


def run_python(words: list[str], code: int = 0, **settings: str) -> str:
    """Run Python with these settings; return what it says on stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "SKEWSCOPE", "XDG_RUN"))}
    quiet = {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, *words], env=kept | quiet | settings, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stderr


@pytest.fixture
def python() -> Callable[..., str]:
    return run_python


@pytest.fixture
def read_ring() -> Callable[[Path], tuple[Header, list[Record]]]:
    return read
