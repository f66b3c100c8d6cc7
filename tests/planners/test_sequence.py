"""`skewscope plan sequence`, from tables of lengths and from recordings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from skewscope import commands
from skewscope.errors import UsageError
from skewscope.planners.sequence import Lengths, Wanted, planned

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
