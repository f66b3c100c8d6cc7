"""Affinity between layers: by hand, and what real and synthetic pairs say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skewscope.frames import frame
from skewscope.moe import pairs
from skewscope.moe.placement import Placement, start_layout


def test_mutual_information_by_hand():
    counts = np.array([[4, 1], [1, 2]])
    p = counts / 8
    by_hand = sum(p[i, j] * np.log2(p[i, j] / (p[i].sum() * p[:, j].sum())) for i in (0, 1) for j in (0, 1))
    assert pairs.mutual_bits(counts) == pytest.approx(by_hand)
    assert pairs.mutual_bits(np.zeros((2, 2))) == 0


def test_a_placement_keeps_the_pairs_of_its_own_gpus():
    one = pairs.Pairs(3, 7, np.array([[5, 1, 0, 0], [0, 4, 0, 0], [0, 0, 6, 0], [2, 0, 0, 2]]))
    blocks = start_layout(4, 4, 2, layers=2)
    assert pairs.local_share(one, blocks, np.array([3, 7])) == pytest.approx(18 / 20)
    crossed = Placement(np.array([[0, 1, 2, 3], [2, 3, 0, 1]]), gpus=2, experts=4)
    assert pairs.local_share(one, crossed, np.array([3, 7])) == pytest.approx(2 / 20)
    assert np.isnan(pairs.local_share(one, blocks, np.array([3, 8])))


def test_pairs_come_from_their_table():
    rows = frame("expert_pairs", {
        "job": ["j", "j", "k"], "layer": 0, "next_layer": [7, 7, 9], "expert": [1, 1, 0], "next_expert": [2, 2, 0],
        "routed_tokens": [3, 4, 9],
    })  # fmt: skip
    (found,) = pairs.of_tables({"expert_pairs": rows}, "j", 4)
    assert (found.layer, found.next_layer, found.counts[1, 2], found.counts.sum()) == (0, 7, 7, 7)
    assert pairs.of_tables({}, "j", 4) == []


def test_recorded_pairs_of_olmoe_follow_each_other_a_little(shared):
    rows = pd.read_csv(shared / "moe-olmoe/crosslayer_counts.csv.gz")
    rows = rows[((rows["model"] == "olmoe-1b-7b") & (rows["mode"] == "topk") & (rows["domain"] == "c4")
                 & (rows["layer_a"] == 0)).to_numpy()]  # fmt: skip
    counts = np.zeros((64, 64), dtype=np.int64)
    counts[rows["expert_a"], rows["expert_b"]] = rows["count"]
    one = pairs.Pairs(0, 7, counts)
    share = pairs.local_share(one, start_layout(64, 64, 8, 2), np.array([0, 7]))
    assert 0.1 < share < 0.16 and 0 < pairs.mutual_bits(counts) < 1
