"""Hints for a training out of findings: as much less work as a rank is slower, and nothing where it cannot help."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.acting.hints import of_finding
from skewscope.actuators._advice import unfit


def finding(condition: str = "gpu-slow-silent", rank: int | None = 3, share: float = 0.25, **more):
    subject = {"id": "job/rank3", "rank": rank, "peer": None, "node": "n0", "stage": None, "layer": more.get("layer")}
    return {"id": "f1", "condition": condition, "role": more.get("role", "culprit"), "confidence": 0.9,
            "cost": {"share": share, "gpu_hours": 1.0}, "subject": subject}  # fmt: skip


@given(st.integers(2, 300), st.floats(0.02, 0.9), st.data())
def test_all_ranks_end_together(ranks: int, share: float, data):
    rank = data.draw(st.integers(0, ranks - 1))
    hint = of_finding(finding(rank=rank, share=share), ranks)
    assert unfit(hint) == ""
    ends = [weight / (1 - share if at == rank else 1.0) for at, weight in enumerate(hint["weights"])]
    assert max(ends) - min(ends) < 2e-3 and abs(sum(hint["weights"]) - ranks) < 1e-4 * ranks
    assert max(ends) <= 1 / (1 - share) + 1e-3, "no step is longer than before"


@pytest.mark.parametrize(
    "told",
    [finding(rank=None), finding(rank=8), finding(share=0.01), finding(share=0.95), finding("nic-link-down"),
     finding(role="victim"), finding("host-gc-pause")],
    ids=range(7),
)  # fmt: skip
def test_nothing_where_it_cannot_help(told):
    assert of_finding(told, 8) == {}


def test_a_job_of_unknown_size_gets_none():
    assert of_finding(finding(), 0) == of_finding(finding(rank=0), 1) == {}


def test_experts_are_pointed_at():
    hint = of_finding(finding("moe-hot-expert", rank=None, layer=5), 8)
    assert hint == {"experts": {"rebalance": True, "layer": 5}} and unfit(hint) == ""
