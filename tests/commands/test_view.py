import csv
import json
from pathlib import Path

import pytest

from skewscope.catalogue import rooms
from skewscope.commands import main

jsonschema = pytest.importorskip("jsonschema")
SAMPLES = Path(__file__).parents[2] / "sample_data"
JOB = str(SAMPLES / "pipeline-imbalance")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return the folder with what one call writes, and its exit code."""
    folder = tmp_path_factory.mktemp("views")
    words = [
        "view",
        "steps,launches,rank-skew",
        JOB,
        "--json",
        str(folder / "views.json"),
        "--csv",
        str(folder / "csv"),
        "--html",
        str(folder / "views.html"),
        "--workers",
        "1",
        "--quiet",
    ]
    return folder, main(words)


def test_one_view_without_data_does_not_stop_the_others(asked):
    folder, code = asked
    assert code == 0
    views = {one["view"]: one for one in json.loads((folder / "views.json").read_text())["views"]}
    assert list(views) == ["steps", "launches", "rank-skew"]
    assert "record kernels" in views["launches"]["missing"] and not views["launches"]["tables"]
    assert len(views["steps"]["tables"]["steps"]) == 8 and views["rank-skew"]["missing"] is None


def test_the_document_keeps_its_schema(asked, capsys):
    folder, _ = asked
    assert main(["schema", "view"]) == 0
    schema = json.loads(capsys.readouterr().out)
    document = json.loads((folder / "views.json").read_text())
    jsonschema.validate(document, schema)
    assert document["schema"] == schema["title"] == "skewscope.view/1"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "more": 1}, schema)


def test_every_row_is_in_the_csv(asked):
    folder, _ = asked
    with (folder / "csv/steps/steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[0]["step_s"]) > 0
    assert not (folder / "csv/launches").exists()


def test_the_page_has_words_tables_and_pictures(asked):
    pytest.importorskip("plotly")
    text = (asked[0] / "views.html").read_text()
    assert "How long is each step" in text and "No answer: no device work" in text
    assert 'id="plot-view-steps"' in text and 'id="plot-view-steps-1"' in text and "default-src 'none'" in text


def test_the_terminal_has_the_answer_and_cuts_long_tables(capsys):
    assert main(["view", "steps", JOB, "--top", "3", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "steps: How long is each step" in out and "8 steps of" in out and "5 more rows: --top 8" in out


def test_nothing_answered_is_exit_code_3(capsys):
    assert main(["view", "launches,queue-depth", JOB, "--workers", "1"]) == 3
    assert capsys.readouterr().out.count("No answer: ") == 2


def test_the_list_has_every_view(capsys):
    assert main(["view", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{room.id} " in f"\n{out}" for room in rooms("views"))
    assert main(["view", "stragglers", "--list"]) == 0
    out = capsys.readouterr().out
    assert "chance_ratio = 0.01" in out and "needs arrivals" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["temporal-breakdwn", JOB], "did you mean temporal-breakdown?"),
        (["steps"], "no recordings given"),
        ([], "name a view"),
        (["steps", JOB, "--set", "top=3"], "no such setting"),
        (["stragglers", JOB, "--set", "stretch_count=many"], "wants a whole number"),
        (["steps", JOB, "--ranks", "7-3"], "wants ranks"),
        (["steps", JOB, "--json", "/no/such/folder/x.json"], "does not exist"),
    ],
)
def test_wrong_usage_is_told(words, said, capsys):
    assert main(["view", *words]) == 2
    assert said in capsys.readouterr().err


def test_ranks_windows_settings_and_tables(capsys):
    given = [JOB, "--workers", "1", "--json", "-", "--quiet"]
    assert main(["view", "phases", *given, "--ranks", "1,3-9", "--window", "5:9"]) == 0
    view = json.loads(capsys.readouterr().out)["views"][0]
    assert {row["rank"] for row in view["tables"]["ranks"]} == {1, 3}
    assert main(["view", "change-points", *given, "--set", "change-points.fewest_count=3"]) == 0
    view = json.loads(capsys.readouterr().out)["views"][0]
    assert view["settings"]["fewest_count"] == 3
    assert main(["view", "phases", *given, "--table", "timeline", "--set", "step=9"]) == 0
    view = json.loads(capsys.readouterr().out)["views"][0]
    assert next(iter(view["tables"])) == "timeline" and {row["step"] for row in view["tables"]["timeline"]} == {9}
    assert main(["view", "phases", JOB, "--workers", "1", "--table", "no"]) == 2
    assert "phases, ranks, timeline" in capsys.readouterr().err
    assert main(["view", "phases", JOB, "--workers", "1", "--ranks", "90"]) == 2
    assert "it holds ranks 0 to 3" in capsys.readouterr().err


def test_a_detailed_reading_knows_every_launch(shared, capsys):
    given = [
        "view",
        "idle-causes",
        str(shared / "hta-kineto-tests/nccl_parser_config__nccl_data.json.gz"),
        "--json",
        "-",
    ]
    streams = {}
    for more in ([], ["--detail"]):
        assert main([*given, *more, "--workers", "1", "--quiet"]) == 0
        view = json.loads(capsys.readouterr().out)["views"][0]
        streams[bool(more)] = sum(row["unknown_s"] for row in view["tables"]["streams"])
        assert bool(view["notes"]) == (not more)
    assert streams[False] > 0.5 and streams[True] == 0


def test_a_view_that_fails_is_told_and_the_others_answer(monkeypatch, caplog, capsys):
    from skewscope.views.steps import Steps

    def fail(self, tables):
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(Steps, "show", fail)
    assert main(["view", "steps,rank-skew", JOB, "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "view steps failed: ZeroDivisionError" in said.err and "rank-skew: How far apart" in said.out


def test_the_declared_layout_is_compared(capsys):
    assert main(["view", "parallelism", str(SAMPLES / "hang"), "--workers", "1", "--json", "-", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)["views"][0]["tables"]["dimensions"]
    told = {row["dimension"]: (row["ranks_count"], row["declared_count"]) for row in rows}
    assert told["dp"] == (4, 4) and told["tp"] == (2, 2)


def test_a_report_holds_the_light_views(tmp_path, capsys):
    pytest.importorskip("plotly")
    out = tmp_path / "out"
    assert main(["analyze", JOB, "--out", str(out), "--workers", "1", "--quiet"]) == 0
    page = (out / "report.html").read_text()
    assert '<h2 id="views-top">Views</h2>' in page and 'id="plot-view-rank-skew"' in page
    assert "launches: How" not in page  # it has no answer here
    assert (out / "views/steps/steps.csv").is_file()
    assert main(["analyze", JOB, "--html", str(tmp_path / "plain.html"), "--views", "none", "--workers", "1"]) == 0
    assert "views-top" not in (tmp_path / "plain.html").read_text()
    assert main(["analyze", JOB, "--html", str(tmp_path / "x.html"), "--views", "stpes"]) == 2
    assert "did you mean steps" in capsys.readouterr().err


def test_completion_knows_the_views(capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    assert "temporal-breakdown" in capsys.readouterr().out
