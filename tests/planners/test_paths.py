"""`skewscope plan paths`."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skewscope import commands
from skewscope.errors import SkewscopeError
from skewscope.optimize.paths import Flows, spread
from skewscope.planners import paths

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: a table and words of `skewscope plan paths` to (exit code, document or None, errors)."""

    def asked(rows, *words):
        table, file = tmp_path / "flows.csv", tmp_path / "plan.json"
        pd.DataFrame(rows).to_csv(table, index=False)
        page = ["--json", str(file), "--html", str(tmp_path / "plan.html")]
        code = commands.main(["plan", "paths", str(table), *map(str, words), *page])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


CROSSED = {"src_leaf": ["a", "a", "b", "b"], "dst_leaf": ["c", "d", "c", "d"], "gigabytes": [1.0] * 4}


def test_colliding_flows_are_spread(ask, tmp_path):
    out = tmp_path / "spines.csv"
    code, made, _ = ask({**CROSSED, "spine": [0, 0, 0, 0]}, "--spines", 2, "--out", out)
    assert code == 0 and made["optimal"]
    assert made["current"] == {"exchange_s": 0.04, "busiest_link_gb": 2.0, "flows_that_share": 4}
    assert made["proposed"] == {"exchange_s": 0.02, "busiest_link_gb": 1.0, "flows_that_share": 0}
    assert len([step for step in made["steps"] if step.startswith("flow ")]) == 2  # two may stay on spine 0
    assert pd.read_csv(out)["spine"].tolist() == made["plan"]["spine"]


def test_flows_that_do_not_meet_stay(ask):
    _, made, _ = ask({**CROSSED, "spine": [0, 1, 1, 0]}, "--spines", 2)
    assert made["steps"] == [] and made["verdict"].startswith("Leave the flows")
    assert made["plan"]["spine"] == [0, 1, 1, 0] and made["proposed"] == made["current"]


def test_unknown_spines_are_hashed_and_queue_pairs_advised(ask):
    _, made, _ = ask(CROSSED, "--spines", 2)
    assert made["current"]["exchange_s"] > 0.03 and made["current"]["flows_that_share"] is None
    loads = list(made["plan"]["hashed_bytes"].values())
    assert loads == sorted(loads, reverse=True) and made["plan"]["queue_pairs"] > 1
    assert any("NCCL_IB_QPS_PER_CONNECTION" in step for step in made["steps"])


def test_a_ring_is_put_in_the_order_of_leaves(ask):
    nodes = ["n0", "n1", "n2", "n3"]
    rows = {"src": nodes, "dst": [*nodes[1:], "n0"], "src_leaf": list("abab"), "dst_leaf": list("baba"),
            "gigabytes": [1.0] * 4}  # fmt: skip
    _, made, _ = ask(rows, "--spines", 2)
    assert made["plan"]["ring"] == {"crossings_now": 4, "crossings": 2, "order": ["n0", "n2", "n1", "n3"]}
    assert "each leaf is entered once" in made["steps"][0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [({"src_leaf": ["a"]}, "columns dst_leaf, gigabytes are missing"),
     ({**CROSSED, "spine": [0, 0, 2, 0]}, "column spine, row 3: wants 0 to 1"),
     ({**CROSSED, "gigabytes": [1, 1, "x", 1]}, "column gigabytes, row 3")],
)  # fmt: skip
def test_bad_tables_name_the_column(ask, rows, said):
    code, _, error = ask(rows, "--spines", 2)
    assert code == 2 and said in error


def test_a_seed_is_no_negative_number(ask):
    code, _, error = ask(CROSSED, "--spines", 2, "--seed", -1)
    assert code == 2 and "--seed" in error


def links(up, down, size, spine):
    """Return the bytes on every link, counted flow by flow."""
    held = {}
    for one, other, bytes_, way in zip(up, down, size, spine, strict=True):
        if one != other:
            for link in (("up", one, way), ("down", other, way)):
                held.setdefault(link, []).append(bytes_)
    return held


def sharing(up, down, spine):
    """Return how many flows meet another on their way up or down, each pair looked at."""
    flows = [(one, other, way) for one, other, way in zip(up, down, spine, strict=True) if one != other]
    return sum(
        any(
            at != mine and way == along and (up == begin or down == end) for at, (begin, end, along) in enumerate(flows)
        )
        for mine, (up, down, way) in enumerate(flows)
    )


def fabric(flows, spines, spine=None):
    up, down, size = (np.array(one, dtype=kind) for one, kind in zip(zip(*flows, strict=True), (int, int, float),
                                                                      strict=True))  # fmt: skip
    names = tuple("abcdef"[: max(*up, *down) + 1])
    return paths.Named(Flows(up, down, size, spines), names, None if spine is None else np.array(spine))


flow = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([1.0, 1.0, 2.0, 5.0, 0.0]))


@settings(max_examples=8)
@given(st.lists(flow, min_size=1, max_size=5), st.integers(1, 3), st.booleans(), st.data())
@example([(0, 0, 1.0)], 2, True, None)  # nobody leaves a leaf
@example([(0, 1, 0.0)], 1, False, None)  # nothing is sent
def test_the_busiest_link_is_counted_anew_and_never_below_the_least(flows, spines, known, data):
    place = st.integers(0, spines - 1)
    spine = [0 if data is None else data.draw(place) for _ in flows] if known else None
    named = fabric(flows, spines, spine)
    made = sound(paths.planned(named, paths.Wanted(1.0)))
    assert len(made.plan["spine"]) == len(flows) and set(np.array(made.plan["spine"])) <= set(range(spines))
    ends = (named.flows.up, named.flows.down, named.flows.size)

    def busiest(way):
        return max((sum(one) for one in links(*ends, way).values()), default=0.0)

    if known or made.proposed["exchange_s"] < made.current["exchange_s"]:
        assert made.proposed["exchange_s"] == pytest.approx(busiest(made.plan["spine"]))
    if known:
        assert made.current["exchange_s"] == pytest.approx(busiest(spine))
        for side, way in (("current", spine), ("proposed", made.plan["spine"])):
            assert getattr(made, side)["flows_that_share"] == sharing(*ends[:2], way)
    best = min(busiest(way) for way in product(range(spines), repeat=len(flows)))
    assert made.lower_bound <= best + 1e-9 and named.flows.least_bytes() <= best + 1e-9
    if len({size for one, other, size in flows if one != other}) == 1:  # colouring is the optimum
        assert made.proposed["exchange_s"] <= best / (1 - paths.LEAST_GAIN_RATIO) + 1e-9


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 3))
def test_flows_of_one_leaf_are_dealt_the_largest_first(sizes, spines):
    flows = Flows(np.zeros(len(sizes), int), np.arange(1, len(sizes) + 1), np.array(sizes, float), spines)
    ways = (np.bincount(way, sizes, spines).max() for way in product(range(spines), repeat=len(sizes)))
    most = (4 / 3 - 1 / (3 * spines)) * min(ways)  # Graham's bound
    assert flows.loads(spread(flows)).max() <= most * (1 + 1e-9)


@settings(max_examples=6)
@given(st.lists(flow, min_size=1, max_size=6), st.integers(1, 4), st.permutations(range(4)))
def test_names_of_leaves_and_the_speed_of_links_change_no_choice(flows, spines, order):
    spine = [at % spines for at in range(len(flows))]
    renamed = [(order[up], order[down], size) for up, down, size in flows]
    one = paths.planned(fabric(flows, spines, spine), paths.Wanted(2.0))
    other = paths.planned(fabric(renamed, spines, spine), paths.Wanted(8.0))
    assert np.array_equal(one.plan["spine"], other.plan["spine"])
    assert one.proposed["exchange_s"] == pytest.approx(4 * other.proposed["exchange_s"])
    assert one.lower_bound == pytest.approx(4 * other.lower_bound)


@settings(max_examples=15)
@given(st.sampled_from(["nan", "inf", "-1", "x", ""]), st.sampled_from(["gigabytes", "spine"]))
@example("0.5", "spine")  # between two spines
def test_no_cell_is_taken_for_a_size_or_a_spine(tmp_path_factory, bad, column):
    rows = pd.DataFrame({**CROSSED, "spine": [0, 1, 1, 0]}, dtype=object)
    rows.loc[2, column] = bad
    file = tmp_path_factory.getbasetemp() / "flows.csv"
    rows.to_csv(file, index=False)
    with pytest.raises(SkewscopeError, match=f"column {column}, row 3"):
        paths.read(file, 2)
