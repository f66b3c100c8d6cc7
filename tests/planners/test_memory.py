"""`skewscope plan memory`."""

from __future__ import annotations

import json

import pytest

from skewscope import commands

GPT3 = ("--layers", 96, "--hidden", 12288, "--heads", 96, "--sequence", 2048, "--vocabulary", 51200, "--data", 8,
        "--tensor", 8, "--stages", 8, "--microbatches", 64, "--step", 10)  # fmt: skip


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan memory` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        page = ["--json", str(file), "--html", str(tmp_path / "plan.html")]
        code = commands.main(["plan", "memory", *map(str, words), *page])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


def test_what_does_not_fit_gets_the_cheapest_way_that_does(ask):
    code, made, _ = ask(*GPT3, "--gpu-memory", 80)
    assert code == 0 and made["verdict"].startswith("Does not fit today (stage 0 binds")
    assert made["current"]["fullest_ratio"] > 1 >= made["proposed"]["fullest_ratio"]
    assert made["plan"]["binding_stage"] == 0 and made["plan"]["zero"] >= 1
    assert made["steps"][0].startswith("shard states") and made["optimal"]
    freed = [one["freed_bytes"] for one in made["plan"]["single_changes"]]
    assert freed == sorted(freed, reverse=True) and freed[0] > 0


def test_needless_recomputation_is_told(ask):
    _, made, _ = ask(*GPT3, "--gpu-memory", 400, "--recompute", "full")
    assert "which saves up to 3.333 s per step" in made["verdict"]
    assert made["plan"]["recompute"] == "none" and made["proposed"]["extra_s"] == 0


def test_what_fits_is_left_alone(ask):
    _, made, _ = ask(*GPT3, "--gpu-memory", 400)
    assert made["steps"] == [] and made["verdict"].startswith("Fits as it is")
    assert made["proposed"] == made["current"]


def test_what_cannot_fit_is_said_with_a_mend(ask):
    code, made, _ = ask(*GPT3, "--gpu-memory", 2)
    assert code == 1 and not made["feasible"] and "Nothing fits" in made["verdict"]
    assert "more pipeline stages" in made["steps"][0]


def test_a_schedule_changes_what_the_stages_hold(ask):
    _, usual, _ = ask(*GPT3, "--gpu-memory", 400)
    _, all_first, _ = ask(*GPT3, "--gpu-memory", 400, "--schedule", "gpipe")
    assert usual["inputs"]["held_microbatches"] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert all_first["inputs"]["held_microbatches"] == [64] * 8
    assert all_first["current"]["fullest_gib"] > usual["current"]["fullest_gib"]


def test_layers_must_add_up(ask):
    code, _, said = ask(*GPT3, "--gpu-memory", 80, "--split", "50,50")
    assert code == 2 and "96 in all" in said
