import jsonschema
import pytest

from skewscope import tables
from skewscope.errors import UsageError
from skewscope.frames import frame
from skewscope.plans import plain
from skewscope.reports.json_schema import names, schema


@pytest.mark.parametrize("name", names())
def test_schemas_are_valid(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_every_table_has_one():
    assert set(tables.names()) <= set(names())


def test_rows_of_a_table_fit_its_schema():
    rows = frame("steps", {"job": "j", "step": [1], "rank": [0], "phase": "step", "start_ns": [1], "end_ns": [2]})
    jsonschema.validate(plain(rows.to_dict("records")), schema("steps"))


def test_unknown_name_lists_names():
    with pytest.raises(UsageError, match="did you mean steps.*collectives"):
        schema("step")
