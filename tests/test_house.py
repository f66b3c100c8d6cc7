"""The laws of the house that a machine can check: what ships, who names whom, what is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue, commands, tables
from skewscope.metrics import AREAS, METRICS, Metric

ROOT = Path(__file__).parents[1]
CODE = ("skewscope", "agents", "detectors", "dashboards")
WINGS = ("agents", "detectors", "dashboards")
SECTIONS = ("Why it hurts", "How it is seen", "What to do")
SAMPLES_BYTES = 8_000_000
UNITS = (
    "bytes_per_second", "transfers_per_second", "seconds", "bytes", "ratio", "hertz", "celsius", "watts", "joules",
)  # fmt: skip
COUNTED = ("lanes", "ticks", "tokens")  # told as a unit where the name ends with them, or left out as of a plain count
NO_BASE_UNIT = re.compile(r"_(ms|us|ns|milliseconds|microseconds|nanoseconds|minutes|hours|kib|mib|gib|kb|mb|gb|mhz|ghz"
                          r"|milliwatts|millijoules|percent|mbps|gbps)(_|$)")  # fmt: skip
SERIES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
TAKEN_LABELS = {"le", "quantile", "instance", "type"}
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def folder(package: str) -> Path:
    """Return where a package lies, as setuptools finds it: by its own entry, else within its parent."""
    parent, _, name = package.rpartition(".")
    mapped = SETUP["package-dir"].get(package)
    return Path(mapped) if mapped else folder(parent) / name if parent else Path(name)


def test_every_package_is_shipped():
    found = {path.parent.relative_to(ROOT) for path in python_files(*CODE, "sample_data") if path.name == "__init__.py"}
    assert found == {folder(name) for name in SETUP["packages"]}


def named_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nobody_names_a_wing():
    wings = (*WINGS, *(f"skewscope.{wing}" for wing in WINGS))
    naming = [
        f"{path.relative_to(ROOT)} names {name}"
        for path in python_files(*CODE)
        for name in set(named_modules(ast.parse(path.read_text("utf-8"))))
        if any(name == wing or name.startswith(f"{wing}.") for wing in wings)
    ]
    assert not naming


def test_files_stay_short():
    long = []
    for path in python_files(*CODE, "tests"):
        text = path.read_text("utf-8")
        if len(text.splitlines()) > 400 and "long" not in (ast.get_docstring(ast.parse(text)) or "").lower():
            long.append(str(path.relative_to(ROOT)))
    assert not long, "over 400 lines: split it, or say in its docstring why it is long"


@pytest.mark.parametrize("room", catalogue.rooms("commands"), ids=lambda room: room.id)
def test_every_command_shows_an_example(room: catalogue.Room):
    page = room.page()
    assert page.splitlines()[0].endswith(".")
    assert "Example" in page and f"skewscope {room.id}" in page


def test_every_command_answers_help(capsys: pytest.CaptureFixture[str]):
    for room in catalogue.rooms("commands"):
        assert commands.main([room.id, "--help"]) == 0
        assert "Example" in capsys.readouterr().out


@pytest.mark.parametrize("room", catalogue.rooms("detectors"), ids=lambda room: room.id)
def test_every_condition_has_its_page(room: catalogue.Room):
    page = room.page()
    places = [page.find(f"\n{section}\n") for section in SECTIONS]
    assert -1 not in places and places == sorted(places), f"the page wants, in this order: {', '.join(SECTIONS)}"
    others = set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", page)) - {room.id}
    assert others or re.search(r"confused\s+with|look-?alike", page, re.IGNORECASE), "the page names no look-alike"


@pytest.mark.parametrize("name", tables.names())
def test_every_column_is_described(name: str):
    table = tables.table(name)
    assert table.name == name and table.doc
    assert all(column.doc for column in table.columns)


def test_the_list_of_conditions_is_fresh(capsys: pytest.CaptureFixture[str]):
    assert commands.main(["conditions", "--readme"]) == 0
    written = ROOT / "detectors/README.md"
    assert written.read_text() == capsys.readouterr().out, "stale: run `make derived`"


def complaints(metric: Metric) -> Iterator[str]:
    """Yield what is wrong with a metric's name, unit, labels or text, by the conventions of Prometheus."""
    form = r"skewscope:[a-z0-9_]+:[a-z0-9_]+" if metric.kind == "recorded" else r"skewscope(_[a-z0-9]+)+"
    bare = metric.name.removesuffix("_total").removesuffix("_per_step")
    unit = next((unit for unit in (*UNITS, "info") if bare.endswith(f"_{unit}")), "")
    fitting = {unit} if unit else {"", "bool", *(word for word in COUNTED if bare.endswith(f"_{word}"))}
    if not re.fullmatch(form, metric.name) or NO_BASE_UNIT.search(metric.name):
        yield "name"
    if metric.name.endswith("_total") != (metric.kind == "counter"):
        yield "_total"
    if metric.kind != "recorded" and metric.unit not in fitting:
        yield "unit"
    if metric.name.endswith(("_bucket", "_sum", "_count")):
        yield "suffix"
    if len(set(metric.labels)) < len(metric.labels) or TAKEN_LABELS & set(metric.labels):
        yield "labels"
    for label, values in metric.values.items():
        sound = all(re.fullmatch(r"[a-z0-9][a-z0-9_]*", value) for value in values)
        if label not in metric.labels or not values or len(set(values)) < len(values) or not sound:
            yield f"values of {label}"
    if metric.buckets and metric.kind != "histogram" or list(metric.buckets) != sorted(set(metric.buckets)):
        yield "buckets"
    if "TODO" in metric.help or len(metric.help) < 12 or "\n" in metric.help or metric.help.endswith("."):
        yield "help"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_and_explained(metric: Metric):
    assert not list(complaints(metric))


@pytest.mark.parametrize(
    ("metric", "complaint"),
    [
        (Metric("gpu_power_watts", "gauge", "watts", "power of the board"), "name"),
        (Metric("skewscope_x:y", "gauge", "", "a recorded name without a rule"), "name"),
        (Metric("skewscope_wait_ms", "gauge", "", "time spent waiting"), "name"),
        (Metric("skewscope_errors", "counter", "", "errors that were seen"), "_total"),
        (Metric("skewscope_gpus_total", "gauge", "", "GPUs of the node"), "_total"),
        (Metric("skewscope_wait", "gauge", "seconds", "time spent waiting"), "unit"),
        (Metric("skewscope_wait_seconds", "gauge", "", "time spent waiting"), "unit"),
        (Metric("skewscope_gpu_count", "gauge", "", "GPUs of the node"), "suffix"),
        (Metric("skewscope_gpu_lost", "gauge", "", "1 while it is lost", ("gpu", "gpu")), "labels"),
        (Metric("skewscope_gpu_lost", "gauge", "", "1 while it is lost", ("gpu",), {"gpu": ("A",)}), "values of gpu"),
        (Metric("skewscope_gpu_lost", "gauge", "", "1 while it is lost", (), {"gpu": ("a",)}), "values of gpu"),
        (Metric("skewscope_wait_seconds", "gauge", "seconds", "time spent waiting", buckets=(1,)), "buckets"),
        (Metric("skewscope_wait_seconds", "histogram", "seconds", "time spent waiting", buckets=(2, 1)), "buckets"),
        (Metric("skewscope_idle_share", "gauge", "ratio", "share of time without work"), "unit"),
        (Metric("skewscope_gpu_lost", "gauge", "", "TODO say what this is"), "help"),
    ],
    ids=lambda part: part.name if isinstance(part, Metric) else part,
)
def test_a_badly_named_metric_is_noticed(metric: Metric, complaint: str):
    assert list(complaints(metric)) == [complaint]


def test_metrics_have_names_of_their_own():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("room", catalogue.rooms("detectors"), ids=lambda room: room.id)
def test_alerts_name_declared_metrics(room: catalogue.Room):
    known = {f"{metric.name}{end}" for metric in METRICS for end in ("", *SERIES.get(metric.kind, ()))}
    rule = room.load().alert()
    assert not set(re.findall(r"\bskewscope[_:][a-z0-9_:]+", rule.expr if rule else "")) - known


@pytest.mark.parametrize("room", catalogue.rooms("agents.collectors"), ids=lambda room: room.id)
def test_collectors_export_declared_metrics(room: catalogue.Room):
    exports = room.kind().exports
    assert exports and len(set(exports)) == len(exports)
    assert not set(exports) - {metric.name for metric in METRICS}


def test_somebody_exports_every_metric():
    """Findings and recorded series come from the analysis and from rules; everything else comes from the agent."""
    exported = {name for room in catalogue.rooms("agents.collectors") for name in room.kind().exports}
    exported |= set(catalogue.load("agents.node").EXPORTS)
    promised = {metric.name for area, metrics in AREAS.items() if area != "finding" for metric in metrics}
    assert sorted(promised - exported) == []


def test_the_list_of_metrics_is_fresh(capsys: pytest.CaptureFixture[str]):
    assert commands.main(["metrics", "--readme"]) == 0
    written = ROOT / "agents/METRICS.md"
    assert written.read_text() == capsys.readouterr().out, "stale: run `make derived`"


def text_files() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.suffix in (".md", ".toml") or path.name == "Makefile")
    for folder in (*CODE, "tests", "sample_data", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".json", ".jsonl", ".txt", ".yml", ".css", ".js") or path.name == "run":
                yield path


def text_of(path: Path) -> str:
    return path.read_text(errors="replace")  # the fuzzer's inputs need not be text, whatever they are called


def test_no_file_knows_the_machine_it_was_written_on():
    places = "|".join(("work", "root", "home/[a-z]", "Users/[a-z]"))
    machine = re.compile(rf"(?<![\w.\-]){'/'}(?:{places})(?:/|\b)")
    bad = [f"{path.relative_to(ROOT)}: {hit[0]}" for path in text_files() for hit in machine.finditer(text_of(path))]
    assert not bad


def test_samples_are_small_sourced_and_licensed():
    folders = [path for path in (ROOT / "sample_data").iterdir() if path.is_dir() and path.name[0] not in "._"]
    assert folders
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) < SAMPLES_BYTES
    for folder in folders:
        source = (folder / "SOURCE.md").read_text()
        for word in ("Origin:", "Licence:", "What a correct analysis finds:"):
            assert word in source, f"{folder.name}/SOURCE.md lacks {word!r}"
        assert not (folder / "truth.json").exists(), "the answer must not lie beside the recording"


def test_the_agent_stays_light():
    code = (
        "import sys, pkgutil, importlib\n"
        "wing = importlib.import_module('skewscope.agents')\n"
        "for one in pkgutil.walk_packages(wing.__path__, 'skewscope.agents.'): importlib.import_module(one.name)\n"
        "print([name for name in ('numpy', 'pandas', 'sklearn', 'plotly', 'dash', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", catalogue.rooms("agents.collectors"), ids=lambda room: room.id)
def test_the_name_of_a_collector_tells_its_process(room: catalogue.Room):
    assert room.kind().process == catalogue.load("agents.crew").process_of(room.id)
