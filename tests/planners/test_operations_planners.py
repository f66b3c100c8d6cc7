"""The planners of operations, asked as people ask them: `skewscope plan checkpoint | power | telemetry-rate`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from skewscope import commands
from skewscope.optimize import failures
from skewscope.planners import _advise_other, checkpoint, telemetry_rate
from skewscope.tables import table as canonical


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan` to (exit code, document or None, standard error)."""

    def asked(*words):
        file, html = tmp_path / "plan.json", tmp_path / "plan.html"
        code = commands.main(["plan", *map(str, words), "--json", str(file), "--html", str(html)])
        told = capsys.readouterr().err
        if not file.exists():
            return code, None, told
        assert html.stat().st_size > 1000
        return code, json.loads(file.read_text()), told

    return asked


def test_a_checkpoint_interval_in_whole_steps(ask):
    code, made, _ = ask("checkpoint", "--save", 30, "--mttf", 11135 / 3600, "--step", 12, "--now", 3600)
    assert code == 0 and made["schema"] == "skewscope.plan.checkpoint/1"
    assert made["plan"]["interval_steps"] * 12 == made["plan"]["interval_s"] == pytest.approx(798, abs=12)
    assert made["current"]["interval_s"] == 3600 and made["current"]["ettr_ratio"] < made["proposed"]["ettr_ratio"]
    assert made["proposed"]["ettr_ratio"] == pytest.approx(0.880, abs=1e-3)
    assert made["lower_bound"] <= made["proposed"]["overhead_ratio"] < made["current"]["overhead_ratio"]


def test_a_good_interval_is_kept(ask):
    _, made, _ = ask("checkpoint", "--save", 30, "--mttf", 11135 / 3600, "--now", 850)
    assert made["verdict"].startswith("Keep") and made["proposed"] == made["current"]


def test_few_failures_give_a_range_and_none_a_lower_bound(ask):
    _, made, _ = ask("checkpoint", "--save", 30, "--failures", 4, "--hours", 240)
    plan = made["plan"]
    assert made["inputs"]["mttf_s"] == 60 * 3600
    assert plan["interval_low_s"] < plan["interval_s"] < plan["interval_high_s"]
    _, none, told = ask("checkpoint", "--save", 30, "--failures", 0, "--hours", 240)
    assert none["inputs"]["mttf_s"] is None and none["inputs"]["mttf_low_s"] == 80 * 3600
    assert none["plan"]["interval_high_s"] is None and "no failure was seen" in told
    _, assumed, told = ask("checkpoint", "--save", 30, "--gpus", 16384)
    assert assumed["inputs"]["mttf_s"] == pytest.approx(11135, abs=1) and "Llama 3" in told


def test_spares_and_churn(ask):
    words = ("checkpoint", "--save", 30, "--rate", 3.789, "--nodes", 2048, "--repair", 48, "--stay", 2000)
    _, made, _ = ask(*words)
    assert made["inputs"]["mttf_s"] == pytest.approx(11134, abs=2)
    assert made["plan"]["spare_nodes"] == failures.spares(2048, 3.789, 2 * 86400)
    assert made["plan"]["churn"]["lost_ratio"] == pytest.approx(2048 / (2000 * 3600) * 600)


def test_an_asynchronous_save_is_not_begun_before_the_last_is_safe(ask):
    _, made, _ = ask("checkpoint", "--save", 1, "--drain", 900, "--mttf", 3)
    assert made["plan"]["interval_s"] == 900


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--save S is missing"), (("--save", 3), "how often is the job interrupted"),
        (("--save", 3, "--failures", 3), "--hours H is missing"), (("--save", 3, "--rate", 3), "--nodes N is missing"),
        (("--save", 3, "--mttf", 3, "--gpus", 8, "--failures", 1), "give one"),
        (("--save", 3, "--mttf", 3, "--repair", 3), "--nodes N is missing"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(ask, words, told):
    code, made, said = ask("checkpoint", *words)
    assert (code, made) == (2, None) and told in said


def saving(seconds, every, count=4):
    """Return tables of two ranks that save `count` times: `seconds` each, `every` seconds from begin to begin."""
    begin = np.repeat(np.arange(count), 2) * int(every * 1e9)
    made = {column.name: [column.unknown] * len(begin) for column in canonical("steps").columns}
    made |= {"rank": np.tile([0, 1], count), "step": np.repeat(np.arange(count), 2), "phase": "checkpoint",
             "start_ns": begin, "end_ns": begin + int(seconds * 1e9)}  # fmt: skip
    return {"steps": pd.DataFrame(made)}


def test_saves_are_found_in_recordings_and_the_interval_advised():
    tables = saving(30.0, 4000.0)
    assert _advise_other.saves(tables) == (pytest.approx(30.0), pytest.approx(3970.0))
    assert _advise_other.saves(saving(30.0, 4000.0, 1)) is None
    option = _advise_other.checkpoint_option(tables, np.full(10, 2.0), 16384)
    then, now = (checkpoint.Asked(30.0, 11135.0).ettr(one) for one in (798.0, 3970.0))
    assert 2.0 - option.step_s[0] == pytest.approx(2.0 * (1 / now - 1 / then), rel=1e-3)
    assert option.range_s[0] < 2.0 - option.step_s[0] < option.range_s[1]


def rows(tmp_path, **columns):
    pd.DataFrame(columns).to_csv(tmp_path / "row.csv", index=False)
    return tmp_path / "row.csv"


def test_power_of_a_row_of_inference(ask, tmp_path):
    share = 0.70 + 0.08 * np.sin(np.arange(4000) / 50)
    code, made, _ = ask("power", rows(tmp_path, t_s=np.arange(4000) * 2.0, share=share), "--servers", 40)
    assert code == 0 and made["plan"]["extra_servers"] == int(40 * (1 / np.quantile(share, 0.999) - 1))
    grown = share * (40 + made["plan"]["extra_servers"]) / 40
    rise = max(np.max(grown[step:] - grown[:-step]) for step in range(1, 21))
    assert made["plan"]["t2_ratio"] == pytest.approx(1 - rise)
    assert made["plan"]["t1_ratio"] == pytest.approx(1 - rise - 0.09)
    assert made["proposed"]["servers"] == 51 and made["proposed"]["peak_power_ratio"] <= 1
    assert made["verdict"].startswith("Add 11 servers to 40")


def test_training_that_rises_at_once_gets_no_servers(ask, tmp_path):
    share = np.where(np.arange(400) // 40 % 2, 0.92, 0.55)
    _, made, _ = ask("power", rows(tmp_path, share=share), "--interval", 2)
    assert made["plan"]["extra_servers"] == 0 and "faster than a lock acts" in made["verdict"]
    assert made["proposed"]["servers"] == made["current"]["servers"]


def node_samples():
    time, node = np.repeat(np.arange(20) * 10.0, 4), np.tile(["n0", "n1", "n2", "n3"], 20)
    return {
        "t_s": time, "node": node, "watts": np.where(time == 100, 9000.0, 8000.0),
        "job": np.tile(["train", "train", "serve", "batch"], 20), "gpus": np.tile([64, 64, 8, 8], 20),
        "priority": np.tile(["high", "high", "high", "low"], 20), "clock": np.tile([1400, 1400, 1200, 1400], 20),
        "compute_ratio": np.tile([0.9, 0.9, 0.5, 0.5], 20),
    }  # fmt: skip


def test_whole_jobs_are_capped_low_priority_first(ask, tmp_path):
    path = rows(tmp_path, **node_samples())
    code, made, told = ask("power", path, "--provisioned", 40000, "--shave", 3000)
    assert code == 0 and made["inputs"]["servers"] == 4
    jobs = {one["job"]: one for one in made["plan"]["jobs"]["jobs"]}
    assert jobs["train"]["watts"] == 18000 and jobs["train"]["saves_watts"] == pytest.approx(3600)
    assert [name for name, one in jobs.items() if one["cap"]] == ["batch", "serve"]  # 1800 W each; train costs 128 GPUs
    assert jobs["train"]["lost_gpus"] == pytest.approx(128 * (1 - 1 / (0.1 + 0.9 / 0.9)))
    assert made["plan"]["held_back"] == ["n2"] and "slow because of power" in told
    _, made, _ = ask("power", path, "--provisioned", 40000, "--shave", 1000)
    assert [one["job"] for one in made["plan"]["jobs"]["jobs"] if one["cap"]] == ["batch"]
    _, made, told = ask("power", path, "--provisioned", 40000, "--shave", 50000)
    assert not made["plan"]["jobs"]["enough"] and "move work to another row" in told


def test_jobs_from_a_table_of_their_own(ask, tmp_path):
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("job,watts,gpus,priority\na,1000,8,low\nb,1000,512,low\n")
    path = rows(tmp_path, share=np.full(50, 0.7))
    _, made, _ = ask("power", path, "--jobs", jobs, "--shave", 150)
    assert [one["job"] for one in made["plan"]["jobs"]["jobs"] if one["cap"]] == ["a"]
    jobs.write_text("job,gpus\na,8\n")
    code, _, told = ask("power", path, "--jobs", jobs)
    assert code == 2 and "no column watts" in told


@pytest.mark.parametrize(
    ("columns", "told"),
    [({"power": [1.0, 2.0]}, "wants a column share"), ({"watts": [1.0, 2.0]}, "--provisioned W is missing"),
     ({"share": [0.5, -1.0]}, "column share, row 2"), ({"share": [0.5]}, "fewer than two times")],
)  # fmt: skip
def test_a_table_of_power_that_cannot_be_meant_is_refused(ask, tmp_path, columns, told):
    code, made, said = ask("power", rows(tmp_path, **columns))
    assert (code, made) == (2, None) and told in said


def test_a_telemetry_rate(ask):
    words = ("telemetry-rate", "--nodes", 2048, "--looks", 3, "--now", 60, "--event", 2)
    code, made, _ = ask(*words)
    rate = 3.8 * 2048 / 1000 / 86400 * 512
    assert code == 0 and made["plan"]["interval_s"] == pytest.approx(np.sqrt(0.001 * 2048 / (rate * 2.5)))
    then = made["proposed"]
    assert then["mean_delay_s"] == pytest.approx(2.5 * then["interval_s"])
    assert then["late_gpus"] == pytest.approx(then["sampling_gpus"])  # at the optimum both cost the same
    assert then["event_seen_ratio"] == pytest.approx(min(1, 2 / then["interval_s"]))
    assert made["current"]["event_seen_ratio"] == pytest.approx(2 / 60)
    assert made["lower_bound"] == pytest.approx(then["total_gpus"]) and made["optimal"]


def test_a_rate_that_is_good_enough_is_kept():
    wanted = telemetry_rate.Wanted(100, 1e-4, 10.0, 0.001, 1, now_s=14.0)
    made = telemetry_rate.planned(wanted)
    assert made.proposed == made.current and made.verdict.startswith("Keep")


def test_the_noise_of_a_signal_tells_how_many_looks(ask, tmp_path):
    draw = np.random.default_rng(0)
    pd.DataFrame({"t_s": np.arange(4000) * 10.0, "value": 5 + draw.normal(size=4000)}).to_csv(tmp_path / "s.csv")
    words = ("telemetry-rate", "--nodes", 256, "--signal", tmp_path / "s.csv", "--effect", 2.0)
    _, made, _ = ask(*words)
    # z(10 s in 1,000 days) + z(.95) = 5.18 + 1.64 standard deviations, over a shift of two: 3.4^2 = 11.6
    assert made["plan"]["looks"] == 12
    assert made["plan"]["no_use_below_s"] == pytest.approx(10, rel=0.2)
    code, made, _ = ask(*words, "--most-delay", 30)
    assert code == 1 and not made["feasible"] and "No interval finds" in made["verdict"]
    _, made, _ = ask(*words, "--most-delay", 600, "--now", 300)
    assert made["proposed"]["longest_delay_s"] <= 600
    code, _, told = ask(*words[:-2])
    assert code == 2 and "--effect D is missing" in told
