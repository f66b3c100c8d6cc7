"""What-ifs: limits that must hold whatever the numbers, and small cases by hand."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe import (
    times,
    whatif_compress,
    whatif_folding,
    whatif_shadow,
    whatif_sharded,
    whatif_shuffle,
    whatif_sparse,
    whatif_zero_experts,
)
from skewscope.moe.placement import Placement, start_layout

MIXTRAL, H100 = times.SHAPES["mixtral-8x7b"], times.HARDWARE["h100"]
CLOCK = times.Clock(MIXTRAL, H100, 2.0)
NAMES = ("compress", "folding", "shadow", "sharded", "shuffle", "sparse", "zero_experts")


@pytest.mark.parametrize("name", NAMES)
def test_each_states_its_source_and_what_it_assumes(name):
    module = importlib.import_module(f"skewscope.moe.whatif_{name}")
    assert len(module.SOURCE) > 20 and len(module.ASSUMES) > 40


class TestSharded:
    placed = start_layout(8, 8, 4, layers=1)

    def test_balance_is_perfect_whatever_the_router_does(self):
        even = whatif_sharded.sharded(np.full((1, 1, 8), 4000), self.placed, CLOCK, 2, across_nodes=False)
        hot = whatif_sharded.sharded(
            np.array([[[32000, 0, 0, 0, 0, 0, 0, 0]]]), self.placed, CLOCK, 2, across_nodes=False
        )
        assert even.sharded_s == pytest.approx(hot.sharded_s) and even.sharded_s == pytest.approx(even.now_s)
        assert hot.now_s == pytest.approx(4 * hot.sharded_s) and hot.gained_s > 0
        assert even.tile_use == 1.0  # 14336 / 4 is a multiple of 64

    def test_it_pays_with_transfers_and_narrow_slices(self):
        many = start_layout(64, 64, 32, layers=1)
        olmoe = times.Clock(times.SHAPES["olmoe-1b-7b"], H100, 2.0)
        found = whatif_sharded.sharded(np.full((1, 1, 64), 4000), many, olmoe, 8, across_nodes=True)
        assert found.tile_use == 0.5 and found.sharded_s == pytest.approx(2 * found.now_s)
        # Top-8 of 32 GPUs sends a token at most 8 times, sharding 31 times.
        assert found.sharded_transfer_s == pytest.approx(4 * found.now_transfer_s) and found.gained_s < 0


class TestShadow:
    placed = start_layout(8, 8, 8, layers=1)

    def test_an_even_load_needs_no_shadow(self):
        assert whatif_shadow.shadows(np.full((1, 8), 2000), self.placed, CLOCK).count.tolist() == [0]

    def test_the_hot_expert_is_shadowed_where_tokens_outweigh_weights(self):
        few, many = np.array([[2000] + [10] * 7]), np.array([[400_000] + [10] * 7])
        assert whatif_shadow.shadows(few, self.placed, CLOCK).count.tolist() == [0]
        found = whatif_shadow.shadows(many, self.placed, CLOCK)
        assert found.count.tolist() == [1] and found.shadowed_s < 0.3 * found.now_s

    def test_by_hand(self):
        counts = np.array([[400_000] + [0] * 7])
        network = H100.network_bytes_per_s
        now = 3 * 400_000 * CLOCK.token_s + 4 * 400_000 * 7 / 8 * 4096 * 2 / network
        then = 3 * 50_000 * CLOCK.token_s + 2 * MIXTRAL.expert_bytes(2) / network
        found = whatif_shadow.shadows(counts, self.placed, CLOCK)
        assert (found.now_s[0], found.shadowed_s[0]) == (pytest.approx(now), pytest.approx(then))


class TestFolding:
    counts = np.full((2, 8), 4000)

    def test_all_mappings_multiply_to_the_ranks(self):
        found = whatif_folding.mappings(self.counts, MIXTRAL, 16)
        assert {one.expert_tensor * one.expert * one.expert_data for one in found} == {16}
        assert len({(one.expert_tensor, one.expert) for one in found}) == len(found) == 14

    def test_memory_falls_with_both_sizes_and_traffic_stays_inside_a_node(self):
        found = {(one.expert_tensor, one.expert): one for one in whatif_folding.mappings(self.counts, MIXTRAL, 16)}
        whole = 32 * 8 * MIXTRAL.expert_bytes(1) * 18
        assert found[1, 1].bytes_per_gpu == whole and found[2, 4].bytes_per_gpu == whole / 8
        assert found[1, 1].inside_bytes == found[1, 1].across_bytes == 0
        assert found[1, 8].across_bytes == 0 and found[2, 8].across_bytes > 0
        assert found[2, 8].across_bytes == pytest.approx(found[2, 8].inside_bytes)  # half of 16 peers are elsewhere
        picks = 8 * 4000 / 16
        assert found[1, 8].inside_bytes == pytest.approx(picks * 4096 * 2 * 2 * 7 / 8)

    def test_more_expert_ranks_are_harder_to_balance(self):
        hot = np.array([[9000, 1000, 1000, 1000, 1000, 1000, 1000, 1000]])
        found = {(one.expert_tensor, one.expert): one for one in whatif_folding.mappings(hot, MIXTRAL, 8)}
        assert [found[1, size].balance for size in (1, 2, 4, 8)] == [1.0, pytest.approx(8 / 12), pytest.approx(4 / 10),
                                                                    pytest.approx(2 / 9)]  # fmt: skip

    def test_other_experts_are_refused(self):
        with pytest.raises(UsageError, match="do not fit"):
            whatif_folding.mappings(np.ones((2, 6)), MIXTRAL, 8)


class TestShuffle:
    def test_experts_that_go_together_share_a_gpu(self):
        rng = np.random.default_rng(1)
        pairs = np.array([[0, 5], [1, 4], [2, 7], [3, 6]])
        picks = pairs[rng.integers(4, size=400)]
        home = whatif_shuffle.grouping(picks, 8, 4)
        assert sorted(np.bincount(home)) == [2, 2, 2, 2] and all(home[a] == home[b] for a, b in pairs.tolist())

    def test_a_followed_path_needs_no_transfer(self):
        rng = np.random.default_rng(2)
        group = rng.integers(4, size=600)
        layers = np.stack([group * 2, (group + 1) % 4 * 2], axis=1)  # the group of one layer tells that of the next
        trace = np.stack([layers, layers + 1], axis=-1)
        found = whatif_shuffle.shuffled(trace, 8, 4)
        assert found.scattered == found.grouped == pytest.approx(0.75)  # one GPU, three of four times another
        assert found.known == 0
        assert found.guessed == pytest.approx(0.75 / 2, abs=0.05)  # the first layer can only be guessed

    def test_the_real_guess_is_no_better_than_knowing(self, shared):
        trace = np.load(shared / "moe-synth/mixtral_trace.npz")["trace"]
        found = whatif_shuffle.shuffled(trace, 8, 4)
        assert found.known < found.guessed < found.scattered and found.grouped <= found.scattered
        assert found.load < 1.3

    def test_what_cannot_be_judged_is_refused(self):
        with pytest.raises(UsageError, match="at least 64 tokens"):
            whatif_shuffle.shuffled(np.zeros((10, 2, 2), int), 8, 4)


class TestCompress:
    def test_amdahl(self):
        found = whatif_compress.compressed(1.0, 0.45, 1e-9, 0, MIXTRAL, H100)
        assert found.speed_up == pytest.approx(1 / 0.55) and found.hashing_s == 0

    def test_at_break_even_nothing_is_gained(self):
        at = whatif_compress.compressed(0.1, 0.45, 0.5, 8192, MIXTRAL, H100).break_even_share
        assert 0 < at < 1
        assert whatif_compress.compressed(0.1, 0.45, at, 8192, MIXTRAL, H100).speed_up == pytest.approx(1.0)

    def test_shares_are_checked(self):
        with pytest.raises(UsageError):
            whatif_compress.compressed(1.0, 1.2, 0.5, 1, MIXTRAL, H100)


class TestZeroExperts:
    placed = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    trace = np.array([[[0, 2]], [[0, 3]], [[1, 2]], [[0, 1]]])

    def test_nothing_is_relieved_by_nothing(self):
        found = whatif_zero_experts.relieved(self.trace, self.placed, 0.0)
        assert found.balance.tolist() == found.balance_now.tolist() == [4 / 5] and found.hottest_ratio.tolist() == [1]

    def test_the_last_picks_go_first(self):
        # Half of all picks: the second of each token. Left: 0, 0, 1, 0, all on GPU 0.
        found = whatif_zero_experts.relieved(self.trace, self.placed, 0.5)
        assert found.balance.tolist() == [0.5] and found.hottest_ratio.tolist() == [pytest.approx(4 / 5)]

    def test_gate_weights_say_which_are_weak(self):
        weights = np.array([[[0.1, 0.9]], [[0.2, 0.8]], [[0.9, 0.8]], [[0.9, 0.8]]])
        # A quarter of the picks: two of expert 0. Left on GPUs: 1, 0, 1 and 2, 3, 2.
        found = whatif_zero_experts.relieved(self.trace, self.placed, 0.25, weights)
        assert found.balance.tolist() == [1.0]

    def test_a_share_of_all_is_refused(self):
        with pytest.raises(UsageError, match="share of 1"):
            whatif_zero_experts.relieved(self.trace, self.placed, 1.0)


class TestSparse:
    placed = start_layout(4, 4, 2, layers=1)

    @staticmethod
    def planner(counts, slots, gpus):
        """Give the extra slot of each GPU to the busiest expert that it lacks; even loads follow for two GPUs."""
        rows = []
        for w in np.asarray(counts):
            order = np.argsort(-w, kind="stable")
            rows.append([*(0, 1), next(e for e in order if e > 1), *(2, 3), next(e for e in order if e < 2)])
        return Placement(np.array(rows), gpus, 4)

    def test_the_step_before_is_worse_than_the_step_itself(self):
        steps = np.array([[[8, 0, 4, 0]], [[0, 8, 0, 4]], [[8, 0, 4, 0]]])
        found = whatif_sparse.materialised(steps, self.placed, 1, CLOCK, self.planner)
        assert found.now == pytest.approx(6 / 8) and found.known == 1.0 and found.followed == pytest.approx(6 / 8)
        assert found.extra_bytes_per_gpu == MIXTRAL.expert_bytes(2)
        assert found.moved_bytes_per_gpu == 2 * found.extra_bytes_per_gpu

    def test_one_step_has_no_step_before(self):
        with pytest.raises(UsageError, match="two steps"):
            whatif_sparse.materialised(np.ones((1, 1, 4)), self.placed, 1, CLOCK, self.planner)
