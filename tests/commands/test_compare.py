from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from skewscope import commands
from skewscope.commands import _runs
from skewscope.errors import UsageError
from skewscope.reports.json_schema import schema

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"
DERIVED = SHARED / "derived-ncclargs-multirank"
GLOO = SHARED / "local-gloo-kineto"
LENS = SHARED / "tracelens-kineto"


def compared(capsys, *words: object, code: int = 0) -> dict:
    assert commands.main(["compare", *map(str, words), "--json", "-", "--workers", "1"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    jsonschema.validate(document, schema("compare"))
    assert document["verdict"].split(":")[0] in " ".join(err.split()), "the page goes to standard error"
    return document


def states(document: dict, name: str = "findings") -> list[tuple]:
    return [(one["state"], one["condition"], one["subject"]) for one in document[name] if one["role"] == "culprit"]


@pytest.mark.skipif(not DERIVED.is_dir(), reason="the shared traces are not here")
def test_a_straggler_came_and_three_steps_are_too_few(capsys):
    document = compared(capsys, DERIVED / "4rank-clean", DERIVED / "4rank-straggler", "--fail-if-slower", "0")
    assert document["step_time"]["answer"] == "too-few-steps"
    assert states(document) == [("came", "coll-late-rank", "rank1")]
    assert document["work_counts"]["added"] == document["work_counts"]["removed"] == 0
    (reduce,) = [one for one in document["collectives"] if one["op"] == "all_reduce"]
    assert reduce["calls_before"] == reduce["calls_after"] == 5 and reduce["bytes_before"] == reduce["bytes_after"] > 0
    assert reduce["bus_bytes_per_s_before"] > 0


@pytest.mark.skipif(not GLOO.is_dir(), reason="the shared traces are not here")
def test_jobs_of_other_sizes_are_compared_and_a_gate_closes(capsys, tmp_path):
    words = (GLOO / "clean-4rank", GLOO / "compute-8rank")
    document = compared(capsys, *words, "--fail-if-slower", "20", code=1)
    step = document["step_time"]
    assert step["answer"] == "slower" and step["low_ratio"] > 1.5 and step["p"] < 0.05
    assert "The largest part of it is waiting for other ranks" in document["verdict"]
    assert states(document) == [("came", "coll-late-rank", "rank5")]
    assert document["before"]["ranks"] == 4 and document["after"]["ranks"] == 8
    assert any("per step and rank" in note for note in document["notes"])
    assert document["ranks"]["after"]["most_rank"] == 5 and not document["ranks"]["same_ranks"]


@pytest.mark.skipif(not LENS.is_dir(), reason="the shared traces are not here")
def test_two_vendors_meet_at_the_operators(capsys):
    paths = [LENS / f"{name}__Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz" for name in ("h100", "mi300")]
    document = compared(capsys, *paths, "--detail", "--names", "h100,mi300")
    assert document["before"]["name"] == "h100"
    operators = {one["name"]: one for one in document["operators"]}
    for name in ("aten::mm", "aten::addmm", "aten::mul", "aten::_flash_attention_forward"):
        one = operators[name]
        assert one["calls_before"] == one["calls_after"] > 0, name
        assert one["device_before_s"] > 0 and one["device_after_s"] > 0, name
    assert "gemm" in operators["aten::mm"]["kernels_before"] and "Cijk" in operators["aten::mm"]["kernels_after"]
    kernels = {state: sum(one["state"] == state for one in document["work"]) for state in ("added", "removed")}
    assert min(kernels.values()) > 5, "by kernels alone the two have little in common"


@pytest.fixture(scope="module")
def analysed(tmp_path_factory) -> Path:
    """What `analyze --out` wrote of a sample."""
    out = tmp_path_factory.mktemp("out") / "run"
    words = ["analyze", str(ROOT / "sample_data/compute-slow"), "--out", str(out), "--views", "none", "--workers", "1"]
    assert commands.main(words) == 0
    return out


def test_a_folder_that_analyze_wrote_is_the_recording(capsys, analysed, tmp_path):
    document = compared(capsys, ROOT / "sample_data/compute-slow", analysed, "--html", tmp_path / "page.html")
    assert document["step_time"]["answer"] == "no-difference" and document["step_time"]["ratio"] == pytest.approx(1.0)
    assert {one["state"] for one in document["work"]} == {"same"}
    assert {one["state"] for one in document["findings"]} == {"stayed"}
    page = (tmp_path / "page.html").read_text()
    for text in (
        "No difference beyond chance",
        "Where the step goes",
        "What ran",
        "Collectives",
        "Step times",
        "aten::",
    ):
        assert text in page
    assert "http" not in page.split("<script")[0].replace("http-equiv", "")


def test_a_report_alone_is_enough_for_steps_and_findings(capsys, analysed):
    report = analysed / "alone.json"
    report.write_bytes((analysed / "report.json").read_bytes())
    (analysed.parent / "reports").mkdir(exist_ok=True)
    moved = report.rename(analysed.parent / "reports/run.json")
    document = compared(capsys, moved, analysed)
    assert document["step_time"]["answer"] == "no-difference" and document["parts"] == []
    assert any("only the report" in note for note in document["notes"])
    assert commands.main(["compare", str(moved), str(analysed), "--window", "1:2"]) == 2
    assert "holds nothing to cut" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gone", "gone"), "no such file or folder: gone"),
        ((".", ".", "--fail-if-slower", "much"), "wants percent"),
        ((".", ".", "--names", "a,b,c"), "3 names for 2 runs"),
        ((".", ".", "--json", "/gone/x.json"), "/gone"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_code_2(words, says, capsys):
    assert commands.main(["compare", *words]) == 2
    assert says in capsys.readouterr().err


def test_names_are_as_short_as_they_may_be():
    assert _runs.named(["x/old.json.gz", "y/new.pt.trace.json.gz"], None) == ["old", "new"]
    assert _runs.named(["runs/1/t.json", "runs/2/t.json"], None) == ["1/t", "2/t"]
    assert _runs.named(["a", "a"], None) == ["a (1)", "a (2)"]
    with pytest.raises(UsageError):
        _runs.named(["a", "b"], ["only"])
