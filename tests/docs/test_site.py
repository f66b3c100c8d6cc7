"""The documentation: everything is described, links lead somewhere, and the site is built without a warning."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from skewscope import catalogue, tables
from skewscope.metrics import METRICS
from skewscope.reports import json_schema

ROOT = Path(__file__).parents[2]
REFERENCE = runpy.run_path(str(ROOT / "docs/make_reference.py"))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return REFERENCE["pages"]()


def headings(text: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", text, re.M))


def test_everything_has_its_place(pages):
    commands = {f"skewscope {room.id}" for room in catalogue.rooms("commands")}
    assert commands <= headings(pages["commands"])
    assert {room.id for room in catalogue.rooms("detectors")} == headings(pages["conditions"])
    assert {room.id for room in catalogue.rooms("views")} == headings(pages["views"])
    assert set(tables.names()) == headings(pages["tables"])
    assert set(json_schema.names()) - set(tables.names()) == headings(pages["documents"])
    assert all(f"| `{one.name}` |" in pages["metrics"] for one in METRICS)
    assert all(f"| `{room.load().format}` |" in pages["formats"] for room in catalogue.rooms("sources"))


def test_commands_in_the_pages_exist():
    known = {room.id for room in catalogue.rooms("commands")}
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        named = set(re.findall(r"(?:^|`|\$ )skewscope ([a-z-]+)", page.read_text("utf-8"), re.M))
        assert named <= known | {"anlyze"}, f"{page.name} names {', '.join(sorted(named - known))}"


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="no mkdocs; `make test` installs it")
def test_the_site_is_built_without_a_warning(tmp_path: Path):
    assert REFERENCE["main"]() == 0
    words = [
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--config-file",
        ROOT / "docs/mkdocs.yml",
        "--site-dir",
        tmp_path,
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reference/conditions.html").stat().st_size > 100_000
