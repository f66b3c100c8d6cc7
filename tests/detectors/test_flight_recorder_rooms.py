"""The rooms that read dumps, on real ones: a missing rank in three formats, a chain of waits, healthy jobs."""

import json
from pathlib import Path

import pytest

from skewscope.catalogue import room
from skewscope.frames import all_tables, concat, frame

DATA = Path(__file__).parents[2] / "../shared/data"
ROOMS = ("coll-missing-rank", "coll-hang", "coll-desync")
FORMS = ("gloo-raw", "gloo-raw-json", "nccl-shaped")
JOBS = (
    "healthy-a",
    "compute-slow",
    "dataloader-stall",
    "seqlen-rotating",
    "pipeline-imbalance",
    "slow-link",
    "bad-input",
)

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="no shared data")


def tables_of(paths):
    reader = room("sources", "flight-recorder").load()
    parts = {}
    for path in paths:
        for table, columns in reader.read(path).batches:
            parts.setdefault(table, []).append(frame(table, columns))
    return all_tables({table: concat(table, frames) for table, frames in parts.items()})


def findings(tables):
    return [finding for name in ROOMS for finding in room("detectors", name).load().detect(tables)]


def culprits(tables):
    return [(one.condition, one.subject.id, one.severity) for one in findings(tables) if one.role == "culprit"]


def dumps(scenario, form):
    return sorted((DATA / "local-flight-recorder" / scenario / form).iterdir())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scenario", ["ok", "slow"])
def test_complete_dumps_are_quiet(scenario, form):
    paths = dumps(scenario, form)
    assert findings(tables_of(paths)) == []
    assert findings(tables_of(paths[1:])) == []


@pytest.mark.parametrize("form", FORMS)
def test_the_missing_rank_is_named(form):
    found = findings(tables_of(dumps("missing", form)))
    assert [(one.role, one.subject.rank) for one in found] == [("culprit", 1), ("victim", 0)]
    assert found[0].severity == "S1"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gone", range(4))
def test_one_dump_less(form, gone):
    paths = dumps("missing", form)
    tables = tables_of(paths[:gone] + paths[gone + 1 :])
    if gone == 1:
        found = findings(tables)
        assert [one.role for one in found] == ["context"]
        assert "dump of rank 1 is missing" in found[0].summary
    else:
        assert culprits(tables) == [("coll-missing-rank", "job/rank1", "S1")]


def hang(names="nccl_trace_rank_*"):
    folder = DATA / "real-jobs/hang"
    notes = [json.loads(path.read_text()) for path in sorted(folder.glob("watchdog_rank*"))]
    events = frame("events", {
        "t_ns": [note["dumped_at_ns"] for note in notes], "event": "no-progress",
        "device": [f"rank{note['rank']}" for note in notes],
    })  # fmt: skip
    return sorted(folder.glob(names)), events


@pytest.mark.parametrize("names", ["nccl_trace_rank_*", "fr_rank*"])
def test_the_chain_of_waits_ends_at_rank_3(names):
    paths, events = hang(names)
    found = findings({**tables_of(paths), "events": events})
    assert [(one.role, one.subject.rank) for one in found] == [("culprit", 3), ("victim", 2)]
    assert found[0].lost_once_s == pytest.approx(8.07, abs=0.05)
    assert "number 122 of mesh_tp (group 4), where rank 2 waited first for 8.1 s; 7 of 8 ranks" in found[0].summary
    if names.startswith("nccl"):
        assert "train.py" in found[0].summary


@pytest.mark.parametrize("gone", range(8))
def test_the_chain_with_one_dump_less(gone):
    paths, events = hang()
    found = findings({**tables_of(paths[:gone] + paths[gone + 1 :]), "events": events})
    if gone == 3:
        assert [one.role for one in found] == ["context"]
        assert "dump of rank 3 is missing" in found[0].summary
    else:
        assert [one.subject.rank for one in found if one.role == "culprit"] == [3]


@pytest.mark.parametrize("job", JOBS)
def test_jobs_that_ran_to_their_end_are_quiet(job):
    paths = sorted((DATA / "real-jobs" / job).glob("fr_rank*"))
    assert len(paths) >= 4
    assert findings(tables_of(paths)) == []
