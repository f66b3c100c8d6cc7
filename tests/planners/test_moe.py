"""`skewscope plan moe` from files to plan: every engine's format, bounds, held-out score, copies, groups, maps."""

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from skewscope.commands import main
from skewscope.moe import times
from skewscope.moe.loads import of_array
from skewscope.moe.placement import Placement, balancedness, lint, start_layout
from skewscope.planners._moe_made import START, Given, Wanted
from skewscope.planners._moe_work import worked
from skewscope.reports.json_schema import schema

TINY = Path(__file__).parents[2] / "sample_data" / "moe-tiny"
ENGINES = ("counts.npz", "expert_counts.csv", "trtllm_expert_statistic", "vllm_eplb_load_stats.jsonl",
           "expert_distribution_recorder_1700000000.0.pt", "router_trace_rank0.jsonl")  # fmt: skip


@pytest.fixture
def planned(tmp_path):
    """Return a function: words of the command line to the plan's document."""

    def run(*words, code=0):
        path = tmp_path / "plan.json"
        path.unlink(missing_ok=True)
        assert main(["plan", "moe", *map(str, words), "--json", str(path)]) == code
        document = json.loads(path.read_text())
        jsonschema.validate(document, schema("skewscope.plan.moe/1"))
        return document

    return run


def placement(document):
    plan, inputs = document["plan"], document["inputs"]
    return Placement(np.array(plan["phy2log"]), plan["gpus"], inputs["experts"], plan["nodes"])


def balance(document, counts):
    return balancedness(placement(document).gpu_loads(counts))


def tokens():
    return np.load(TINY / "counts.npz", allow_pickle=False)["counts"]


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_a_sound_plan(planned, name):
    made = planned(TINY / name, "--gpus", 4, "--slots", 20)
    assert lint(placement(made)) == []
    now, after, later = (
        made[side][name]
        for side, name in (
            ("current", "balancedness_mean"),
            ("proposed", "balancedness_mean"),
            ("proposed", "balancedness_later"),
        )
    )
    assert now < later < after <= 1 and made["proposed"]["duplicates"] == 0
    assert np.array_equal(placement(made).replicas(), made["plan"]["logcnt"])


def test_metrics_are_those_of_the_arrays(planned):
    made = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20)
    each = balance(made, tokens().sum(0))
    assert made["proposed"]["balancedness_mean"] == pytest.approx(each.mean())
    assert made["proposed"]["balancedness_min"] == pytest.approx(each.min())
    assert made["proposed"]["max_over_mean"] == pytest.approx((1 / each).mean())
    assert made["lower_bound"] <= made["proposed"]["max_over_mean"] and made["objective"] == "max_over_mean"
    assert made["gap"] == pytest.approx(made["proposed"]["max_over_mean"] / made["lower_bound"] - 1)
    start = np.arange(20) % 16
    assert made["proposed"]["moves"] == (np.array(made["plan"]["phy2log"]) != start).sum()
    assert made["plan"]["copies"] == (np.array(made["plan"]["phy2log"]) != start).sum(1).tolist()


def test_the_held_out_score_is_of_steps_that_the_plan_has_not_seen(planned, tmp_path):
    made = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20)
    held, splits = made["plan"]["held_out"], []
    for first in (3, 6, 9):  # twelve steps in four windows
        np.savez(tmp_path / "part.npz", counts=tokens()[:first])
        part = planned(tmp_path / "part.npz", "--gpus", 4, "--slots", 20)
        splits.append(balance(part, tokens()[first : first + 3].sum(0)).mean())
    assert held["splits"] == 3 and held["mean"] == pytest.approx(np.mean(splits))
    assert (held["least"], held["greatest"]) == (pytest.approx(min(splits)), pytest.approx(max(splits)))


def test_one_window_leaves_the_held_out_score_unknown(planned, tmp_path, capsys):
    np.save(tmp_path / "one.npy", tokens().sum(0))
    made = planned(tmp_path / "one.npy", "--gpus", 4, "--slots", 20)
    assert made["plan"]["held_out"] is None and made["proposed"]["balancedness_later"] is None
    assert any("held-out score unknown: one window only" in text for text in made["warnings"])


def test_windows_need_not_be_many(planned, tmp_path):
    np.save(tmp_path / "two.npy", tokens().reshape(2, 6, 4, 16).sum(1))
    assert planned(tmp_path / "two.npy", "--gpus", 4, "--slots", 20)["plan"]["held_out"]["splits"] == 1


def test_groups_stay_on_their_nodes(planned):
    made = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20, "--nodes", 2, "--groups", 4)
    by_node = placement(made).slots.reshape(4, 2, 10)
    for layer in by_node:
        groups = [set((node // 4).tolist()) for node in layer]
        assert groups[0] | groups[1] == {0, 1, 2, 3} and not groups[0] & groups[1]
    free = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20, "--nodes", 2)
    assert made["lower_bound"] > free["lower_bound"] and made["plan"]["what_if"][-1]["name"] == "no groups on nodes"
    assert 0 < made["proposed"]["cross_node_share"] < 0.75


def test_few_copies_and_a_plan_given_back(planned, tmp_path):
    first = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20, "--max-moves", 3)
    assert max(first["plan"]["copies"]) <= 3
    assert first["current"]["balancedness_mean"] < first["proposed"]["balancedness_mean"]
    (tmp_path / "running.json").write_text(json.dumps(first))
    again = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20, "--current", tmp_path / "running.json")
    assert again["current"]["balancedness_mean"] == first["proposed"]["balancedness_mean"]
    assert again["inputs"]["running placement"].startswith("read from ")
    budgets = again["plan"]["copies_against_balance"]
    assert [one["copies"] for one in budgets] == sorted(one["copies"] for one in budgets) and budgets[0]["copies"] == 0


def test_a_recorded_map_needs_no_sizes(planned):
    made = planned(TINY / "vllm_eplb_load_stats.jsonl")
    assert (made["inputs"]["gpus"], made["inputs"]["slots"]) == (4, 20)
    assert made["inputs"]["running placement"] == "as recorded"


def test_a_plan_that_only_fits_the_past_is_not_recommended(planned, tmp_path):
    chance = np.random.default_rng(5)
    even = chance.multinomial(640, np.ones(16) / 16, size=(8, 3)).reshape(8, 3, 16)
    np.save(tmp_path / "even.npy", even)
    made = planned(tmp_path / "even.npy", "--gpus", 4)
    assert not made["plan"]["recommended"] and made["verdict"].startswith("Leave the placement as it is: noise ceiling")
    assert made["steps"][0] == "Do nothing now."


def test_seconds_come_from_the_model(planned, tmp_path):
    chance = np.random.default_rng(6)
    loads = chance.multinomial(60_000, chance.dirichlet(np.full(8, 2.0)), size=(6, 32)).reshape(6, 32, 8)
    np.savez(tmp_path / "counts.npz", counts=loads)
    made = planned(tmp_path / "counts.npz", "--gpus", 4, "--slots", 12, "--model", "mixtral-8x7b", "--budget-s", 1)
    back = made["plan"]["pay_back"]
    assert made["inputs"]["model"] == "mixtral-8x7b" and back["measured"] == "on later steps"
    assert made["proposed"]["experts_s"] == pytest.approx(made["current"]["experts_s"] - back["gain_s"])
    assert back["steps"] == pytest.approx(back["copy_s"] / back["gain_s"])
    expert = 3 * 4096 * 14336 * made["inputs"]["weight_bytes"]
    assert made["proposed"]["redundant_gib"] == pytest.approx(32 * expert / 2**30)  # one more a GPU in each layer


def test_one_robust_plan_for_workloads_that_take_turns(planned, tmp_path):
    chance = np.random.default_rng(7)
    for name in ("a", "b", "c"):
        shares = chance.dirichlet(np.full(24, 0.7))
        np.save(tmp_path / f"{name}.npy", chance.multinomial(40_000, shares, size=(4, 2)).reshape(4, 2, 24))
    words = ("--gpus", 6, "--slots", 36)
    made = planned(tmp_path / "a.npy", "--workloads", tmp_path / "b.npy", tmp_path / "c.npy", *words)
    served = made["plan"]["workloads"]
    assert [one["name"] for one in served] == ["a", "b", "c"] and all(one["planned"] > one["now"] for one in served)
    alone = planned(tmp_path / "a.npy", *words)
    others = np.mean([balance(alone, np.load(tmp_path / f"{name}.npy").sum(0)).mean() for name in "abc"])
    assert made["proposed"]["balancedness_mean"] > others + 0.1
    assert made["plan"]["held_out"]["mean"] > others + 0.1


def test_pairs_of_experts_are_kept_on_a_gpu(planned, tmp_path):
    chance = np.random.default_rng(8)
    first = chance.integers(0, 8, (4000, 1, 1))
    second = (first * 3 + chance.integers(0, 2, first.shape)) % 8  # follows the first layer's expert
    np.save(tmp_path / "trace.npy", np.concatenate([first, second], axis=1))
    words = (tmp_path / "trace.npy", "--gpus", 4, "--affinity", tmp_path / "trace.npy")
    even, near = planned(*words), planned(*words, "--load-limit", 1.2)
    assert near["proposed"]["pairs_on_gpu_share"] > 0.4 > near["current"]["pairs_on_gpu_share"]
    assert near["proposed"]["pairs_on_gpu_share"] >= even["proposed"]["pairs_on_gpu_share"]
    assert len(near["plan"]["locality"]) > 3


def test_other_systems_are_priced_on_the_same_loads(planned, tmp_path):
    chance = np.random.default_rng(9)
    shares = chance.dirichlet(np.full(8, 2.0))
    trace = np.stack([chance.choice(8, 2, replace=False, p=shares) for _ in range(3000 * 32)]).reshape(3000, 32, 2)
    np.save(tmp_path / "trace.npy", trace)
    words = (tmp_path / "trace.npy", "--gpus", 4, "--slots", 12, "--budget-s", 1)
    made = planned(*words, "--model", "mixtral-8x7b", "--trace", tmp_path / "trace.npy")
    found = {one["name"]: one for one in made["plan"]["systems"]}
    assert set(found) == {"experts cut over all GPUs", "compressed all-to-all", "experts folded over other ranks",
                          "experts grouped, tokens shuffled", "experts that compute nothing"}  # fmt: skip
    assert all(one["source"] and one["assumes"] for one in found.values())
    cut = found["experts cut over all GPUs"]
    assert cut["then"] < cut["planned"] and found["compressed all-to-all"]["planned"] == cut["planned"]
    bare = planned(*words, "--model", "mixtral-8x7b")
    assert [one["name"] for one in bare["plan"]["systems"]] == list(found)[:3]
    np.save(tmp_path / "short.npy", trace[:, :3])
    assert main(["plan", "moe", *map(str, words), "--trace", str(tmp_path / "short.npy")]) == 2


def test_in_training_replicas_may_come_and_go():
    chance = np.random.default_rng(10)
    counts = chance.multinomial(60_000, chance.dirichlet(np.full(8, 2.0)), size=(5, 4))
    loads = of_array(counts, phase="train", top_k=2)
    clock = times.Clock(times.SHAPES["mixtral-8x7b"], times.HARDWARE["h100"], 2.0, passes=3.0)
    made = worked(Given((loads,), start_layout(8, 12, 4, 4), START, clock), Wanted(4, 1, 12, budget_s=1.0))
    found = {one.name: one for one in made.systems}
    gathered = found["replicas gathered for each step"]
    assert gathered.unit == "balance" and gathered.then <= 1
    assert f"{2 * 4 * 3 * 4096 * 14336 * 2 / 2**30:.2f} GiB moved per GPU and step" in gathered.text
    shadowed = found["hottest experts copied to all for a layer"]
    assert 0 < shadowed.then <= shadowed.planned


def test_maps_for_engines_are_written_and_explained(planned, tmp_path):
    words = [f"--export={name}:{tmp_path / name}" for name in ("sglang", "vllm-ascend", "eplb")]
    made = planned(TINY / "counts.npz", "--gpus", 4, "--slots", 20, *words)
    assert json.loads((tmp_path / "sglang").read_text())["physical_to_logical_map"] == made["plan"]["phy2log"]
    assert np.array_equal(np.load(tmp_path / "eplb", allow_pickle=False)["phy2log"], made["plan"]["phy2log"])
    assert sum("--init-expert-location" in step for step in made["steps"]) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--slots", 20], 2, "give --gpus"), (["--gpus", 4, "--slots", 17], 2, "16 or 20 do"),
        (["--gpus", 4, "--slots", 12], 2, "cannot hold 16 experts"), (["--gpus", 4, "--slots", 68], 2, "more than one"),
        (["--gpus", 4, "--nodes", 3], 2, "over --nodes 3"), (["--gpus", 4, "--groups", 3], 2, "--groups 3"),
        (["--gpus", 4, "--export", "pdf:x"], 2, "wants FORMAT:FILE with one of eplb"),
        (["--gpus", 4, "--load-limit", 1.1], 2, "wants --affinity"), (["--gpus", 4, "--model", "x"], 2, "deepseek-v3"),
        (["--gpus", 4, "--model", "mixtral-8x7b"], 2, "has 8 experts, the loads have 16"),
        (["--gpus", 4, "--gpu", "x"], 2, "h100, h200"), (["--gpus", 4, "--phase", "decode"], 3, "of phase 'decode'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(words, code, said, capsys):
    assert main(["plan", "moe", str(TINY / "counts.npz"), *map(str, words)]) == code
    assert said in capsys.readouterr().err


def test_the_ladder_and_the_steps_are_printed(capsys):
    assert main(["plan", "moe", str(TINY / "counts.npz"), "--gpus", "4", "--slots", "20", "-q"]) == 0
    said = capsys.readouterr()
    rungs = ["now", "noise ceiling", "bound of slots", "plan", "plan, held out"]
    lines = said.out.splitlines()
    places = [next(at for at, line in enumerate(lines) if line.startswith(f"{name}  ")) for name in rungs]
    assert places == sorted(places) and any(line.startswith("1. Copy ") for line in lines)
    assert said.err == ""


def test_the_readme_shows_what_is_printed(capsys, tmp_path):
    readme = (TINY.parents[1] / "README.md").read_text()
    command = re.search(r"^skewscope (plan moe .*)$", readme, re.MULTILINE)[1]
    words = command.replace("sample_data/moe-tiny", str(TINY)).replace("map.json", str(tmp_path / "map.json"))
    assert main(words.replace("plan.html", str(tmp_path / "plan.html")).split()) == 0
    shown = readme.partition(command)[2].partition("```\n\n```text\n")[2].partition("```")[0]
    assert len(shown.splitlines()) == 6 and shown in capsys.readouterr().out
