"""Console logs of trainers: Megatron's iterations and savings, verl's phases."""

import json

import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.megatron_log import MegatronLog
from skewscope.sources.rl_phase_log import RlPhaseLog

MEGATRON = """building GPT model ...
 [2026-01-05 10:00:02] iteration        1/     500 | samples:  512 | elapsed time per iteration (ms): 2000.0 |
 [2026-01-05 10:00:04] iteration        2/     500 | samples: 1024 | elapsed time per iteration (ms): 1500.0 |
(min, max) time across ranks (ms):
    save-checkpoint ................................: (4361.61, 4500.00)
  successfully saved checkpoint from iteration 2 to /ckpt
 [2026-01-05 10:00:12] iteration        3/     500 | samples: 1536 | elapsed time per iteration (ms): 1500.0 |
Saved checkpoint to /ckpt in 2.5 seconds
"""
VERL = (
    "(TaskRunner pid=9) step:{step} - actor/lr:1e-06 - timing_s/gen:{gen} - timing_s/update_actor:9.5 - "
    "timing_s/save_checkpoint:np.float64(2.5) - timing_s/step:{whole} - perf/throughput:3\n"
)


def steps(source, path):
    reading = source.read(path)
    rows = frame(*reading.batches[0])
    length_s = (rows["end_ns"] - rows["start_ns"]) / 1e9
    return [(int(step), str(phase), round(float(took), 3))
            for step, phase, took in zip(rows["step"], rows["phase"], length_s, strict=True)]  # fmt: skip


def test_iterations_of_megatron_and_what_they_saved(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(MEGATRON)
    assert MegatronLog().sniff(MEGATRON.encode(), "") > 0.8 and not RlPhaseLog().sniff(MEGATRON.encode(), "")
    told = steps(MegatronLog(), path)
    assert [one for one in told if one[1] == "step"] == [(1, "step", 2.0), (2, "step", 6.0), (3, "step", 4.0)]
    rows = frame(*MegatronLog().read(path).batches[0])
    assert rows["start_ns"].min() == 1767607200 * 10**9
    assert [one for one in told if one[1] == "checkpoint" and one[2]] == [
        (2, "checkpoint", 4.5),
        (3, "checkpoint", 2.5),
    ]


def test_iterations_without_a_time_follow_each_other(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(line.partition("]")[2] + "\n" for line in MEGATRON.splitlines() if "iteration  " in line))
    assert [one for one in steps(MegatronLog(), path) if one[1] == "step"] == [
        (1, "step", 2.0), (2, "step", 1.5), (3, "step", 1.5),
    ]  # fmt: skip


def test_phases_of_verl_on_the_console_and_as_json(tmp_path):
    path = tmp_path / "verl.log"
    text = "noise\n" + VERL.format(step=1, gen=20.5, whole=40.0) + VERL.format(step=2, gen=30.5, whole=50.0)
    path.write_text(text)
    assert RlPhaseLog().sniff(text.encode(), "") > 0.9
    told = steps(RlPhaseLog(), path)
    assert (1, "step", 40.0) in told and (2, "step", 50.0) in told and (1, "checkpoint", 2.5) in told
    assert sum(took for step, phase, took in told if (step, phase) == (2, "other")) == pytest.approx(40.0)
    timing = {"timing_s/gen": 20.5, "timing_s/update_actor": 9.5, "timing_s/save_checkpoint": 2.5}
    line = {"step": 1, "data": timing | {"timing_s/step": 40.0, "critic/score": 1}}
    path.write_text(json.dumps(line) + "\n{torn\n")
    assert set(steps(RlPhaseLog(), path)) == {one for one in told if one[0] == 1}


@pytest.mark.parametrize("source", [MegatronLog(), RlPhaseLog()])
def test_a_log_without_steps_is_unreadable(tmp_path, source):
    path = tmp_path / "x.log"
    path.write_text("step:1 - timing_s/gen:3\niteration 1/ 2 | elapsed time per iteration\n")
    assert source.sniff(path.read_bytes(), "") == 0.0
    with pytest.raises(Unreadable):
        source.read(path)


def test_they_are_recordings(tmp_path):
    (tmp_path / "train.log").write_text(MEGATRON)
    assert len(gather([tmp_path], workers=1).tables["steps"]) >= 3
