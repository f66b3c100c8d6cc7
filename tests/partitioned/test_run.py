"""A recording in parts gives what the whole gives, in any order, and loses no more than what is lost."""

import json
import os
import random
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from skewscope.analysis import analyze as analyze_whole
from skewscope.commands import main
from skewscope.commands.analyze import report_of
from skewscope.errors import NothingReadable
from skewscope.frames import frame
from skewscope.partitioned import _layout, _run, analyze, layout
from skewscope.partitioned._digest import _telling
from skewscope.sources import gather

ROOT = Path(__file__).parents[2]


FEW = ("coll-late-rank", "comm-exposed", "step-spike")


def parts(folder, part_rows=3000, only=FEW, **more):
    return analyze(layout([folder], 0), workers=1, part_rows=part_rows, only=only, **more)


def text(analysis) -> str:
    return json.dumps(report_of(analysis))


def named(report) -> set[tuple[str, ...]]:
    return {(one["condition"], one["subject"]["id"], one["role"], one["severity"]) for one in report["findings"]}


def same(whole, cut, near):
    """Assert that two reports find the same, at the same price but for `near`."""
    assert named(whole) == named(cut) and whole["findings"]
    price = {(one["condition"], one["subject"]["id"]): one for one in whole["findings"]}
    for one in cut["findings"]:
        other = price[one["condition"], one["subject"]["id"]]
        assert one["cost"]["seconds_per_step"] == pytest.approx(other["cost"]["seconds_per_step"], rel=near)
        assert one["confidence"] == pytest.approx(other["confidence"], abs=0.01)
        assert one["window"] == other["window"]
    assert cut["job"] == whole["job"]
    assert cut["summary"]["slowdown"] == pytest.approx(whole["summary"]["slowdown"], rel=5 * near)
    assert cut["summary"]["step_time_s"] == pytest.approx(whole["summary"]["step_time_s"])
    assert cut["inputs"] == whole["inputs"]


@pytest.fixture(scope="module")
def whole(job):
    """Return the report of the job that is read whole."""
    return report_of(analyze_whole(gather([job[0]], workers=1)))


@pytest.mark.parametrize("part_rows", [1300])
def test_parts_find_what_the_whole_finds(job, whole, part_rows):
    folder, truth = job
    cut = report_of(parts(folder, part_rows, only=()))
    same(whole, cut, 1e-3)
    slow = truth["faults"][0]["ranks"][0]
    assert [one["subject"]["rank"] for one in cut["findings"] if one["condition"] == "coll-late-rank"] == [slow]
    assert cut["steps"] == whole["steps"] and len(cut["collectives"]) == len(whole["collectives"])


@pytest.mark.parametrize("sample", ["compute-slow", "pipeline-imbalance"])
def test_a_real_recording_in_parts_of_one_step(sample, tmp_path):
    traces = sorted((ROOT / "sample_data" / sample).glob("*.trace.json.gz"))
    recording = gather(traces, workers=1)
    for name, rows in recording.tables.items():
        if len(rows):
            rows.to_parquet(tmp_path / f"{name}.parquet", row_group_size=200, index=False)
    asked = (*FEW, "pp-stage-imbalance", "pp-bubble-stall", "tp-straggler", "coll-slow-group", "data-loader-stall")
    whole = report_of(analyze_whole(gather([tmp_path], workers=1), only=asked))
    same(whole, report_of(parts(tmp_path, 1, only=asked)), 0.02)


def test_the_order_of_completion_does_not_matter(job, monkeypatch):
    straight = text(parts(job[0]))
    mapped = _run.mapped

    def shuffled(function, tasks, *more):
        with mapped(function, tasks, *more) as results:
            done = list(results)
        random.Random(5).shuffle(done)
        return nullcontext(done)

    monkeypatch.setattr(_run, "mapped", shuffled)
    assert text(parts(job[0])) == straight
    monkeypatch.setattr(_run, "mapped", mapped)
    assert text(analyze(layout([job[0]], 0), workers=2, part_rows=3000, only=FEW)) == straight


def test_a_large_recording_is_thinned_and_says_so(job, monkeypatch):
    whole = report_of(parts(job[0]))
    monkeypatch.setattr(_run, "KEPT_ROWS", {"collectives": 2000, "ops": 1000, "steps": 300})
    monkeypatch.setattr(_run, "NARROW_ROWS", 100)
    analysis = parts(job[0])
    cut = report_of(analysis)
    assert named(whole) == named(cut)
    assert cut["job"] == whole["job"]
    assert 300 < len(analysis.tables["arrivals"]) < 4000 < len(gather([job[0]]).tables["collectives"])
    assert len(analysis.tables["rank_steps"]) == 32 * 36
    assert any("large recording" in line for line in cut["warnings"])


def test_calls_that_tell_of_a_standstill_are_kept():
    calls = {
        "job": "job", "step": [0, 0, 1, 1, 2, 2, 3, 3], "rank": [0, 1] * 4, "group": "0",
        "seq": [0, 0, 1, 1, 2, 2, 3, 3],
        "op": ["all_reduce"] * 2 + ["all_reduce", "broadcast"] + ["all_reduce"] * 4, "op_class": "", "blocking": True,
        "ready_ns": range(1000, 9000, 1000), "state": ["completed"] * 4 + ["started", "completed"] + ["completed"] * 2,
    }  # fmt: skip
    assert _telling(frame("collectives", calls)).tolist() == [False] * 2 + [True] * 3 + [False] * 3


def damage(path: Path) -> None:
    """Overwrite all pages of a Parquet file and leave what stands at its end."""
    content = bytearray(path.read_bytes())
    size = len(content) - 8 - int.from_bytes(content[-8:-4], "little") - 4
    content[4 : 4 + size] = bytes(size)
    path.write_bytes(content)


def damaged(job, tmp_path) -> tuple[Path, Path]:
    """Return a copy of the job in which the calls of steps 12 to 17 cannot be unpacked, and that file."""
    folder = tmp_path / "copy"
    shutil.copytree(job[0], folder)
    path = folder / "collectives.steps-000012-000017.parquet"
    damage(path)
    return folder, path


def test_a_part_that_cannot_be_read_costs_itself_only(job, tmp_path, monkeypatch, capsys):
    folder, path = damaged(job, tmp_path)
    report = report_of(parts(folder, 6 * 700))
    status = {Path(one["path"]).name: one["status"] for one in report["inputs"]}
    assert status.pop(path.name) == "unreadable"
    assert {name for name, told in status.items() if told == "partial"} == {
        f"{table}.steps-000012-000017.parquet" for table in ("ops", "steps")
    }
    assert any("are left out" in line and path.name in line for line in report["warnings"])
    assert report["job"]["steps"] == 30
    assert {one[0] for one in named(report)} >= {"coll-late-rank"}
    monkeypatch.setattr(_layout, "LIMIT_ROWS", 100)
    monkeypatch.setattr(_layout, "PART_ROWS", 4200)
    words = ["--workers", "1", "--only", "coll-late-rank", "--json", str(tmp_path / "r.json")]
    assert main(["analyze", str(folder), *words]) == 0
    assert "coll-late-rank" in capsys.readouterr().out


def test_a_file_without_its_end_costs_its_steps_only(job, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(job[0], folder)
    path = folder / "collectives.steps-000012-000017.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    report = report_of(parts(folder, 6 * 700))
    assert {Path(one["path"]).name for one in report["inputs"] if one["status"] == "unreadable"} == {path.name}
    assert report["job"]["steps"] == 30
    assert any("no collectives of these steps can be read" in line for line in report["warnings"])


def test_nothing_readable_tells_every_reason(job, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(job[0], folder)
    for path in folder.glob("collectives.*"):
        damage(path)
    with pytest.raises(NothingReadable, match="damaged table"):
        parts(folder)


def dies(task):
    """Die at the second range of steps."""
    if task.place == 1:
        os._exit(9)
    return _run_digest(task)


_run_digest = _run.digest


def test_a_process_that_dies_costs_its_part_only(job, monkeypatch):
    monkeypatch.setattr(_run, "digest", dies)
    report = report_of(analyze(layout([job[0]], 0), workers=2, part_rows=6 * 700, only=FEW))
    assert any("are left out: the process that worked on it died" in line for line in report["warnings"])
    assert {one["status"] for one in report["inputs"]} >= {"ok", "partial"} or "unreadable" in str(report["inputs"])
    assert {one[0] for one in named(report)} >= {"coll-late-rank"}


def test_a_window_of_steps_reads_these_alone(job, monkeypatch, tmp_path):
    report = report_of(parts(job[0], steps=(20, 29)))
    assert report["job"]["steps"] == 10
    assert {one["window"]["first_step"] for one in report["findings"]} == {20}
    monkeypatch.setattr(_layout, "LIMIT_ROWS", 100)
    place = tmp_path / "r.json"
    words = ["analyze", str(job[0]), "--workers", "1", "--only", "coll-late-rank", "--json", str(place), "-q"]
    assert main([*words, "--window", "20:29"]) == 0
    assert json.loads(place.read_text())["job"]["steps"] == 10
    assert main([*words, "--window", "2025-06-15T15:00:00Z:"]) == 2
    with pytest.raises(NothingReadable, match="no step"):
        parts(job[0], steps=(500, 600))
