"""A newcomer's path: every command that the tutorial and the how-tos show is run, page by page, in an empty folder.

Run by `make newcomer`, in an environment that is made for it from a fresh copy; each block's time is told.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.newcomer

ROOT = Path(__file__).parents[2]
PAGES = ["tutorial.md", *sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs/howto").glob("*.md"))]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.S | re.M)
BIN = os.environ.get("SKEWSCOPE_NEWCOMER_BIN", str(Path(sys.executable).parent))


def blocks(page: str) -> list[str]:
    """Return the commands of a page that are to be run, block by block."""
    return [textwrap.dedent(found) for found in BLOCK.findall((ROOT / "docs" / page).read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    assert blocks(page), "the page shows nothing that can be run"
    for block in blocks(page):
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        with capsys.disabled():
            print(f"\n{time.monotonic() - start:6.1f} s  {page}: {block.splitlines()[0]}", end="")
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
