"""The job and its means run in processes of their own; what was found of each is told at the end."""

from __future__ import annotations

import pytest

collect_ignore = ["_job.py", "_kinds.py", "_means.py", "_tasks.py"]
FOUND = pytest.StashKey[list[str]]()


@pytest.fixture
def told(request: pytest.FixtureRequest) -> list[str]:
    """Return the list of lines that are told at the end."""
    return request.config.stash.setdefault(FOUND, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was found of each fault and of its healthy twin."""
    lines = config.stash.get(FOUND, [])
    if lines:
        right = sum(line.startswith("right") for line in lines)
        terminalreporter.section(f"real faults: {right} of {len(lines)} right")
        for line in lines:
            terminalreporter.line(line)
