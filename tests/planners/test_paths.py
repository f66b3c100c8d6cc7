"""`skewscope plan paths`."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from skewscope import commands


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
