"""Console logs of trainers: Megatron's iterations and savings, verl's phases."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.megatron_log import MegatronLog
from skewscope.sources.rl_phase_log import RlPhaseLog

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

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


SAVES_MS = st.none() | st.integers(1, 9000)


@drawn
@given(
    st.dictionaries(st.integers(0, 500), st.tuples(st.integers(1, 60_000), SAVES_MS, st.booleans()), min_size=1,
                    max_size=5), st.sampled_from(["ms", "s"]),
)  # fmt: skip
def test_iterations_of_megatron_hold_what_was_written(tmp_path, told, unit):
    """An iteration ends at its line; what is saved behind it makes it longer."""
    end_s, lines, want = 1_767_607_200, [], []
    for step, (took_ms, saved_ms, as_timer) in sorted(told.items()):
        end_s += 100
        length = took_ms if unit == "ms" else took_ms / 1000
        when = datetime.fromtimestamp(end_s, UTC)
        lines.append(f" [{when:%Y-%m-%d %H:%M:%S}] iteration {step:8d}/ 500 | lm loss\u2028: 2.0E+00 | "
                     f"elapsed time per iteration ({unit}): {length} | lr: 1 |")  # fmt: skip
        if saved_ms:
            lines.append(f"    save-checkpoint ....: ({saved_ms / 2}, {saved_ms}.0)" if as_timer else
                         f"saved checkpoint to /\u00fc in {saved_ms / 1000} s")  # fmt: skip
        begin, step_ns = end_s * 10**9 - took_ms * 10**6, (took_ms + (saved_ms or 0)) * 10**6
        want.append((step, "step", begin, begin + step_ns))
        if saved_ms:
            want.append((step, "checkpoint", begin, begin + saved_ms * 10**6))
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines) + "\n")
    found = frame(*MegatronLog().read(path).batches[0])[["step", "phase", "start_ns", "end_ns"]]
    assert sorted(about(found)) == sorted(want)


def about(rows):
    """Return rows with their times to a microsecond: seconds since 1970 as a float know no more."""
    for *names, start_ns, end_ns in rows.itertuples(index=False, name=None):
        yield (*names, round(start_ns, -3), round(end_ns, -3))


RL = {"gen": "other", "ref": "forward", "update_actor": "other", "testing": "eval", "save_checkpoint": "checkpoint"}


@drawn
@given(
    st.dictionaries(st.integers(0, 99), st.dictionaries(st.sampled_from(list(RL)), st.integers(1, 900)), min_size=1,
                    max_size=5), st.sampled_from(["console", "data", "flat"]),
)  # fmt: skip
@example({1: {"gen": 5}, 2: {"gen": 5, "testing": 7}}, "console")
def test_a_step_has_all_phases_that_it_tells_whatever_the_others_have(tmp_path, told, form):
    lines, want = [], Counter()
    for step, phases in told.items():
        tenths = {**phases, "step": sum(phases.values()) + 1}
        seconds = {f"timing_s/{name}": took / 10 for name, took in tenths.items()}
        lines.append({
            "console": lambda step=step, seconds=seconds: " - ".join(
                [f"(Runner) step:{step}", "actor/lr:1e-06", *(f"{name}:{value}" for name, value in seconds.items())]),
            "data": lambda step=step, seconds=seconds: json.dumps({"data": {**seconds, "\u00fc": None}, "step": step}),
            "flat": lambda step=step, seconds=seconds: json.dumps({**seconds, "step": step}),
        }[form]())  # fmt: skip
        want.update((step, RL.get(name, name), took * 100) for name, took in tenths.items())
    path = tmp_path / "verl.log"
    path.write_text("\n".join(lines) + "\n")
    rows = frame(*RlPhaseLog().read(path).batches[0])
    length_ms = (rows["end_ns"] - rows["start_ns"]) // 10**6
    assert Counter(zip(rows["step"], rows["phase"], length_ms, strict=True)) == want
