import gzip
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import concat, frame
from skewscope.sources.step_log import StepLog

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

DATA = Path(__file__).parents[2] / "../shared/data/real-jobs"
T0 = 1_700_000_000_000_000_000


def read(folder, text, name="steps_rank3.jsonl"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return StepLog().read(path)


def rows(reading, table="steps"):
    return concat(table, [frame(name, columns) for name, columns in reading.batches if name == table])


def line(step, **more):
    return json.dumps(
        {"step": step, "rank": 3, "host": "n1", "t_start_ns": T0 + step * 10**8, "step_ms": 100.0, **more}
    )


def test_phases_are_laid_end_to_end(tmp_path):
    reading = read(tmp_path, line(0, data_loading_ms=10.0, forward_ms=30.0, metrics_ms=5, tokens=64))
    found = rows(reading)
    assert (reading.rank, reading.node, reading.events, reading.status) == (3, "n1", 1, "ok")
    assert found["phase"].tolist() == ["step", "data", "forward", "other"]
    assert (found["end_ns"] - found["start_ns"]).tolist() == [10**8, 10**7, 3 * 10**7, 5 * 10**6]
    assert found["start_ns"].tolist() == [T0, T0, T0 + 10**7, T0 + 4 * 10**7]
    assert found["work_tokens"].tolist() == [64] * 4


@pytest.mark.parametrize(
    "start, unit", [(1_700_000_000, "s"), (1_700_000_000_000, "ms"), (1_700_000_000_000_000, "us")]
)
def test_time_of_day_is_judged_by_its_size(tmp_path, start, unit):
    reading = read(tmp_path, json.dumps({"iteration": 7, "time": start, "iter_time_s": 0.5}))
    found = rows(reading)
    assert found["start_ns"].tolist() == [T0] and found["end_ns"].tolist() == [T0 + 5 * 10**8]


def test_torn_last_line_is_partial_with_its_number(tmp_path):
    reading = read(tmp_path, line(0) + "\n" + line(1) + "\n" + line(2)[:30])
    assert (reading.status, reading.events) == ("partial", 2) and "line 3" in reading.error


def test_useless_lengths_are_dropped_and_counted(tmp_path):
    bad = ["NaN", "null", "0", "-5", '"x"', "1e300", "Infinity"]
    text = "\n".join(f'{{"step": {step}, "step_ms": {value}}}' for step, value in enumerate(bad)) + "\n" + line(9)
    reading = read(tmp_path, text)
    assert rows(reading)["step"].tolist() == [9]
    assert any(warning.startswith("7 steps") for warning in reading.warnings)


def test_nothing_but_zero_lengths_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="2 steps are left out"):
        read(tmp_path, '{"step": 0, "step_ms": 0}\n{"step": 1, "step_ms": 0}')


def test_disorder_is_sorted_and_doubles_keep_the_later(tmp_path):
    reading = read(tmp_path, "\n".join([line(2), line(1), line(1, step_ms=50.0)]))
    found = rows(reading)
    assert found["step"].tolist() == [1, 2]
    assert (found["end_ns"] - found["start_ns"]).tolist() == [5 * 10**7, 10**8]
    assert len(reading.warnings) == 2


def test_csv_and_many_ranks_in_one_file(tmp_path):
    text = (
        "global_step,rank,hostname,timestamp,step_time_s,fwd_s\n"
        + "\n".join(f"{step},{rank},n{rank},{1_700_000_000 + step},1.0,0.25" for step in range(3) for rank in range(2))
        + "\n"
    )
    reading = read(tmp_path, text, "steps.csv")
    found = rows(reading)
    assert reading.rank == -1 and reading.job["hosts"] == {0: "n0", 1: "n1"}
    whole = found[found["phase"] == "step"]
    assert whole["rank"].tolist() == [0, 0, 0, 1, 1, 1] and whole["step"].tolist() == [0, 1, 2, 0, 1, 2]
    assert found["start_ns"].min() == T0


def test_without_times_of_day_each_rank_starts_at_zero(tmp_path):
    reading = read(tmp_path, "step,rank,step_ms\n0,0,5\n1,0,5\n0,1,7\n1,1,7\n", "s.csv")
    assert rows(reading)["start_ns"].tolist() == [0, 5 * 10**6, 0, 7 * 10**6]
    assert any("no times of day" in warning for warning in reading.warnings)


def test_network_counters_become_samples(tmp_path):
    reading = read(tmp_path, line(0, rx_bytes=5, tx_bytes=6))
    found = rows(reading, "samples")
    assert found["metric"].tolist() == [
        "skewscope_host_network_received_bytes",
        "skewscope_host_network_transmitted_bytes",
    ]
    assert found["value"].tolist() == [5.0, 6.0] and found["t_ns"].tolist() == [T0 + 10**8] * 2


def test_cut_gzip_is_partial(tmp_path):
    text = "\n".join(line(step, loss=step * 0.37) for step in range(2000)).encode()
    reading = read(tmp_path, gzip.compress(text)[:-3000])
    assert reading.status == "partial" and 0 < reading.events < 2000


@pytest.mark.parametrize("text", ["", "\n\n", "{}", "[]", "step,step_ms\n", '{"step": 1}', "\x00\xff" * 50])
def test_nothing_usable_is_unreadable(tmp_path, text):
    with pytest.raises(Unreadable):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "head",
    [b"", b"\x89PNG\r\n", b'{"world_size": 4}', b'{"step": 1, "rank": 0, "num_tokens": 3}', b"# title\n", b"a,b\n1,2"],
)
def test_sniff_refuses_others(head):
    assert StepLog().sniff(head, "x") == 0.0


def test_real_log():
    path = DATA / "slow-link/steps_rank1.jsonl"
    if not path.exists():
        pytest.skip("shared data is not here")
    found = rows(StepLog().read(path))
    whole = found[found["phase"] == "step"]
    assert len(whole) == 34 and np.median(whole["end_ns"] - whole["start_ns"]) == pytest.approx(243.5e6, rel=0.02)


PHASES = {"data_us": "data", "forward_us": "forward", "bwd_us": "backward", "opt_us": "optimizer"}
lengths_us = st.dictionaries(st.sampled_from(list(PHASES)), st.integers(1, 900))
log_lines = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 99)),
    st.tuples(st.integers(0, 10**15), st.integers(1, 10**6), st.none() | st.integers(0, 10**9), lengths_us), min_size=1,
    max_size=6,
)  # fmt: skip
hosts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)


def told_rows(logged):
    """Return the rows of `steps` that some lines tell: phases end to end, none beyond the step's end."""
    found = []
    for (rank, step), (start_ns, length_us, tokens, phases) in logged.items():
        known = -1 if tokens is None else tokens
        found.append((rank, step, "step", T0 + start_ns, T0 + start_ns + length_us * 1000, known))
        at_us = 0
        for column, took_us in phases.items():
            begin, at_us = at_us, min(at_us + took_us, length_us)
            if at_us > begin:
                ends = T0 + start_ns + begin * 1000, T0 + start_ns + at_us * 1000
                found.append((rank, step, PHASES[column], *ends, known))
    return sorted(found)


@drawn
@given(log_lines, hosts, st.randoms(use_true_random=False))
@example({(0, 0): (0, 9, None, {"data_us": 1}), (0, 1): (9, 9, None, {"forward_us": 2})}, "", Random(0))
@example({(0, 0): (0, 9, None, {"data_us": 1}), (0, 1): (9, 9, None, {"data_us": 1, "bwd_us": 2})}, "", Random(0))
def test_json_lines_of_any_phases_and_order_hold_what_was_written(tmp_path, logged, host, chance):
    lines = []
    for (rank, step), (start_ns, length_us, tokens, phases) in logged.items():
        told = [("step", step), ("rank", rank), ("host", host), ("ts_ns", T0 + start_ns), ("step_us", length_us),
                *([] if tokens is None else [("tokens", tokens)]), ("loss", 0.5)]  # fmt: skip
        chance.shuffle(told)
        lines.append(json.dumps(dict(told) | phases, ensure_ascii=chance.random() < 0.5))
    chance.shuffle(lines)
    reading = read(tmp_path, "\n".join(lines), "steps.jsonl")
    found = rows(reading)[["rank", "step", "phase", "start_ns", "end_ns", "work_tokens"]]
    assert sorted(found.itertuples(index=False, name=None)) == told_rows(logged)
    one = len({rank for rank, _ in logged}) == 1
    assert (reading.rank, reading.node) == ((next(iter(logged))[0], host) if one else (-1, ""))
    assert reading.status == "ok" and reading.events == len(logged)


@drawn
@given(log_lines, st.permutations(list(PHASES)))
def test_csv_holds_what_was_written(tmp_path, logged, columns):
    head = ["tokens", "rank", "step", "iter_us", "ts_ns", *columns]
    ordered = {}
    lines = [",".join(head)]
    for (rank, step), (start_ns, length_us, tokens, phases) in logged.items():
        cells = [tokens, rank, step, length_us, T0 + start_ns, *(phases.get(column) for column in columns)]
        lines.append(",".join("" if cell is None else str(cell) for cell in cells))
        kept = {column: phases[column] for column in columns if column in phases}
        ordered[rank, step] = (start_ns, length_us, tokens, kept)
    found = rows(read(tmp_path, "\n".join(lines) + "\n", "steps.csv"))
    found = found[["rank", "step", "phase", "start_ns", "end_ns", "work_tokens"]]
    assert sorted(found.itertuples(index=False, name=None)) == told_rows(ordered)


def test_a_csv_line_without_an_end_is_left_out(tmp_path):
    text = "step,step_ms\n0,1500\n1,1500"
    for cut in (text, text[:-1], text[:-2]):
        reading = read(tmp_path, cut, "steps.csv")
        assert rows(reading)["step"].tolist() == [0] and reading.status == "partial"
