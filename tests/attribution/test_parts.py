"""The parts of attribution, each on a handful of rows."""

import numpy as np
import pandas as pd
import pytest

from skewscope.attribution import calls, clocks, decompose, endpoints, layout, pairs, step_spread
from skewscope.frames import empty, frame
from skewscope.stats import segments

EPOCH_NS = 1_700_000_000_000_000_000


def collectives(ready, end=None, *, rank=None, seq=None, step=-1, group="g", op="all_reduce", op_class="", duration=-1,
                source="canonical", peer=-1):  # fmt: skip
    count = len(ready)
    return frame("collectives", {
        "job": "job", "step": step, "rank": np.arange(count) if rank is None else rank, "group": group, "seq": 0 if seq
        is None else seq, "op": op, "op_class": op_class, "ready_ns": np.asarray(ready), "start_ns": np.asarray(ready),
        "end_ns": -1 if end is None else end, "duration_ns": duration, "blocking": False, "source": source,
        "peer": peer,
    })  # fmt: skip


class TestCalls:
    def test_last_arriver_wait_and_transfer(self):
        table = collectives([EPOCH_NS, EPOCH_NS + 50, EPOCH_NS + 10], [EPOCH_NS + 80] * 3)
        found = calls.arrivals(table, calls.match(table), np.zeros(3))
        assert found["last"].tolist() == [False, True, False]
        assert found["wait_ns"].tolist() == [50, 0, 40]
        assert found["transfer_ns"].tolist() == [30, 30, 30]
        assert found["late_ns"].tolist() == [-30, 45, -15]

    def test_durations_alone_name_the_one_that_waits_least(self):
        table = collectives([-1, -1, -1], duration=[900, 100, 880])
        found = calls.arrivals(table, calls.match(table), np.full(3, 1e6))
        assert found["by_wait"].all() and found["last"].tolist() == [False, True, False]
        assert found["late_ns"].tolist() == [-410, 790, -380]

    def test_lateness_within_the_doubt_of_the_clock_decides_nothing(self):
        table = collectives([EPOCH_NS, EPOCH_NS + 50, EPOCH_NS + 10])
        assert not calls.arrivals(table, calls.match(table), np.full(3, 1e6))["last"].any()

    def test_captures_that_start_at_different_steps_meet_by_step(self):
        early = collectives([10, 20, 30], rank=[0, 0, 0], seq=[0, 1, 2], step=[4, 5, 6], op_class="x", source="kineto")
        late = collectives([21, 31], rank=[1, 1], seq=[0, 1], step=[5, 6], op_class="x", source="kineto")
        found = calls.match(pd.concat([early, late], ignore_index=True).astype(early.dtypes.to_dict()))
        assert sorted(found.runs.size.tolist()) == [1, 2, 2]

    def test_a_send_is_over_when_the_receiver_has_it(self):
        table = collectives([100, 120], [900, 130], op=["send", "recv"], group="p2p:0-1")
        found = calls.on_common_clock(calls.match(table), np.zeros(2, dtype=int), np.array([True, False]))
        assert found.end.tolist() == [130, 130]


class TestClocks:
    def build(self, offset_ns, drift=0.0, count=60, tail_ns=1000):
        rng = np.random.default_rng(1)
        start = EPOCH_NS + np.arange(count) * 1_000_000_000
        rows = []
        for rank in range(4):
            shift = np.where(rank == 3, offset_ns + drift * np.arange(count) * 1e9, 0).astype(np.int64)
            ready = start + rng.integers(0, 50_000, count) + shift
            end = start + 100_000 + rng.integers(0, tail_ns, count) + shift
            rows.append(collectives(ready, end, rank=[rank] * count, seq=np.arange(count)))
        table = pd.concat(rows, ignore_index=True).astype(rows[0].dtypes.to_dict())
        return table, calls.match(table)

    def test_offset_is_found_with_its_uncertainty(self):
        table, matched = self.build(5_000_000)
        found = clocks.align(table, matched, {})
        assert found.aligned.tolist() == [False, False, False, True]
        assert found.offset_ns[3] == pytest.approx(5e6, abs=500)
        assert found.uncertainty_ns[3] < 1000

    def test_drift_is_followed(self):
        table, matched = self.build(5_000_000, drift=1e-5)
        found = clocks.align(table, matched, {})
        shifted = matched.ready + found.shift(matched.rank, matched.ready)
        error = shifted - EPOCH_NS - np.repeat(np.arange(60) * 1_000_000_000, 4)
        assert np.abs(error).max() < 250_000
        assert clocks.table(found, {})["drift_ppm"].iloc[3] == pytest.approx(10, rel=0.2)

    def test_agreeing_clocks_are_left_alone(self):
        table, matched = self.build(0)
        found = clocks.align(table, matched, {})
        assert not found.aligned.any()
        assert (found.shift(matched.rank, matched.ready) == 0).all()

    def test_a_long_tail_is_not_a_clock(self):
        table, matched = self.build(20_000)
        assert not clocks.align(table, matched, {}).aligned.any()

    def test_no_ends_means_unknown(self):
        table = collectives([1, 2])
        found = clocks.align(table, calls.match(table), {})
        assert found.uncertainty_of(np.array([0, 9])).tolist() == [clocks.ASSUMED_NS] * 2


class TestLayout:
    def test_stages_follow_the_first_message_of_a_step(self):
        table = collectives([1, 5, 9, 12], rank=[0, 1, 2, 1], peer=[1, 2, 1, 0], op="send", step=0, seq=[0, 0, 0, 0])
        assert layout.stages(empty("ranks"), table) == {0: 0, 1: 1, 2: 2}

    def test_recorded_stages_win(self):
        ranks = frame("ranks", {"job": "job", "rank": [0, 1], "pp": [1, 0]})
        assert layout.stages(ranks, empty("collectives")) == {0: 1, 1: 0}

    def test_a_ring_has_no_stages(self):
        table = collectives([1, 2, 3], rank=[0, 1, 2], peer=[1, 2, 0], op="send", step=0)
        assert layout.stages(empty("ranks"), table) == {}

    def test_unnamed_groups_come_from_the_flight_recorder(self):
        trace = collectives([1_000, 9_000_000], rank=[0, 0], group="", source="kineto", seq=[0, 1])
        dump = collectives([1_500, 9_000_400], rank=[0, 0], group=["tp", "dp"], source="flight-recorder", seq=[4, 9])
        both = layout.replaced(pd.concat([trace, dump], ignore_index=True))
        assert layout.name_groups(both)["group"].tolist() == ["tp", "dp", "tp", "dp"]

    def test_rounds_are_found_from_the_pattern(self):
        ready = np.arange(12) * 1000
        table = collectives(ready, rank=[0] * 12, seq=np.arange(12), group=["a", "b", "b"] * 4)
        assert layout.number_rounds(table)["step"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


class TestEndpoints:
    def pair_table(self, slow):
        both = [(src, dst) for src in range(4) for dst in range(4) if src != dst]
        return frame("links", {
            "src": [f"rank{src}" for src, _ in both], "dst": [f"rank{dst}" for _, dst in both], "medium": "probe",
            "speed_bytes_per_s": [slow.get(pair, 1e9) for pair in both],
        })  # fmt: skip

    def found(self, slow):
        nothing = calls.match(empty("collectives"))
        return endpoints.slow_ends(pairs.pair_delays(self.pair_table(slow), empty("collectives"), nothing))

    def test_an_end_is_slow_when_all_its_pairs_are(self):
        slow = {(src, dst): 1e7 for src in range(4) for dst in range(4) if 2 in (src, dst)}
        assert self.found(slow) == {2: (1e7, 1e9)}

    def test_one_slow_pair_is_nobodys_end(self):
        assert self.found({(0, 1): 1e7}) == {}

    def test_everything_slow_names_nobody(self):
        assert self.found({(src, dst): 1e7 for src in range(4) for dst in range(4)}) == {}


def test_step_times_alone_price_the_pace_setter():
    steps, ranks = np.divmod(np.arange(40 * 5), 5)
    length = np.where((ranks == 3) & (steps >= 20), 150, 100)
    table = frame("steps", {"job": "job", "step": steps, "rank": ranks, "phase": "step", "start_ns": steps * 1000,
                            "end_ns": steps * 1000 + length})  # fmt: skip
    blame = step_spread.attribute_steps(table, {})["blame"].set_index("rank")
    assert blame.loc[3, "lost_s"] == pytest.approx(50e-9)
    assert (blame.loc[3, "first_step"], blame.loc[3, "last_step"]) == (20, 39)
    assert blame.loc[3, "confidence_ratio"] > 0.99


class TestOrder:
    @pytest.mark.parametrize("highest", [3, 10**6, 2**60])
    def test_rows_lie_as_lexsort_lays_them_whatever_the_keys(self, highest):
        draw = np.random.default_rng(4)
        whole, small = draw.integers(-highest, highest, 500), draw.integers(0, 4, 500).astype(np.int16)
        keys = {
            "times": (small, whole), "three": (small, whole // 2, whole % 2 == 0), "one": (whole,),
            "beyond 64 bits": (whole, whole[::-1]), "unsigned": (small, whole.astype(np.uint64)),
            "fractions": (small, whole / 7), "constant": (small * 0, whole),
        }  # fmt: skip
        for name, given in keys.items():
            assert segments.ordered(*given).tolist() == np.lexsort(given[::-1]).tolist(), name

    @pytest.mark.parametrize("far", [5, 10**9])
    def test_steps_and_ranks_are_found_also_where_they_lie_far_apart(self, far):
        step, rank = np.array([1, 1, far, far]), np.array([0, 3, 0, 2])
        place = decompose._finder(step, rank)
        asked = np.array([1, 1, far, far, 0, far + 1, 1, 1]), np.array([3, 2, 2, 0, 9, 0, 4, -1])
        assert place(*asked).tolist() == [1, -1, 3, 2, -1, -1, -1, -1]
