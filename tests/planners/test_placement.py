"""`skewscope plan placement`, from matrices and from probed links."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skewscope import commands
from skewscope.errors import SkewscopeError
from skewscope.optimize.kinds import grouped, mixed, within
from skewscope.optimize.layout import job
from skewscope.planners import placement
from skewscope.planners._links import of_matrix, of_table

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]

RACK = np.arange(8) // 4
RACKS = np.where(np.equal.outer(RACK, RACK), 100.0, 10.0)


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan placement` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        page = ["--json", str(file), "--html", str(tmp_path / "plan.html")]
        code = commands.main(["plan", "placement", *map(str, words), *page])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


@pytest.fixture
def racks(tmp_path):
    """Return the path of a matrix of two racks of four."""
    path = tmp_path / "links.csv"
    np.savetxt(path, RACKS, delimiter=",")
    return path


def test_gradients_stay_inside_racks(ask, racks, tmp_path):
    out = tmp_path / "ranks.csv"
    heavy = ("--stages", 4, "--activation", 0.1, "--gradients", 10)
    code, made, _ = ask(racks, *heavy, "--order", "pipeline", "--out", out)
    assert code == 0
    assert made["current"]["communication_s"] == pytest.approx(1.006)
    assert made["proposed"]["communication_s"] == pytest.approx(0.124) and made["optimal"]
    grid = np.array(made["plan"]["grid"])
    assert grid.shape == (2, 4) and (RACK[grid[0]] == RACK[grid[1]]).all()
    table = pd.read_csv(out)
    assert sorted(table["unit"]) == list(range(8))
    assert all(grid[row.replica, row.stage] == row.unit for row in table.itertuples())
    _, megatron, _ = ask(racks, *heavy)
    assert megatron["steps"] == [] and megatron["verdict"].startswith("Leave the ranks")
    assert megatron["proposed"]["communication_s"] == pytest.approx(0.124)


def test_todays_ranks_can_be_said(ask, racks):
    words = (racks, "--stages", 4, "--activation", 0.1, "--gradients", 10, "--order", "pipeline", "--current")
    _, made, _ = ask(*words, "0,4,1,5,2,6,3,7")
    assert made["current"]["communication_s"] == pytest.approx(0.160)
    now = {one["rank"]: one["now"] for one in made["plan"]["rows"]}
    assert [now[rank] for rank in range(8)] == ["0", "4", "1", "5", "2", "6", "3", "7"]
    code, _, said = ask(*words, "0,1")
    assert code == 2 and "--current: wants each of the rows 0 to 7 once" in said


def test_many_units_are_annealed_with_a_bound(ask, tmp_path):
    draw = np.random.default_rng(1)
    rack = draw.permutation(16) // 4
    path = tmp_path / "links.npy"
    np.save(path, np.where(np.equal.outer(rack, rack), 100.0, 10.0))
    _, made, _ = ask(path, "--stages", 4, "--activation", 0.1, "--gradients", 10, "--moves", 600)
    grid = np.array(made["plan"]["grid"])
    assert all(len(set(rack[grid[:, stage]])) == 1 for stage in range(4))  # one stage in each rack
    assert made["lower_bound"] <= made["proposed"]["communication_s"] < made["current"]["communication_s"]
    assert not made["plan"]["all_tried"]


def test_tensor_groups_stay_together(ask, tmp_path):
    node = np.arange(16) // 2
    rack = node // 4
    speed = np.where(np.equal.outer(node, node), 400.0, np.where(np.equal.outer(rack, rack), 100.0, 10.0))
    path = tmp_path / "links.npy"
    np.save(path, speed)
    _, made, _ = ask(path, "--stages", 4, "--tensor", 2, "--activation", 0.1, "--gradients", 10, "--order", "pipeline")
    assert made["inputs"]["units"] == 8 and made["proposed"]["communication_s"] == pytest.approx(0.124)
    assert {one["unit"] for one in made["plan"]["rows"]} == {f"{at} to {at + 1}" for at in range(0, 16, 2)}


def test_latencies_count(ask, racks, tmp_path):
    path = tmp_path / "latency.csv"
    np.savetxt(path, np.full((8, 8), 1000.0), delimiter=",")
    words = (racks, "--stages", 4, "--activation", 0.1, "--gradients", 10, "--order", "pipeline")
    _, made, _ = ask(*words, "--latency", path)
    assert made["current"]["communication_s"] == pytest.approx(1.006 + 6e-3 + 2e-3)


def test_probed_links_are_read(ask, tmp_path):
    rows = [(f"rank{a}", f"rank{b}", RACKS[a, b] * 1e9, 2000) for a in range(8) for b in range(a)]
    table = pd.DataFrame(rows, columns=["src", "dst", "speed_bytes_per_s", "latency_ns"])
    found = of_table(table)
    assert found.names[:2] == ("rank0", "rank1") and found.latency_s[1, 0] == 1e-6
    assert (found.speed[0, 1:4] == 100e9).all() and found.speed[0, 7] == 10e9
    assert "2 of 56 pairs were not measured" in of_table(table[1:]).warnings[0]


def test_kinds_of_cards_are_a_what_if(ask, racks, tmp_path):
    kinds = tmp_path / "kinds.txt"
    kinds.write_text("\n".join(["ib", "roce"] * 4) + "\n")  # across the racks: the rule has a price
    words = (racks, "--stages", 2, "--activation", 0.1, "--gradients", 10)
    _, free, _ = ask(*words)
    _, made, _ = ask(*words, "--kinds", kinds)
    assert made["proposed"] == free["proposed"] and free["plan"]["kinds"] == {}
    found = made["plan"]["kinds"]
    assert found["mixed_stages"] == found["mixed_stages_now"] == 2
    # Four of a kind are two of each rack: a ring of four then crosses, 2 x 3/4 x 10 / 10, and no boundary has to.
    assert found["within_s"] == pytest.approx(1.5 + 2 * 0.1 / 100)
    grid = np.array(found["within_grid"])
    assert (grid % 2 == grid[:1] % 2).all() and sorted(grid.ravel()) == list(range(8))
    assert any("what-if" in step and "Holmes" in step for step in made["steps"])
    kinds.write_text("\n".join(["ib"] * 4 + ["roce"] * 4))
    _, made, _ = ask(*words, "--kinds", kinds)
    assert made["plan"]["kinds"]["mixed_stages"] == 0 and any("as Holmes asks" in step for step in made["steps"])
    assert made["plan"]["kinds"]["within_s"] == pytest.approx(made["proposed"]["communication_s"])
    kinds.write_text("\n".join(["ib"] * 3 + ["roce"] * 5))
    _, made, _ = ask(*words, "--kinds", kinds)
    assert made["plan"]["kinds"]["within_s"] is None
    assert any("ib 3, roce 5 units" in step and "multiple of the 4 replicas" in step for step in made["steps"])


def test_many_units_keep_their_kinds_too():
    draw = np.random.default_rng(2)
    speed = draw.uniform(1, 100, (16, 16))
    it, kinds = job(speed, 4, 4, 1.0, 5.0), draw.permutation(16) // 8
    made = within(it, kinds, moves=300)
    assert mixed(made, kinds, it) == 0 and sorted(made) == list(range(16))
    assert it.seconds(made) < it.seconds(grouped(np.arange(16), kinds, it))


@pytest.mark.parametrize(
    ("text", "tensor", "said"),
    [("ib\nib\n", 1, "2 kinds for 8 rows"), ("ib\nroce\n" * 4, 2, "rows 0 to 1 are one tensor-parallel group")],
)
def test_kinds_that_do_not_fit_are_refused(ask, racks, tmp_path, text, tensor, said):
    kinds = tmp_path / "kinds.txt"
    words = (racks, "--stages", 2, "--tensor", tensor, "--activation", 1, "--gradients", 1, "--kinds", kinds)
    assert ask(*words)[0] == 3
    kinds.write_text(text)
    code, _, error = ask(*words)
    assert code == 2 and said in error


@pytest.mark.parametrize(
    ("text", "said"),
    [("1,2\n3,0\n0,0,1\n", "wants rows of numbers"), ("1,2,3\n1,2,3\n", "wants a square matrix"),
     ("0,0\n1,0\n", "row 0, column 1: wants a speed above 0"), ("0,1,1\n1,0,1\n1,1,0\n", "no multiple of")],
)  # fmt: skip
def test_bad_matrices_are_refused(ask, tmp_path, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    code, _, error = ask(path, "--stages", 2, "--activation", 1, "--gradients", 1)
    assert code in (2, 3) and said in error


def test_a_seed_is_no_negative_number(ask, racks):
    code, _, error = ask(racks, "--stages", 2, "--activation", 1, "--gradients", 1, "--seed", -1)
    assert code == 2 and "--seed" in error


@st.composite
def fabrics(draw, most=6):
    """Draw (speed [n, n] in GB/s, one way not as the other, latency [n, n] in us, replicas, stages)."""
    replicas, stages = draw(st.sampled_from([one for one in ((1, 1), (1, 3), (2, 2), (3, 1), (2, 3), (3, 2), (4, 3))
                                             if one[0] * one[1] <= most]))  # fmt: skip
    count = replicas * stages
    speed = draw(arrays.arrays(float, (count, count), elements=st.sampled_from([1.0, 10.0, 10.0, 100.0])))
    unlike = 1 + np.random.default_rng(draw(st.integers(0, 9))).random((count, count)) / 100  # no two links are equal
    wait = draw(arrays.arrays(float, (count, count), elements=st.sampled_from([0.0, 5.0, 1e5])))
    return speed * unlike, wait, replicas, stages


def handed_on(order, speed, wait_us, stages, activation, gradients):
    """Return pipette's cost in seconds, pipeline by pipeline and ring by ring; speeds in GB/s, sizes in GB."""
    grid = np.array(order).reshape(-1, stages)
    replicas = len(grid)

    def hop(a, b, size):
        return wait_us[a, b] / 1e6 + size / speed[a, b]

    pipelines = [sum(hop(a, b, activation) + hop(b, a, activation) for a, b in zip(row, row[1:], strict=False))
                 for row in grid]  # fmt: skip
    rings = [0.0]
    for column in grid.T if replicas > 1 else ():
        ring = list(zip(column, np.roll(column, -1), strict=True))
        slowest, longest = min(speed[one] for one in ring), max(wait_us[one] for one in ring) / 1e6
        rings.append(2 * (replicas - 1) * (longest + gradients / replicas / slowest))
    return max(pipelines) + max(rings)


@settings(max_examples=25)
@given(fabrics(), st.sampled_from([0.0, 0.1, 10.0]), st.sampled_from([0.0, 1.0, 10.0]), st.booleans())
def test_no_order_of_all_is_better_and_the_cost_is_counted_anew(fabric, activation, gradients, by_stage):
    speed, wait, replicas, stages = fabric
    order = "stage" if by_stage else "pipeline"
    wanted = placement.Wanted(stages, activation * 1e9, gradients * 1e9, order=order)
    made = sound(placement.planned(of_matrix(speed, wait, "links"), wanted))
    sizes = (speed, wait, stages, activation, gradients)
    for side, grid in (("current", "grid_now"), ("proposed", "grid")):
        units = np.array(made.plan[grid])
        assert units.shape == (replicas, stages) and sorted(units.ravel()) == list(range(replicas * stages))
        assert getattr(made, side)["communication_s"] == pytest.approx(handed_on(units, *sizes))
    every = permutations(range(replicas * stages))
    if replicas * stages <= 4:
        best = min(handed_on(one, *sizes) for one in every)
        assert made.lower_bound == pytest.approx(best)
        assert made.proposed["communication_s"] <= best / (1 - placement.LEAST_GAIN_RATIO) + 1e-12
    moved = [row for row in made.plan["rows"] if row["unit"] != row["now"]]
    assert bool(made.steps) == bool(moved) and [row["rank"] for row in made.plan["rows"]] == list(range(len(speed)))


@settings(max_examples=12)
@given(fabrics(most=12), st.sampled_from([0.1, 10.0]), st.sampled_from(["pipette", "dt-fm"]), st.data())
def test_units_named_otherwise_cost_the_same(fabric, activation, model, data):
    speed, wait, replicas, stages = fabric
    count = replicas * stages
    order = np.array(data.draw(st.permutations(range(count))))
    wanted = {"model": model, "order": "pipeline", "moves": 60}
    one = placement.planned(of_matrix(speed, wait, "links"), placement.Wanted(stages, activation * 1e9, 1e9, **wanted))
    place = np.argsort(order)  # where each unit went
    other = sound(placement.planned(
        of_matrix(speed[np.ix_(order, order)], wait[np.ix_(order, order)], "links"),
        placement.Wanted(stages, activation * 1e9, 1e9, current=place, **wanted),
    ))  # fmt: skip
    assert other.current == pytest.approx(one.current)
    if count <= 8:  # all are tried
        seconds = [made.proposed["communication_s"] for made in (one, other)]
        assert seconds[0] == pytest.approx(seconds[1]) and other.lower_bound == pytest.approx(one.lower_bound)


@settings(max_examples=15)
@given(fabrics(), st.sampled_from([2.0**-8, 16.0]), st.sampled_from([1.0, 10.0]))
def test_links_as_many_times_faster_take_as_many_times_less(fabric, times, gradients):
    speed, wait, _, stages = fabric
    wanted = placement.Wanted(stages, 1e9, gradients * 1e9)
    one = placement.planned(of_matrix(speed, wait, "links"), wanted)
    other = placement.planned(of_matrix(speed * times, wait / times, "links"), wanted)
    assert np.array_equal(one.plan["grid"], other.plan["grid"])
    assert one.proposed["communication_s"] == pytest.approx(other.proposed["communication_s"] * times)


@settings(max_examples=15)
@given(st.sampled_from([np.nan, np.inf, 0.0, -1.0]), st.permutations(range(4)), st.booleans())
def test_no_cell_is_taken_for_a_link(bad, place, waits):
    speed, wait = np.full((4, 4), 10.0), np.zeros((4, 4))
    (wait if waits else speed)[place[0], place[1]] = bad
    if waits and bad == 0:
        sound(placement.planned(of_matrix(speed, wait, "links"), placement.Wanted(2, 1e9, 1e9)))
    else:
        with pytest.raises(SkewscopeError):
            placement.planned(of_matrix(speed, wait, "links"), placement.Wanted(2, 1e9, 1e9))
