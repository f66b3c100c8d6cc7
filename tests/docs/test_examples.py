"""The notebooks run from top to bottom, and say what their texts promise."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))
EXAMPLE = runpy.run_path(str(ROOT / "docs/make_reference.py"))["example"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("example")
    script = ROOT / "docs/examples/analyze_in_python.py"
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, folder


def test_it_names_the_slow_rank_in_each_cell(ran):
    said, _ = ran
    lines = said.splitlines()
    assert lines[0].startswith("coll-late-rank: rank 5 needs")
    assert any(line.startswith("slowed down 1.") for line in lines)
    assert any("culprit" in line and "job/rank5" in line for line in lines)
    ratios = {int(rank): float(ratio) for rank, ratio in (line.split() for line in lines if len(line.split()) == 2
                                                           and line.split()[0].isdecimal())}  # fmt: skip
    assert sorted(ratios) == list(range(8)) and max(ratios, key=ratios.get) == 5 and ratios[5] > 1.2
    assert [line.split()[0] for line in lines if line.endswith("True")] == ["5"]


def test_it_writes_the_page_and_the_document(ran):
    said, folder = ran
    assert said.splitlines()[-2:] == ["report.html", "report.json"]
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_page_whose_code_is_the_script_s(path):
    text, page = path.read_text(), EXAMPLE(path.read_text())
    assert text.startswith("# %% [markdown]\n# # ") and page.startswith("# ")
    blocks = page.split("```python\n")[1:]
    code = "\n".join(block.partition("\n```")[0] for block in blocks)
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(text)) and len(blocks) > 3
    assert f"examples/{path.stem}.md" in (ROOT / "docs/mkdocs.yml").read_text()
