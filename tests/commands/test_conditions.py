import json

import pytest

from skewscope.catalogue import rooms
from skewscope.commands import main
from skewscope.commands.conditions import readme, yaml
from skewscope.contracts import Rule


def test_the_list_has_every_condition(capsys):
    assert main(["conditions", "--json"]) == 0
    assert {one["id"] for one in json.loads(capsys.readouterr().out)} == {room.id for room in rooms("detectors")}
    assert main(["conditions"]) == 0
    assert main(["conditions", "--readme"]) == 0
    assert readme() in capsys.readouterr().out


@pytest.mark.parametrize("room", rooms("detectors"), ids=lambda room: room.id)
def test_every_condition_has_a_page(room, capsys):
    assert main(["conditions", room.id]) == 0
    assert room.page().strip().splitlines()[0] in capsys.readouterr().out
    assert main(["conditions", room.id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == room.id and found["category"] and found["needs"]


def test_a_rule_becomes_yaml_that_text_cannot_break():
    made = yaml(Rule("SkewscopeX", 'a > 0.1 and b == "x"', 300, "S2", "line\nbreak", "{{ $labels.rank }}: slow"))
    assert made.count("\n") == 7
    assert '  expr: "a > 0.1 and b == \\"x\\""' in made and "  for: 300s" in made
