"""`skewscope plan placement`, from matrices and from probed links."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from skewscope import commands
from skewscope.optimize.kinds import grouped, mixed, within
from skewscope.optimize.layout import job
from skewscope.planners._links import of_table

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
