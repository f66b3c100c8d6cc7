"""What every view owes, light or deep."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from skewscope import tables as schema
from skewscope.catalogue import load, rooms
from skewscope.errors import NoData
from skewscope.frames import all_tables
from skewscope.reports.view_document import UNITS, cell, heading, records
from skewscope.viewing import DETAILED, deep, question

VIEWS = rooms("views")
TRACES = "../shared/data/"
RECORDINGS = (
    ("sample_data/compute-slow", False),
    ("sample_data/bytedance-whatif", False),
    ("sample_data/pipeline-imbalance", False),
    (f"{TRACES}derived-ncclargs-multirank/4rank-straggler", True),
    (f"{TRACES}tracelens-kineto/h100__Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz", True),
    (f"{TRACES}hta-kineto-tests/negative_queue_length_values_check__rank0.json.gz", True),
)
KINDS = {"bars", "stacked", "lines", "steps", "heatmap", "spans", "points"}
ORDINALS = {
    "rank", "step", "stream", "stage", "microbatch", "call", "seq", "group_size", "stride", "thread", "device", "place",
    "layer", "node", "depth", "parent", "order", "number", "id",
}  # fmt: skip


@pytest.fixture(scope="module", params=VIEWS, ids=lambda room: room.id)
def room(request):
    return request.param


@pytest.fixture(scope="module")
def answered(room, tables):
    """Return (view, tables, answer) for the first recording that the view has an answer for."""
    missing = ""
    for path, detail in RECORDINGS:
        if deep(room) and not detail:
            continue
        try:
            given = tables(path, detail=detail)
        except pytest.skip.Exception:
            missing = "no shared recordings"
            continue
        try:
            return room.load(), given, room.load().show(given)
        except NoData as nothing:
            missing = missing or str(nothing)
    if missing == "no shared recordings":
        pytest.skip(missing)
    pytest.fail(f"no recording answers it: {missing}")


def test_a_view_is_a_question(room):
    page = room.page().strip().splitlines()
    assert question(room).endswith("?") and len(question(room)) <= 120
    assert len(page) == 1 or not page[1].strip()
    assert dataclasses.is_dataclass(room.kind()) and room.kind().__dataclass_params__.frozen
    assert set(room.kind().needs) <= set(schema.names())
    for field in dataclasses.fields(room.kind()):
        assert isinstance(field.default, int | float | str | bool), f"{field.name} cannot be given on the command line"


def test_an_empty_recording_is_no_data(room):
    with pytest.raises(NoData, match="."):
        room.load().show(all_tables({}))


def test_a_needed_table_that_is_empty_is_no_data(room, answered):
    view, given, _ = answered
    # Light views may answer from the tables of a detailed reading, too.
    light = {
        name: rows.iloc[:0] if name in DETAILED and name not in view.needs else rows for name, rows in given.items()
    }
    for name in view.needs:
        with pytest.raises(NoData, match="."):
            view.show({**light, name: light[name].iloc[:0]})


def test_a_view_changes_nothing_and_answers_the_same_twice(answered):
    view, given, shown = answered
    seen = {name: rows.copy() for name, rows in given.items() if 0 < len(rows) < 20_000}
    again = view.show({name: rows.iloc[:] for name, rows in given.items()})
    for name, rows in seen.items():
        assert rows.equals(given[name]), name
    assert again.said == shown.said and again.notes == shown.notes and list(again.tables) == list(shown.tables)
    for name, rows in shown.tables.items():
        assert rows.equals(again.tables[name]), name


def test_columns_tell_their_units(answered):
    _, _, shown = answered
    for name, rows in shown.tables.items():
        assert rows.columns.is_unique
        for column in rows.columns:
            number = pd.api.types.is_numeric_dtype(rows[column]) and not pd.api.types.is_bool_dtype(rows[column])
            ordinal = column in ORDINALS or column.endswith(("_rank", "_step", "_stream", "_stage", "_id"))
            assert not number or ordinal or column.endswith(UNITS), f"{name}.{column} hides its unit"


def test_an_answer_is_words_tables_and_pictures_of_them(answered):
    _, _, shown = answered
    assert shown.tables and shown.said and len(shown.said) <= 8
    assert all(line.strip().endswith((".", "?", "!")) for line in (*shown.said, *shown.notes))
    for picture in shown.pictures:
        assert picture.kind in KINDS and picture.title
        rows = shown.tables[picture.of]
        assert {name for name in (picture.x, picture.y, picture.colour, *picture.parts) if name} <= set(rows.columns)


def test_every_picture_can_be_drawn(answered, room):
    pytest.importorskip("plotly")
    _, _, shown = answered
    pictures = load("dashboards._view_pictures")
    assert pictures.charts(room.id, question(room), shown)
    for picture in shown.pictures:
        figure, _ = pictures.drawn(picture, shown.tables[picture.of])
        assert (figure is not None and len(figure.data)) or not len(shown.tables[picture.of]), picture.title


def test_every_cell_can_be_told_and_written(answered):
    _, _, shown = answered
    for rows in shown.tables.values():
        assert not any(isinstance(rows[name].dtype, pd.CategoricalDtype) for name in rows.columns)
        for record in records(rows.head(20)):
            assert all(cell(name, value) for name, value in record.items())
        assert all(heading(str(name)) for name in rows.columns)
