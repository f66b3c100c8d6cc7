import json
import os
from pathlib import Path

import jsonschema
import pytest

from skewscope.catalogue import rooms
from skewscope.commands import _files, _work, analyze, main
from skewscope.errors import SkewscopeError
from skewscope.reports.json_schema import report

SHARED = Path(__file__).parents[2] / "../shared/data"
RIGHT = {"compute-slow": ("coll-late-rank", 5), "dataloader-stall": ("data-loader-stall", 2), "healthy-a": None}


@pytest.fixture
def run(make_world, monkeypatch, capsys):
    """Run `analyze` on a made-up recording: (words, quiet=) -> (exit code, stdout, stderr)."""

    def go(*words, quiet=False):
        world = make_world(quiet=quiet)
        monkeypatch.setattr(_work, "read", lambda *args, **more: world.recording)
        monkeypatch.setattr(analyze, "analysed", lambda *args: world)
        code = main(["analyze", "made-up", *map(str, words)])
        return code, *capsys.readouterr()

    return go


@pytest.mark.parametrize(("line", "code"), [("S1", 0), ("S2", 1), ("S3", 1), ("S4", 1)])
def test_fail_on(run, line, code):
    assert run("--fail-on", line)[0] == code
    assert run("--fail-on", line, quiet=True)[0] == 0


def test_page_on_standard_output_alone(run):
    code, out, err = run()
    assert code == 0 and "Rank 5 on n1" in out and err == ""
    assert "\x1b" not in out


def test_json_on_standard_output_leaves_the_page_to_standard_error(run):
    _, out, err = run("--json", "-")
    jsonschema.validate(json.loads(out), report())
    assert "What to do next" in err


def test_files_are_whole_and_nothing_else_is_left(run, tmp_path):
    pytest.importorskip("plotly")
    code, _, err = run("--json", tmp_path / "r.json", "--html", tmp_path / "r.html", "--out", tmp_path / "out")
    assert code == 0 and err.count("wrote") == 3
    jsonschema.validate(json.loads((tmp_path / "r.json").read_text()), report())
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    views = [name for name in made if name.startswith("out/views/")]
    assert "out/views/rank-skew/skew.csv" in views and all(name.endswith(".csv") for name in views)
    assert [name for name in made if name not in views] == [
        "out/report.html", "out/report.json", "out/tables/arrivals.parquet", "out/tables/rank_steps.parquet",
        "out/tables/step_times.parquet", "r.html", "r.json",
    ]  # fmt: skip
    assert run("-q", "--json", tmp_path / "r.json")[2] == ""


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_targets_are_checked_before_the_work(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_work, "read", lambda *args: pytest.fail("read too early"))
    assert main(["analyze", "x", flag, str(tmp_path / "no" / "r")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["analyze", "x", flag, str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_unknown_condition_lists_near_names(capsys):
    if not any(room.id == "coll-late-rank" for room in rooms("detectors")):
        pytest.skip("no detectors yet")
    assert main(["analyze", "x", "--only", "coll-late-ranks"]) == 2
    assert "did you mean coll-late-rank" in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file(tmp_path):
    place = tmp_path / "r.json"
    place.write_text("old")

    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SkewscopeError, match="cannot write .*: No space left on device"):
        _files.write(place, full)
    assert place.read_text() == "old" and os.listdir(tmp_path) == ["r.json"]


def test_links_and_devices_are_written_through(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    _files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    _files.write_text(Path("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()


def test_nothing_readable_is_3_with_each_reason(tmp_path, capsys):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "b.txt").write_text("hello")
    assert main(["analyze", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "a.bin" in err and "b.txt" in err


def analysed(place, capsys, *words):
    code = main(["-q", "analyze", str(place), "--json", "-", "--workers", "1", *words])
    made = json.loads(capsys.readouterr().out)
    jsonschema.validate(made, report())
    return code, made


@pytest.mark.parametrize("job", RIGHT)
def test_real_jobs_end_to_end(job, capsys):
    place = SHARED / "real-jobs" / job
    if not place.exists():
        pytest.skip("needs the shared data")
    code, made = analysed(place, capsys, "--fail-on", "S3")
    culprits = [(one["condition"], one["subject"]["rank"]) for one in made["findings"] if one["role"] == "culprit"]
    assert culprits[:1] == ([RIGHT[job]] if RIGHT[job] else [])
    assert code == (1 if RIGHT[job] else 0)


def test_converted_tables_give_the_same_findings(tmp_path, capsys):
    place = SHARED / "real-jobs" / "compute-slow"
    if not place.exists():
        pytest.skip("needs the shared data")

    def told(made):
        found = [(one["condition"], one["subject"]["id"], one["severity"], one["role"]) for one in made["findings"]]
        return found, made["job"]["ranks"], made["job"]["steps"], made["job"]["parallelism"]

    assert main(["convert", str(place), "--out", str(tmp_path / "t"), "--workers", "1"]) == 0
    assert "ops.parquet" in capsys.readouterr().out
    assert told(analysed(tmp_path / "t", capsys)[1]) == told(analysed(place, capsys)[1])
