"""Over 10,000 random histories no rule is broken: lines before acts, lease, ownership, budgets, rests, breaker.

The rules are judged from the audit's lines and from what was written to the cluster, by code apart from the engine's.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.reports.json_schema import schema

H = run_path(str(Path(__file__).with_name("_histories.py")))
R = run_path(str(Path(__file__).with_name("_rules.py")))
Story, broken = H["Story"], R["broken"]
CHUNKS = 8
EACH = int(os.environ.get("SKEWSCOPE_HISTORIES", "2000")) // CHUNKS  # 10,000 take a minute


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """Log nothing: faults are what these histories are made of."""
    log = logging.getLogger("skewscope.acting")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_rule_is_broken_in_thousands_of_histories(chunk: int):
    writes = 0
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        story = Story(seed).run(10)
        found = broken(story)
        assert not found, f"seed {seed}: {'; '.join(found[:5])}"
        writes += len(story.writes)
    assert writes > 2 * EACH, "histories in which nothing is done show nothing"


@settings(max_examples=30, deadline=None)
@given(st.integers(20_000, 10**9), st.integers(1, 40))
def test_longer_and_shorter_histories_break_none_either(seed: int, turns: int):
    assert not broken(Story(seed).run(turns))


def test_every_record_is_as_its_schema_says():
    check = jsonschema.Draft202012Validator(schema("action"))
    seen = set()
    for seed in range(60):
        for record in Story(seed).run(12).person.records():
            check.validate(dict(record))
            seen.add(record["phase"])
    assert len(seen) >= 18


def told(change, least=1):
    """Return how many of some histories the rules call broken after a change to what was written."""
    found = []
    for seed in range(60):
        story = Story(seed).run(10)
        if change(story):
            found.append(bool(broken(story)))
    assert len(found) >= least
    return all(found)


def first_act(story):
    return next((at for at, one in enumerate(story.writes) if one.after and one.lines), None)


def changed(**fields):
    def change(story):
        at = first_act(story)
        if at is None:
            return False
        story.writes[at] = replace(story.writes[at], **fields)
        return True

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(by="an older one"),
        changed(stopped=True),
        changed(owner="NHC"),
        changed(before="not ours"),
        changed(lines=0),
    ],
    ids=["without the lease", "though stopped", "on another's node", "over another's text", "before any line"],
)
def test_a_broken_rule_would_be_noticed(change):
    assert told(change, least=20)


def test_a_second_act_would_be_noticed():
    def twice(story):
        at = first_act(story)
        if at is not None:
            story.writes.insert(at + 1, story.writes[at])
        return at is not None

    assert told(twice, least=20)


def test_a_spent_budget_would_be_noticed():
    def spent(story):
        at = next((at for at, one in enumerate(story.writes) if one.after and one.field in R["FENCES"]), None)
        if at is not None:
            story.writes[at] = replace(story.writes[at], out=frozenset(f"n{one}" for one in range(8)))
        return at is not None

    assert told(spent, least=10)


def test_what_is_left_behind_would_be_noticed():
    def left(story):
        story.cluster.nodes["n0"]["drain"] = "skewscope:i0 left"
        return True

    assert told(left)
