from __future__ import annotations

import pytest

from skewscope import subjects
from skewscope.analysis import verdict
from skewscope.contracts import Finding, Window

JOB = subjects.job("job")
KNOWN = {"step_time_s": {"mean": 1.0}}


def found(role, severity="S3"):
    return Finding("coll-desync", JOB, role, severity, 0.9, Window(), 0.1, 0.1, (), "ranks call different collectives")


@pytest.mark.parametrize(
    ("findings", "peers", "said"),
    [
        ([], 2, "Nobody is slow: no rank, stage or link stands out from its peers."),
        ([found("context")], 2, "Nobody is at fault; coll-desync: ranks call different collectives."),
        ([found("context"), found("culprit")], 1, "coll-desync: ranks call different collectives."),
        ([found("culprit"), found("culprit")], 2, "coll-desync: ranks call different collectives (1 more below)."),
    ],
)
def test_the_verdict(findings, peers, said):
    assert verdict(findings, KNOWN, peers) == said


@pytest.mark.parametrize("peers", [0, 1])
def test_what_is_known_is_told_although_nobody_can_be_compared(peers):
    said = verdict([found("context")], KNOWN, peers)
    assert said.startswith("Cannot be decided: ") and said.endswith(
        "But coll-desync: ranks call different collectives."
    )
    assert verdict([found("context", "S4")], KNOWN, peers).endswith("beside its peers.")
