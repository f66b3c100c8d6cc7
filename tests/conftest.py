"""Fixtures of all tests. The job generator is made of scripts that run in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skewscope import commands

ROOT = Path(__file__).parents[1]
collect_ignore = ["jobs"]

Report = dict[str, Any]


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
