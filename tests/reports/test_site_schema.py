"""What goes between skewscope and a site's own programs is as its schemas say."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from skewscope.acts import Request
from skewscope.actuators._advice import answer
from skewscope.actuators._fleet_document import fleet
from skewscope.actuators.engine import Engine
from skewscope.actuators.exec import Exec
from skewscope.actuators.file import File
from skewscope.reports.site_schema import SITE

NASTY = 'rank 7 of "job\'; rm -rf $HOME"\nis\tslow `now` \\ ünï'
FLEET = {
    "schema": "skewscope.fleet/1", "complete": True, "jobs": [{"id": "7", "nodes": ["n1"], "may_restart": True}],
    "nodes": [{"name": "n1", "schedulable": False, "owner": "", "reason": "skewscope:c0ffee slow", "jobs": ["7"]}],
}  # fmt: skip


def fits(name: str, told: object) -> None:
    jsonschema.Draft202012Validator(SITE[name]()).validate(told)


def request(verb: str, **more) -> Request:
    return Request("a1", verb, "n1", "c0ffee", NASTY, **more)


@pytest.mark.parametrize("name", SITE)
def test_schemas_are_valid_and_bite(name: str):
    jsonschema.Draft202012Validator.check_schema(SITE[name]())
    with pytest.raises(jsonschema.ValidationError):
        fits(name, {"schema": f"skewscope.{name}/1"})


def test_verdicts_fit(tmp_path: Path):
    acting = File(folder=str(tmp_path), nodes=("n1",))
    for act, verb in (("a1", "note"), ("a2", "drain")):
        made = Request(act, verb, "n1", "c0ffee", NASTY, gpu=3)
        acting.apply(acting.command(made, acting.look()), dry_run=False)
    fits("verdict", json.loads((tmp_path / "n1.json").read_text()))


def test_acts_fit():
    acting = Exec(words=("true",), undo_words=("true",), look_words=("x",))
    known = fleet("exec", {**FLEET, "nodes": [{"name": "n1"}]})
    command = acting.command(request("drain", job='j"1', params={"evict": True}), known)
    fits("act", command.steps[0].body)
    told = {"act": "a1", "verb": "drain", "target": "n1", "incident": "c0ffee", "reason": request("drain").reason}
    fits("act", acting.undo(told, fleet("exec", FLEET)).steps[0].body)


def test_hints_fit_as_files_and_as_they_are_served(tmp_path: Path):
    acting = Engine(folder=str(tmp_path))
    for act in ("a1", "a2"):
        made = Request(
            act, "advise", "llm", "c0ffee", NASTY, params={"hint": {"weights": [1.2, 0.8], "limits": {"a": 1}}}
        )
        acting.apply(acting.command(made, acting.look()), dry_run=False)
    fits("advice", json.loads((tmp_path / "llm.json").read_text()))
    served = json.loads(answer(str(tmp_path), "llm").body)
    assert "former" not in served
    fits("advice", served)


def test_a_fleet_that_fits_is_understood():
    fits("fleet", FLEET)
    node = fleet("exec", FLEET).nodes["n1"]
    assert (node.ours, node.schedulable, node.jobs, node.idle) == (True, False, ("7",), False)
