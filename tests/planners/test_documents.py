"""What every planner owes: a page with examples and a doctest, a document of the common shape, a page of HTML."""

import json
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from skewscope.catalogue import rooms
from skewscope.commands import main
from skewscope.reports.json_schema import schema

SAMPLES = Path(__file__).parents[2] / "sample_data"
PLANNERS = [room.id for room in rooms("planners")]
WORDS = {  # of a small question to each; {name} is a file that `files` makes
    "advise": "--times {times.csv} --comm 0.1 --fixed 0.1 --drop 0",
    "backup-workers": "--times {times.csv} --comm 0.1 --drop 0.05",
    "batch": "--times {times.csv} --batch 56 --comm 0.02",
    "checkpoint": "--save 30 --mttf 3.09 --restart 600 --now 3600",
    "gradient-coding": "{times.csv} --load-slope 2.2 --jobs 1", "local-steps": "--times {times.csv} --comm 0.4",
    "memory": "--layers 32 --hidden 4096 --heads 32 --sequence 4096 --vocabulary 32000 --data 8 --gpu-memory 80",
    "moe": f"{SAMPLES / 'moe-tiny' / 'counts.npz'} --gpus 4 --slots 20", "paths": "{flows.csv} --spines 2",
    "pipeline": "--layers {layers.csv} --stages 4 --microbatches 16 --last 0.012",
    "placement": "{links.csv} --stages 4 --activation 0.1 --gradients 10",
    "power": "{row.csv} --provisioned 200000 --servers 40 --latency 40",
    "sequence": "{lengths.csv} --ranks 8 --per-step 64", "telemetry-rate": "--nodes 2048 --faults 3.8 --lost-gpus 512",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the folder of the planners' small inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    chance = np.random.default_rng(0)
    times = 0.1 + 0.01 * chance.random((40, 8))
    times[:, 3] *= 2
    near = np.equal.outer(np.arange(8) // 4, np.arange(8) // 4)
    tables = {
        "times.csv": times,
        "links.csv": np.where(near, 100.0, 10.0),
        "lengths.csv": chance.integers(50, 9000, 700),
    }
    for name, table in tables.items():
        np.savetxt(folder / name, table, delimiter=",", fmt="%d" if name == "lengths.csv" else "%g")
    flows = "src_leaf,dst_leaf,gigabytes,spine\na,c,1,0\na,d,1,0\nb,c,1,0\nb,d,1,0\n"
    (folder / "flows.csv").write_text(flows)
    layers = ["forward_s,backward_s,kept_bytes,activation_bytes", *["0.01,0.02,2e9,0.5e9"] * 32]
    (folder / "layers.csv").write_text("\n".join(layers) + "\n")
    watts = [f"{at},{watt:.0f}" for at, watt in enumerate(150_000 + 20_000 * chance.random(4000))]
    (folder / "row.csv").write_text("\n".join(["time_s,watts", *watts]) + "\n")
    return folder


def words(name, folder):
    return [str(folder / one[1:-1]) if one[0] == "{" else one for one in WORDS[name].split()]


@pytest.mark.parametrize("name", PLANNERS)
def test_its_page_shows_examples_and_numbers(name):
    page = next(room for room in rooms("planners") if room.id == name).page()
    assert page.splitlines()[0].endswith(".") and f"skewscope plan {name} " in page and "Example" in page
    assert "\n>>> " in page, "a worked example with numbers is owed"


@pytest.mark.parametrize("name", PLANNERS)
def test_its_document_has_the_common_shape_and_its_page_holds_it(name, files, tmp_path, capsys):
    plan, page = tmp_path / "plan.json", tmp_path / "plan.html"
    assert main(["plan", name, *words(name, files), "-q", "--json", str(plan), "--html", str(page)]) == 0
    made = json.loads(plan.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    jsonschema.validate(made, schema(f"skewscope.plan.{name}/1"))
    assert made["schema"] == f"skewscope.plan.{name}/1" and len(made["verdict"]) > 20
    assert set(made["current"]) <= set(made["proposed"]) and made["solve_s"] < 60
    bound, metric = made["lower_bound"], made["proposed"].get(made["objective"])
    assert bound is None or metric is None or bound <= metric * (1 + 1e-9)
    said = text_of(page.read_text())
    assert " ".join(made["verdict"].split()) in said and all(
        " ".join(step.split()) in said for step in made["steps"][:20]
    )
    printed = capsys.readouterr().out
    assert made["verdict"] in printed and f"written: {plan}" in printed


class Text(HTMLParser):
    """Collects the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.said = ""
        self.feed(html)

    def handle_data(self, data):
        self.said += data


def text_of(html):
    return " ".join(Text(html.partition('<script type="application/json"')[0]).said.split())


def test_every_planner_is_tried_here():
    assert set(WORDS) == set(PLANNERS), "a new planner wants words of a small question, and files for them"


def test_a_document_of_another_shape_is_refused(files, tmp_path):
    plan = tmp_path / "plan.json"
    assert main(["plan", "checkpoint", *words("checkpoint", files), "--json", str(plan)]) == 0
    made = json.loads(plan.read_text())
    for broken in ({**made, "schema": "skewscope.plan.nothing/1"}, {**made, "steps": "one"},
                   {**made, "current": {"a": [1]}}, {key: made[key] for key in made if key != "verdict"}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema("plan"))


def test_settings_and_the_common_flags_reach_a_planner(files, tmp_path, capsys, monkeypatch):
    settings = tmp_path / "settings.toml"
    settings.write_text("[plan.checkpoint]\nsave = 30\nmttf = 3.09\n")
    assert main(["plan", "checkpoint", "--now", "3600", "--config", str(settings), "--json", "-"]) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("SKEWSCOPE_SAVE", "60")
    assert main(["--config", str(settings), "plan", "checkpoint", "--now", "3600", "--json", "-"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert first["plan"]["interval_s"] < second["plan"]["interval_s"]
