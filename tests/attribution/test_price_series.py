"""Prices of a recording in parts, joined, are those of the whole."""

from dataclasses import replace

import numpy as np
import pytest

from skewscope.attribution import blame
from skewscope.attribution.price_series import Excess, Label, PriceSeries, joined

STEPS, RANKS = 40, 6
RNG = np.random.default_rng(4)


def series(slow: int = 2, since: int = 10) -> PriceSeries:
    """Return the prices of steps of a second in which one rank is 0.2 s late from some step on."""
    excess = RNG.normal(0.0, 1e6, (RANKS, STEPS))
    excess[slow, since:] += 2e8
    late = np.maximum(excess[slow], 0.0)
    labels = [Label("job", "ideal"), Label("job", "skew"), Label("rank", "own", slow), Label("stage", "stage", stage=1)]
    saved = np.stack([late * 1.1, late, late, np.full(STEPS, 5e7)])
    number = np.arange(100, 100 + STEPS)
    begin = 10**18 + number * 10**9
    whole = Excess(np.arange(RANKS), excess, np.full((RANKS, STEPS), 6e8) + excess)
    return PriceSeries(number, np.full(STEPS, 1e9), begin, begin + 10**9, labels, saved, whole, {slow: RANKS - 1})


def cuts(whole: PriceSeries, *sizes: int) -> list[PriceSeries]:
    edges = np.cumsum([100, *sizes])
    return [whole.only(int(first), int(last) - 1) for first, last in zip(edges[:-1], edges[1:], strict=True)]


def test_parts_in_any_order_give_the_table_of_the_whole():
    whole = series()
    parts = cuts(whole, 7, 13, 1, 19)
    table = blame.table(whole, {2: "n0"})
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        made = blame.table(joined([parts[place] for place in order]), {2: "n0"})
        assert made.equals(table)
    own = table[(table["kind"] == "rank").to_numpy()].iloc[0]
    assert (own["subject"], own["first_step"], own["last_step"]) == ("job/rank2", 110, 139)
    assert own["lost_s"] == pytest.approx(0.2, rel=0.02) and own["hit_share_ratio"] == 1.0


def test_a_rank_that_one_part_did_not_price_is_worth_its_excess_there():
    whole = series(since=0)
    early, late = cuts(whole, 20, 20)
    unpriced = replace(early, labels=[early.labels[place] for place in (0, 1, 3)],
                       saved_ns=early.saved_ns[[0, 1, 3]], peers={})  # fmt: skip
    made = joined([unpriced, late])
    row = next(place for place, label in enumerate(made.labels) if label.kind == "rank")
    assert made.saved_ns[row] == pytest.approx(whole.saved_ns[2], rel=1e-6)


def test_a_repair_that_one_part_does_not_know_saves_nothing_there():
    early, late = cuts(series(), 20, 20)
    without = replace(early, labels=early.labels[:3], saved_ns=early.saved_ns[:3])
    made = joined([without, late])
    stage = made.saved_ns[[label.kind for label in made.labels].index("stage")]
    assert stage.tolist() == [0.0] * 20 + [5e7] * 20


def test_only_ranks_that_stand_out_in_the_whole_are_listed():
    whole = series()
    noise = replace(whole, labels=[*whole.labels, Label("rank", "own", 4)],
                    saved_ns=np.vstack([whole.saved_ns, np.full(STEPS, 1e5)]), peers={2: 5, 4: 5})  # fmt: skip
    ranks = [label.rank for label in joined(cuts(noise, 20, 20)).labels if label.kind == "rank"]
    assert ranks == [2]


def test_narrow_numbers_give_the_same_prices():
    whole = series()
    narrow = replace(whole, excess=whole.excess.narrow())
    wide, small = blame.table(whole, {}), blame.table(narrow, {})
    assert small["rate_ratio"].to_numpy() == pytest.approx(wide["rate_ratio"].to_numpy(), rel=1e-5, nan_ok=True)
    assert small["hit_share_ratio"].equals(wide["hit_share_ratio"])
