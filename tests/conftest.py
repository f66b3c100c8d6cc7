"""Fixtures of all tests. The job generator is made of scripts that run in processes of their own."""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from skewscope import commands

ROOT = Path(__file__).parents[1]
collect_ignore = ["jobs"]
os.environ.setdefault("SKEWSCOPE_NO_CACHE", "1")  # what one test read is nothing for another, nor for the user's home
# No deadline: the first example imports, and others use the cores, too. A failure comes again on every machine; whoever
# looks for new ones gives `make test PYTEST_FLAGS=--hypothesis-profile=new-examples`.
settings.register_profile("new-examples", deadline=None)
settings.register_profile("same-examples", deadline=None, derandomize=True)
settings.load_profile("same-examples")

Report = dict[str, Any]


def pytest_collection_finish() -> None:
    """Keep the cycle collector from walking some ten thousand tests and all modules again and again."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what mostly waits: it takes six minutes, however few cores there are."""
    items.sort(key=lambda item: "end_to_end" not in item.nodeid)


@pytest.fixture(autouse=True)
def _own_logger() -> None:
    """Begin with the logger as it is made: commands in this process, also in fixtures, turn it to standard error."""
    logger = logging.getLogger("skewscope")
    logger.handlers[:], logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let one real training job run at a time: two on the same few cores make each other slow, and both say so."""
    with (tmp_path_factory.getbasetemp().parent / "cores.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def tried(tmp_path: Path, cores: None) -> Callable[[Callable[[Path], None]], None]:
    """Return a function that lets a check train its job in a folder; once more, if it failed on crowded cores.

    A job that shares its cores with many others is slow in other ways than the one that it is about.
    """

    def run(check: Callable[[Path], None]) -> None:
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            try:
                return check(folder)
            except AssertionError:
                crowded = os.getloadavg()[0] > (os.cpu_count() or 1)
                if name == "second" or not crowded:
                    raise

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared recordings; tests that ask for it are skipped where there is none."""
    folder = ROOT / "../shared/data"
    if not folder.is_dir():
        pytest.skip("no shared recordings beside the checkout")
    return folder


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Report]:
    """Return a function: paths to the report that `skewscope analyze PATH... --json FILE` writes, made once each."""
    made: dict[tuple[Path, ...], Report] = {}

    def report(*paths: Path) -> Report:
        if paths not in made:
            file = tmp_path_factory.mktemp("report") / "report.json"
            assert commands.main(["analyze", *map(str, paths), "--json", str(file), "--quiet"]) == 0
            made[paths] = json.loads(file.read_text())
        return made[paths]

    return report


@pytest.fixture(scope="session")
def named() -> Callable[[Report], dict[int, set[str]]]:
    """Return a function: report to {culprit rank: conditions it is named for}; stages of one rank count as it."""

    def ranks(report: Report) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for one in report["findings"]:
            rank, stage = one["subject"]["rank"], one["subject"]["stage"]
            who = (
                stage if rank is None and report["job"]["parallelism"].get("pp", 1) == report["job"]["ranks"] else rank
            )
            if one["role"] == "culprit" and who is not None:
                found.setdefault(who, set()).add(one["condition"])
        return found

    return ranks


@pytest.fixture(scope="session")
def starved() -> Callable[[Report, dict[str, Any]], list[int]]:
    """Return a function: report and label to the ranks that are blamed for time that they had to wait for a core.

    The kernel tells how long each waited. Such a rank was slow, for what other programs did on the same machine, in the
    steps for which it is blamed.
    """

    def is_excused(found: dict[str, Any], waits_ms: dict[int, list[float]]) -> bool:
        first, last = found["window"]["first_step"], found["window"]["last_step"]
        steps = slice(None) if first is None else slice(max(first - 1, 0), last)  # the first step is not among them
        mean_ms = {rank: statistics.fmean(waits[steps] or waits or [0.0]) for rank, waits in waits_ms.items()}
        more_ms = mean_ms[found["subject"]["rank"]] - statistics.median(mean_ms.values())
        return more_ms > 0.5 * found["cost"]["seconds_per_step"] * 1e3

    def ranks(report: Report, truth: dict[str, Any]) -> list[int]:
        waits_ms = {int(rank): waits for rank, waits in truth["kept_waiting_ms"].items()}
        blamed = [one for one in report["findings"] if one["role"] == "culprit" and one["subject"]["rank"] is not None]
        return sorted({one["subject"]["rank"] for one in blamed if is_excused(one, waits_ms)})

    return ranks
