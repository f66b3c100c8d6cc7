import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.eplb_load_stats import EplbLoadStats

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

FIRST, SECOND = [[0, 1, 2, 0], [2, 1, 0, 1]], [[0, 1, 2, 2], [2, 1, 0, 2]]
LOAD = [[5, 2, 3, 4], [1, 2, 3, 4]]


def line(step, load, table, **more):
    ranks = [[sum(row[:2]), sum(row[2:])] for row in load]
    told = {"record_type": "eplb_load_stats", "version": 1, "step": step, "num_ranks": 2, "num_layers": 2,
            "tokens": ranks, "expert_load": load, "p2l_map": table}  # fmt: skip
    return json.dumps(told | more)


def mapping(table):
    told = {"record_type": "eplb_initial_mapping", "version": 1, "num_redundant_experts": 1, "num_slots": 4,
            "initial_global_assignments": {str(3 + at): row for at, row in enumerate(table)}}  # fmt: skip
    return json.dumps(told)


def write(tmp_path, *lines):
    path = tmp_path / "stats.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_each_step_is_folded_by_its_own_map(tmp_path):
    recording = gather([write(tmp_path, line(10, LOAD, FIRST), line(11, LOAD, FIRST), line(12, LOAD, SECOND))])
    (loads,) = of_tables(recording.tables)
    assert loads.counts.tolist() == [[[9, 2, 3], [3, 6, 1]]] * 2 + [[[5, 2, 7], [3, 2, 5]]]
    places = recording.tables["expert_placements"]
    assert sorted(set(places["step"])) == [10, 12] and places["rank"].tolist() == [0, 0, 1, 1] * 4
    assert places[places["step"] == 12]["expert"].tolist() == [0, 1, 2, 2, 2, 1, 0, 2]
    assert any("map of slots changes 1 times" in warning for warning in recording.warnings)


def test_balance_of_ranks_is_worked_out(tmp_path):
    rows = gather([write(tmp_path, line(10, LOAD, FIRST))]).tables["balance_reports"]
    assert rows[["step", "layer", "mean_tokens", "max_tokens"]].values.tolist() == [[10, 0, 7, 7], [10, 1, 5, 7]]
    assert rows["balance_ratio"].tolist() == [1.0, 5 / 7] and set(rows["definition"]) == {"ranks"}


def test_a_map_before_the_lines_names_layers_and_stands_in(tmp_path):
    recording = gather([write(tmp_path, mapping(FIRST), line(5, LOAD, []), line(6, LOAD, FIRST))])
    (loads,) = of_tables(recording.tables)
    assert loads.layers.tolist() == [3, 4] and loads.counts[0].tolist() == [[9, 2, 3], [3, 6, 1]]
    assert sorted(set(recording.tables["expert_placements"]["step"])) == [0]


def test_tokens_counted_once_per_rank_are_told(tmp_path):
    four = [[4 * count for count in row] for row in LOAD]
    recording = gather([write(tmp_path, line(5, four, FIRST, tokens=[[7, 7], [3, 7]]))])
    assert any("(4 times)" in warning and "data-parallel rank" in warning for warning in recording.warnings)


def test_torn_lines_cost_themselves_only(tmp_path):
    path = write(tmp_path, line(1, LOAD, FIRST), line(2, LOAD, FIRST)[:-9], line(3, [[1, 2], [3]], FIRST),
                 line(4, LOAD, [[0]]), line(5, LOAD, FIRST))  # fmt: skip
    reading = EplbLoadStats().read(path)
    assert reading.status == "partial" and reading.error.startswith(
        "3 lines are torn and left out, the first is line 2"
    )
    assert sorted(set(reading.batches[0][1]["step"])) == [1, 5]


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ([mapping(FIRST)], "only a map of slots"), (["{}"], "no line of statistics"),
        ([line(1, [[-1, 2]] * 2, [[0, 1]] * 2)], "cannot be tokens"),
        ([line(1, LOAD, [[0, 1, 2, 99999999]] * 2)], "p2l_map names experts"),
        ([line(-1, LOAD, FIRST)], "even table"), ([line(1, LOAD, FIRST, tokens=[[1, 2]])], "tokens per rank"),
        ([line(1, LOAD, FIRST, expert_load=[[1e308 * 10, 1, 1, 1]] * 2)], "no line of statistics"),
    ],
)  # fmt: skip
def test_what_is_no_statistic_is_refused(tmp_path, lines, match):
    with pytest.raises(Unreadable, match=match):
        EplbLoadStats().read(write(tmp_path, *lines))


def test_tokens_in_empty_slots_are_told(tmp_path):
    recording = gather([write(tmp_path, line(1, LOAD, [[0, 1, 2, -1], [2, 1, 0, -1]]))])
    assert any(
        warning.endswith("8 tokens went to slots that hold no expert: left out") for warning in recording.warnings
    )
    assert np.array_equal(of_tables(recording.tables)[0].counts, [[[5, 2, 3], [3, 2, 1]]])


even = st.lists(st.lists(st.integers(0, 10**6), min_size=4, max_size=4), min_size=2, max_size=2)
slots = st.lists(st.lists(st.integers(-1, 5), min_size=4, max_size=4), min_size=2, max_size=2)


@drawn
@given(st.lists(st.tuples(st.integers(0, 99), even, slots), min_size=1, max_size=4, unique_by=lambda one: one[0]),
       st.booleans())  # fmt: skip
def test_lines_hold_what_was_written(tmp_path, told, backwards):
    """Slots without an expert are left out, so are layers without any token; a map counts once until another comes."""
    lines = [line(step, load, table) for step, load, table in told]
    if backwards:
        lines = [json.dumps(dict(reversed(json.loads(one).items()))) for one in lines]
    reading = EplbLoadStats().read(write(tmp_path, *lines))
    parts = [(name, frame(name, columns)) for name, columns in reading.batches]
    (loads,) = [rows for name, rows in parts if name == "expert_loads"]
    busy = {at for _, load, _ in told for at, row in enumerate(load) if any(row)} or {0, 1}
    columns = ["step", "layer", "slot", "expert", "routed_tokens"]
    assert sorted(loads[columns].itertuples(index=False, name=None)) == sorted(
        (step, layer, slot, table[layer][slot], tokens) for step, load, table in told for layer, row in enumerate(load)
        for slot, tokens in enumerate(row) if layer in busy and table[layer][slot] >= 0
    )  # fmt: skip
    maps = [told[at] for at in range(len(told)) if not at or told[at][2] != told[at - 1][2]]
    found = [list(rows[["step", "layer", "slot", "expert", "rank"]].itertuples(index=False, name=None))
             for name, rows in parts if name == "expert_placements"]  # fmt: skip
    assert found == [[(step, layer, slot, table[layer][slot], slot // 2) for layer in range(2) for slot in range(4)]
                     for step, _, table in maps]  # fmt: skip
    (balance,) = [rows for name, rows in parts if name == "balance_reports"]
    assert balance["max_tokens"].tolist() == [max(sum(row[:2]), sum(row[2:])) for _, load, _ in told for row in load]
