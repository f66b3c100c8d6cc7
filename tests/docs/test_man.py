"""The manual page: it is of today's commands, names all of them and their options, and roff reads it without a word."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from skewscope.commands import _parser

ROOT = Path(__file__).parents[2]
WRITTEN = ROOT / "docs/skewscope.1"
MAN = runpy.run_path(str(ROOT / "docs/make_man.py"))
COMMANDS = _parser.commands(_parser.build())


@pytest.fixture(scope="module")
def shown() -> str:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    words = ["groff", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-ww", "-rLL=400n", WRITTEN]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def test_it_is_fresh():
    assert WRITTEN.read_text() == MAN["page"](), "stale: run `make derived`"


def test_it_does_not_depend_on_who_writes_it(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SKEWSCOPE_SCRAPE_INTERVAL", "7")
    assert WRITTEN.read_text() == MAN["page"]()


def test_every_command_has_its_part():
    parts = set(re.findall(r"^\.SS (.+)$", WRITTEN.read_text().replace("\\-", "-"), re.M))
    assert parts == {f"skewscope {name.replace('.', ' ')}" for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_as_it_is_typed(shown, name):
    lines = shown.splitlines()
    begin = lines.index(f"   skewscope {name.replace('.', ' ')}")
    part = "\n".join(lines[begin:]).split("\n   skewscope ")[0]
    flags = {flag for action in COMMANDS[name]._actions for flag in action.option_strings if flag.startswith("--")}
    common = {"--help", "--config", "--quiet", "--verbose", "--log-format"}
    assert not [flag for flag in flags - common if not re.search(rf"(^|[ ,]){re.escape(flag)}(?![\w-])", part, re.M)]


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_finds_and_shows_it(tmp_path):
    (tmp_path / "man1").mkdir()
    shutil.copy(WRITTEN, tmp_path / "man1")
    words = ["man", "--warnings=w", "-M", tmp_path, "skewscope"]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat"})
    assert (done.returncode, done.stderr) == (0, "") and "skewscope agent" in done.stdout
