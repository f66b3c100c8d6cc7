"""`skewscope plan sequence`, from tables of lengths and from recordings."""

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
from skewscope.errors import SkewscopeError, UsageError
from skewscope.planners._lengths import checked
from skewscope.planners.sequence import LEAST_GAIN_RATIO, Lengths, Wanted, planned

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]

DRAWN = np.clip(np.round(np.exp(np.random.default_rng(0).normal(7.2, 1.3, 64 * 12))), 1, 131072).astype(int)


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan sequence` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        code = commands.main(["plan", "sequence", *map(str, words), "--json", str(file)])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


def write(folder, kind):
    path = folder / f"lengths.{kind}"
    table = pd.DataFrame({"document": range(len(DRAWN)), "tokens": DRAWN})
    writers = {
        "npy": lambda: np.save(path, DRAWN), "npz": lambda: np.savez(path, tokens=DRAWN),
        "csv": lambda: table.to_csv(path, index=False), "parquet": lambda: table.to_parquet(path),
        "json": lambda: path.write_text(json.dumps(DRAWN.tolist())), "txt": lambda: np.savetxt(path, DRAWN, fmt="%d"),
    }  # fmt: skip
    writers[kind]()
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet", "json", "txt"])
def test_every_form_of_lengths_gives_the_same_plan(ask, tmp_path, kind):
    code, made, _ = ask(write(tmp_path, kind), "--ranks", 8, "--per-step", 64)
    assert code == 0
    assert made["inputs"]["sequences"] == len(DRAWN)
    assert made["plan"]["ratios"] == pytest.approx(planned(Lengths(DRAWN), Wanted(8, 64)).plan["ratios"])


def test_the_longest_document_binds_and_is_sharded(ask, tmp_path):
    out = tmp_path / "deal.csv"
    page = tmp_path / "plan.html"
    _, made, _ = ask(write(tmp_path, "npy"), "--ranks", 8, "--per-step", 64, "--out", out, "--html", page)
    assert "The longest document binds" in page.read_text()
    ratios = made["plan"]["ratios"]
    assert ratios["floor"] > 1.05 and made["plan"]["floor_binds"] and "shard it" in made["verdict"]
    assert ratios["floor"] <= ratios["karmarkar_karp"] <= ratios["round_robin"]
    assert made["proposed"]["heaviest_over_mean_ratio"] <= made["current"]["heaviest_over_mean_ratio"]
    assert made["plan"]["degrees_time"] >= made["plan"]["degrees_bound"]
    longest, shortest = made["plan"]["degrees"][-1], made["plan"]["degrees"][0]
    assert longest["degree"] > shortest["degree"] == 1
    dealt = pd.read_csv(out)
    assert dealt["step"].tolist() == [place // 64 for place in range(len(DRAWN))]
    assert dealt["rank"].tolist() == made["plan"]["rank_of"]


def test_even_lengths_are_left_as_they_are(ask, tmp_path):
    path = tmp_path / "even.npy"
    np.save(path, np.full(64, 1000))
    _, made, _ = ask(path, "--ranks", 8, "--per-step", 32)
    assert made["plan"]["way"] == "round_robin" and made["steps"] == [] and made["optimal"]
    assert "Deal as today" in made["verdict"]


def test_a_corpus_is_more_even(ask, tmp_path):
    path = write(tmp_path, "npy")
    _, steps, _ = ask(path, "--ranks", 8, "--per-step", 64)
    _, whole, _ = ask(path, "--ranks", 8, "--per-step", 64, "--corpus")
    assert whole["plan"]["way"] == "corpus"
    assert whole["proposed"]["heaviest_over_mean_ratio"] < steps["proposed"]["heaviest_over_mean_ratio"]
    assert whole["plan"]["ratios"]["floor"] == pytest.approx(1.0)


def test_cost_decides_what_is_even():
    tokens = np.array([40_000] + [4000] * 10)
    linear = planned(Lengths(tokens), Wanted(2, 11, cost="tokens"))
    causal = planned(Lengths(tokens), Wanted(2, 11, hidden=1024))
    assert linear.plan["ratios"]["floor"] == 1.0
    assert causal.plan["ratios"]["floor"] > 1.3  # attention of the long one alone is more than half of all
    assert causal.proposed["tokens_over_mean_ratio"] >= linear.proposed["tokens_over_mean_ratio"]


def test_memory_alone_asks_for_degrees():
    made = planned(Lengths(np.array([3000, 3000, 3000, 3000])), Wanted(4, 4, cost="tokens", tokens=2000.0))
    assert all(one["degree"] >= 2 for one in made.plan["degrees"])
    assert made.plan["ratios"]["floor"] == 1.0
    with pytest.raises(UsageError, match="fits not even on all"):
        planned(Lengths(np.array([9000, 1, 1, 1])), Wanted(4, 4, tokens=2000.0))


def test_an_exact_split_is_shorter_than_the_greedy_one():
    tokens = np.array([1577, 1128, 3080, 1535, 668, 2143, 7297, 4588, 537, 259, 596, 1413])
    greedy, proved = (planned(Lengths(tokens), Wanted(4, 12, exact=exact)).plan for exact in (False, True))
    assert proved["degrees_bound"] <= proved["degrees_time"] < greedy["degrees_time"]


def test_a_recording_is_fitted_and_dealt_anew(ask, shared):
    _, made, told = ask(shared / "real-jobs/seqlen-rotating", "--corpus")
    assert made["inputs"]["cost_unit"] == "s" and made["inputs"]["cost_r2"] > 0.8
    assert made["current"]["heaviest_over_mean_ratio"] > 1.5
    assert made["proposed"]["heaviest_over_mean_ratio"] < 1.2
    assert "quadratic part" in told
    _, same, _ = ask(shared / "real-jobs/seqlen-rotating")
    assert same["plan"]["way"] == "recorded"
    _, healthy, told = ask(shared / "real-jobs/healthy-a", "--corpus")
    assert healthy["steps"] == [] and "tokens do not explain" in told


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("tokens\n10\n0\n", ["--ranks", 1], "sequence 1 has 0 tokens"),
        ("tokens\n10\n1.5\n", ["--ranks", 1], "1.5 tokens"),
        ("a,b\n1,2\n", ["--ranks", 1], "Say it with --column"),
        ("a,b\n1,2\n", ["--ranks", 1, "--column", "c"], "no column 'c'"),
        ("tokens\n10\n10\n", [], "--ranks K is missing"),
        ("tokens\n10\n10\n", ["--ranks", 4, "--per-step", 2], "--per-step 2"),
        ("", ["--ranks", 1], "lengths"),
    ],
)
def test_what_cannot_be_meant(ask, tmp_path, text, words, said):
    path = tmp_path / "lengths.csv"
    path.write_text(text)
    code, made, told = ask(path, *words)
    assert code in (2, 3) and made is None and said in told


def test_the_column_is_chosen(ask, tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("a,b\n1,2\n1,4\n")
    _, made, _ = ask(path, "--ranks", 1, "--column", "b")
    assert made["plan"]["longest_tokens"] == 4


@pytest.mark.parametrize("tokens", [np.inf, 16384.0])  # the second needs rounds, one after the other
def test_the_lanes_of_the_picture_end_with_the_step(tokens):
    made = planned(Lengths(DRAWN), Wanted(8, 64, tokens=tokens))
    (gantt,) = [one for one in made.pictures if one.kind == "gantt"]
    ends = [lane[-1][1] for lane in gantt.series.values()]
    spans = [span for lane in gantt.series.values() for span in lane]
    assert len(spans) == 64
    assert f"{max(ends):.3g}" in gantt.text
    assert all(begin == before for lane in gantt.series.values()
               for (_, before, _), (begin, _, _) in zip(lane, lane[1:], strict=False))  # fmt: skip


tokens = st.integers(1, 64) | st.integers(1, 4096)
costs = st.sampled_from([("tokens", lambda s: s), ("causal", lambda s: 24 * 64**2 * s + 2 * 64 * s**2)])


def lasting(cost, deal, ranks):
    """Return the heaviest rank of every step, added: `deal` is a step and a rank for each cost."""
    held = {}
    for one, at in zip(cost, deal, strict=True):
        held[at] = held.get(at, 0) + one
    steps = {step for step, _ in held}
    return sum(max(held.get((step, rank), 0) for rank in range(ranks)) for step in steps)


def least(cost, ranks):
    """Return the heaviest rank of one step at best, every deal tried."""
    every = product([(0, rank) for rank in range(ranks)], repeat=len(cost))
    return min(lasting(cost, deal, ranks) for deal in every)


@settings(max_examples=25)
@given(st.lists(tokens, min_size=2, max_size=14), st.integers(1, 4), st.integers(0, 5), costs, st.booleans())
@example([7, 7], 2, 0, ("tokens", lambda s: s), False)
def test_deals_hold_every_sequence_once_and_last_as_counted_anew(lengths, ranks, more, cost, corpus):
    name, of = cost
    each = np.array(lengths)
    if len(each) < ranks:
        with pytest.raises(UsageError, match="less than one sequence"):
            planned(Lengths(each), Wanted(ranks, cost=name))
        return
    wanted = Wanted(ranks, ranks + more, corpus, hidden=64, cost=name)
    made = sound(planned(Lengths(each), wanted))
    step, rank = np.array(made.plan["step_of"]), np.array(made.plan["rank_of"])
    assert len(step) == len(rank) == len(each) and set(rank) <= set(range(ranks))
    if made.plan["way"] != "corpus":
        assert np.array_equal(step, np.arange(len(each)) // (ranks + more))
    assert 0 <= step.min() <= step.max() < -(-len(each) // (ranks + more))
    paid = [of(int(one)) for one in each]
    even = sum(paid) / ranks
    ratio = made.proposed["heaviest_over_mean_ratio"]
    assert ratio == pytest.approx(lasting(paid, list(zip(step, rank, strict=True)), ranks) / even)
    assert made.proposed["most_tokens_on_a_rank"] == max(
        each[(step == a) & (rank == b)].sum() for a, b in zip(step, rank, strict=True)
    )
    turns = [(at // (ranks + more), at % (ranks + more) % ranks) for at in range(len(each))]
    assert made.current["heaviest_over_mean_ratio"] == pytest.approx(lasting(paid, turns, ranks) / even)
    assert ratio <= min(made.plan["ratios"][way] for way in made.plan["ratios"] if way != "floor") / (
        1 - LEAST_GAIN_RATIO) * (1 + 1e-3)  # fmt: skip
    if len(each) <= 6 and not corpus:
        parts = [paid[at : at + ranks + more] for at in range(0, len(paid), ranks + more)]
        best = sum(least(part, ranks) for part in parts)
        assert made.lower_bound <= best / even * (1 + 1e-9) <= made.plan["ratios"]["exact"] * (1 + 2e-9)


@settings(max_examples=20)
@given(st.lists(tokens, min_size=4, max_size=12), st.sampled_from([2, 4, 8]), st.integers(16, 4096), st.booleans())
def test_every_sequence_fits_on_its_devices(lengths, ranks, room, proved):
    each = np.array(lengths)
    wanted = Wanted(ranks, max(ranks, len(each)), tokens=float(room), hidden=64, exact=proved)
    try:
        made = sound(planned(Lengths(np.resize(each, max(ranks, len(each)))), wanted))
    except UsageError as error:
        assert each.max() <= ranks * room or "fits not even on all" in str(error)
        assert each.max() > ranks * room or "rounds" in str(error)
        return
    assert each.max() <= ranks * room
    for one in made.plan["degrees"]:
        longest = max(length for length in lengths if length <= one["up_to_tokens"])
        assert one["most_degree"] * room >= longest
        assert one["least_degree"] <= one["degree"] <= one["most_degree"] <= ranks
    if made.plan["degrees"]:
        assert made.plan["degrees_time"] >= made.plan["degrees_bound"] * (1 - 1e-9)
        assert sum(one["sequences"] for one in made.plan["degrees"]) == max(ranks, len(each))


@settings(max_examples=15)
@given(st.integers(1, 5000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_equal_sequences_are_dealt_as_today(length, ranks, each, steps):
    made = sound(planned(Lengths(np.full(ranks * each * steps, length)), Wanted(ranks, ranks * each)))
    assert made.proposed == made.current and made.optimal and made.steps == []
    assert made.proposed["heaviest_over_mean_ratio"] == pytest.approx(1)


@settings(max_examples=15)
@given(st.lists(tokens, min_size=6, max_size=12), st.integers(2, 4), st.sampled_from([2, 1024]))
def test_tokens_in_another_unit_are_dealt_alike(lengths, ranks, scale):
    wanted = Wanted(ranks, cost="tokens")
    one, other = (planned(Lengths(np.array(lengths) * by), wanted) for by in (1, scale))
    assert np.array_equal(one.plan["rank_of"], other.plan["rank_of"])
    assert one.plan["ratios"] == pytest.approx(other.plan["ratios"])
    turned = planned(Lengths(np.array(lengths[::-1])), wanted)
    assert turned.lower_bound == pytest.approx(one.lower_bound)
    assert turned.plan["ratios"]["exact"] == pytest.approx(one.plan["ratios"]["exact"], rel=1e-9)


@settings(max_examples=15)
@given(st.lists(tokens, max_size=4), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -3.0, 1.5]), st.integers(0, 4))
def test_what_is_no_length_is_named_by_its_place(lengths, bad, place):
    values = np.array([*lengths[:place], bad, *lengths[place:]], dtype=float)
    with pytest.raises(SkewscopeError, match=f"sequence {min(place, len(lengths))} has"):
        checked(values, "lengths")
    with pytest.raises(SkewscopeError, match="no sequences"):
        checked(np.array([]), "lengths")
