"""A written file of tests, one alert at a time: promtool evaluates all rules of a file in each of its tests.

Rules and tests of a file grow together, so the whole takes about four times as long as its alerts do one by one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from . import promtool
from .text import dumped

SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Document = dict[str, Any]
TESTS = "one.test.yml"


def test_rules(file: Path, workers: int | None = None) -> str:
    """Return what fails in a file of rule tests, "" for nothing; all cores work on it where `workers` does not say."""
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = pool.map(partial(_tested, file), alone(file))
        return "\n".join(complaint for complaint in found if complaint)


def alone(file: Path) -> Iterator[dict[str, Document]]:
    """Yield for each alert the documents of its tests and its rules, by their file names; recorded series stay.

    Tests are named "Alert: what". Those of no alert in the rules, of recorded series say, come together.
    """
    whole = _read(file)
    rules = {name: _read(file.parent / name) for name in whole["rule_files"]}
    alerts = {rule["alert"] for document in rules.values() for group in document["groups"] for rule in group["rules"]
              if "alert" in rule}  # fmt: skip
    cases: dict[str, list[Document]] = {}
    for test in whole["tests"]:
        name = test["name"].partition(":")[0]
        cases.setdefault(name if name in alerts else "", []).append(test)
    for alert, tests in cases.items():
        yield {TESTS: {**whole, "tests": tests}, **{name: _of(document, alert) for name, document in rules.items()}}


def _of(document: Document, alert: str) -> Document:
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if rule.get("alert", alert) == alert]}
        for group in document["groups"]
    ]
    return {**document, "groups": groups if alert else document["groups"]}


def _tested(file: Path, documents: dict[str, Document]) -> str:
    with tempfile.TemporaryDirectory() as made:
        for name, document in documents.items():
            (Path(made) / name).write_text(dumped(document), "utf-8")
        return promtool.test_rules(Path(made) / TESTS).replace(str(Path(made) / TESTS), str(file))


def _read(path: Path) -> Document:
    document: Document = yaml.load(path.read_text("utf-8"), Loader=SafeLoader)  # noqa: S506 - a safe loader
    return document
