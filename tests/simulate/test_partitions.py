"""The operations of a large job, written range by range."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from skewscope.commands import main
from skewscope.errors import UsageError
from skewscope.simulate.partitions import write
from skewscope.simulate.scenario import parse
from skewscope.sources import gather

JOB = {"name": "train", "ranks": 16, "steps": 7, "step_s": 1.0, "tp": 2, "pp": 2, "microbatches": 2,
       "checkpoint_steps": 5, "checkpoint_s": 2.0}  # fmt: skip
FAULT = {"condition": "gpu-slow-silent", "shape": "steady", "severity": 0.5, "onset": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder, write(parse({"jobs": [JOB], "faults": [FAULT]}, "slow"), folder, seed=1, steps_per_part=3)


def test_files_hold_their_steps_one_row_group_each(made):
    folder, told = made
    for table in ("ops", "collectives", "steps"):
        paths = sorted(folder.glob(f"{table}.*.parquet"))
        assert [path.name.split(".")[1] for path in paths] == [
            "steps-000000-000002", "steps-000003-000005", "steps-000006-000006",
        ]  # fmt: skip
        assert sum(pq.read_metadata(path).num_rows for path in paths) == told["rows"][table]
        about = pq.read_metadata(paths[1])
        place = about.schema.to_arrow_schema().names.index("step")
        stats = [about.row_group(group).column(place).statistics for group in range(about.num_row_groups)]
        assert [(one.min, one.max) for one in stats] == [(3, 3), (4, 4), (5, 5)]
    assert told["rows"]["steps"] == 7 * 16 and told["rows"]["ops"] == 7 * 16 * 10 + 16  # and one checkpoint


def test_nobody_leaves_a_call_before_all_have_come(made):
    calls = pd.concat(pd.read_parquet(path) for path in sorted(made[0].glob("collectives.*")))
    for _, part in calls.groupby(["group", "op_class", "seq"], observed=True):
        assert len(part) == part["group_size"].iloc[0]
        clock_ns = 1_000_000_000  # hosts have clocks of their own
        assert part["end_ns"].min() >= part["ready_ns"].max() - clock_ns
    sends = calls[calls["op"] == "send"]
    assert (sends["group"].astype(str) == "p2p:" + sends["rank"].astype(str) + "-" + sends["peer"].astype(str)).all()


def test_a_rank_does_one_thing_after_the_other(made):
    ops = pd.concat(pd.read_parquet(path) for path in sorted(made[0].glob("ops.*")))
    for _, part in ops.groupby("rank"):
        part = part.sort_values("start_ns")
        assert (part["start_ns"].to_numpy()[1:] >= part["end_ns"].to_numpy()[:-1]).all()
    assert set(ops["op"].unique()) == {"data", "kernel", "checkpoint"}


def test_the_slow_rank_computes_longer_and_the_truth_names_it(made):
    folder, told = made
    fault = told["faults"][0]
    ops = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("ops.*")))
    kernels = ops[ops["op"] == "kernel"]
    work = (kernels["end_ns"] - kernels["start_ns"]).groupby(kernels["rank"]).sum()
    assert [int(work.idxmax())] == fault["ranks"]
    assert 0.2 < fault["lost_s_per_step"] < 0.6 and fault["onset_step"] == 0
    assert json.loads((folder / "truth.json").read_text()) == told


def test_any_reader_finds_one_job(made):
    recording = gather([made[0]], workers=1)
    assert recording.world_size == 16 and recording.parallelism["pp"] == 2
    assert len(recording.tables["steps"]) == 7 * 16
    assert all(item.status == "ok" for item in recording.inputs)


def test_the_same_seed_gives_the_same_files(made, tmp_path):
    write(parse({"jobs": [JOB], "faults": [FAULT]}, "slow"), tmp_path, seed=1, steps_per_part=3)
    for path in made[0].glob("*.steps-000003-000005.parquet"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_cutting_changes_nothing(made, tmp_path):
    write(parse({"jobs": [JOB], "faults": [FAULT]}, "slow"), tmp_path, seed=1, steps_per_part=100)
    whole = pd.read_parquet(tmp_path / "ops.steps-000000-000006.parquet")
    cut = pd.concat([pd.read_parquet(path) for path in sorted(made[0].glob("ops.*"))], ignore_index=True)
    assert np.array_equal(whole["end_ns"], cut["end_ns"]) and np.array_equal(whole["rank"], cut["rank"])


def test_what_cannot_be_laid_out_is_refused(tmp_path):
    with pytest.raises(UsageError, match="dp, tp and pp only"):
        write(parse({"jobs": [{**JOB, "ep": 2}]}, "moe"), tmp_path)


def test_the_command_writes_them(tmp_path, capsys):
    words = ["--ranks", "8", "--steps", "4", "--operations", "2", "--out", str(tmp_path)]
    assert main(["simulate", "healthy-training", *words]) == 0
    assert "collectives.steps-000002-000003.parquet" in capsys.readouterr().out
