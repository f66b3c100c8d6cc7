import json

import numpy as np
import pytest

from skewscope import subjects
from skewscope.catalogue import load, rooms
from skewscope.commands import main
from skewscope.contracts import Check, Window
from skewscope.errors import UsageError
from skewscope.frames import frame
from skewscope.metrics import METRICS
from skewscope.runbook import TAKES, expectation, levels, walk

SERIES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count"), "counter": (), "gauge": ()}
HEAT, POWER, CLOCK = (
    "skewscope_gpu_temperature_celsius", "skewscope_gpu_power_watts", "skewscope_gpu_clock_hertz",
)  # fmt: skip
REPLAYS = "skewscope_gpu_pcie_replays_total"


def check(name, metric=HEAT, expect="> 80", *, take="mean", yes="hot", no="cool", after=(), labels=None):
    return Check(name, f"look at {name}", metric, take, expect, f"avg({metric})", yes, no, labels or {}, after)


@pytest.fixture(scope="module")
def tables():
    fleet = load("detectors._live_worlds").Fleet(nodes=2, gpus=4)
    fleet.put(HEAT, 93.0, labels="sensor=gpu", nodes=["n1"], devices=["gpu2"], since=10)
    fleet.put(HEAT, 50.0, labels="sensor=memory", devices=fleet.gpus)
    fleet.put(REPLAYS, 60.0, nodes=["n1"], devices=["gpu2"], since=10)
    fleet.put("skewscope_host_load1", 7.0)
    return fleet.tables()


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [("< 0.05", [0.0, 0.049], [0.05, 1.0]), ("<= 0.05", [0.05], [0.051]), ("> 1e2", [101.0], [100.0]),
     (">= 1", [1.0, 2.0], [0.99]), ("== 0", [0.0], [0.1, -1.0]), ("!= 0", [1.0, -1.0], [0.0]),
     ("between 1 2", [1.0, 1.5, 2.0], [0.9, 2.1]), ("between -1 and .5", [-1.0, 0.5], [0.6])],
)  # fmt: skip
def test_expectations(text, yes, no):
    expected = expectation(text)
    assert all(expected.holds(value) for value in yes)
    assert not any(expected.holds(value) for value in [*no, float("nan")])
    values = np.array([*no, np.nan, *yes])
    assert expected.holds(values[expected.nearest(values)])


@pytest.mark.parametrize("text", ["", "0.05", "< ", "about 3", "=> 1", "between 1", "between 2 1", "< 1 or > 2", "> x"])
def test_bad_expectations_say_what_is_wanted(text):
    with pytest.raises(UsageError, match="expectation"):
        expectation(text)


@pytest.mark.parametrize(
    ("checks", "said"),
    [([check("a"), check("a")], "two checks"), ([check("a", after=("z",))], "which is none of a"),
     ([check("a", after=("b",)), check("b", after=("a",))], "wait for each other"),
     ([check("a", take="p99")], "wanted one of mean"), ([check("a", expect="hot")], "cannot be read")],
)  # fmt: skip
def test_guides_that_cannot_be_walked(checks, said, tables):
    with pytest.raises(UsageError, match=said):
        walk("x", checks, tables)


def test_rounds_hold_what_is_independent():
    parts = levels([check("a"), check("d", after=("b", "c")), check("b", after=("a",)), check("c", after=("a",))])
    assert [[one.name for one in part] for part in parts] == [["a"], ["b", "c"], ["d"]]


def test_a_check_finds_the_series_that_fits_best(tables):
    one = walk("x", [check("heat", labels={"sensor": "gpu"}, expect="> 75")], tables).steps[0]
    assert (one.answer, one.where, one.met, one.series) == ("yes", "n1/gpu2", 1, 8)
    assert one.value == pytest.approx((62 * 10 + 93 * 10) / 20)


def test_the_window_of_a_finding_counts(tables):
    times = np.unique(tables["windows"]["t_ns"])
    guide = [check("heat", labels={"sensor": "gpu"}, expect="> 90")]
    for subject in (subjects.gpu("n1", 2), subjects.rank("llm", 6, node="n1"), subjects.node("n1")):
        late = walk("x", guide, tables, subject, Window(int(times[9]), int(times[-1]))).steps[0]
        early = walk("x", guide, tables, subject, Window(int(times[0]), int(times[8]))).steps[0]
        assert (late.answer, late.value, early.answer) == ("yes", 93.0, "no")


@pytest.mark.parametrize(("take", "value"), [("mean", 77.5), ("low", 62.0), ("high", 93.0), ("last", 93.0)])
def test_takes_of_gauges(tables, take, value):
    guide = [check("heat", take=take, labels={"sensor": "gpu"})]
    assert walk("x", guide, tables, subjects.gpu("n1", 2)).steps[0].value == pytest.approx(value)


@pytest.mark.parametrize(("take", "value"), [("rate", 1.0), ("increase", 600.0)])
def test_takes_of_counters(tables, take, value):
    guide = [check("replays", REPLAYS, "> 0", take=take)]
    one = walk("x", guide, tables, subjects.gpu("n1", 2)).steps[0]
    assert one.value == pytest.approx(value)


def test_what_only_the_host_tells_counts_for_its_gpus(tables):
    one = walk("x", [check("load", "skewscope_host_load1", "> 5")], tables, subjects.gpu("n1", 2)).steps[0]
    assert (one.answer, one.where) == ("yes", "n1")


def test_what_is_not_there_is_unknown(tables):
    guide = [check("xid", "skewscope_gpu_xid_errors_total", take="rate"), check("heat", labels={"sensor": "gpu"}),
             check("slots", "skewscope_gpu_devices")]  # fmt: skip
    found = walk("x", guide, tables, subjects.gpu("n7", 0))
    assert [one.answer for one in found.steps] == ["unknown"] * 3
    assert "n7/gpu0" in found.steps[1].why
    assert all("cannot be told" in line for line in found.conclusion)


@pytest.mark.parametrize("subject", [subjects.gpu("n1", 2), subjects.rank("llm", 6), subjects.node("n1"), None])
def test_a_counter_that_nobody_tells_has_not_grown_where_its_kind_is_told(tables, subject):
    for expect, answer in (("== 0", "yes"), ("> 0", "no")):
        (one,) = walk("x", [check("xid", "skewscope_gpu_xid_errors_total", expect, take="rate")], tables, subject).steps
        assert (one.answer, one.value) == (answer, 0.0) and "skewscope_gpu_*" in one.why
    (one,) = walk("x", [check("drop", "skewscope_rdma_errors_total", take="rate")], tables, subject).steps
    assert one.answer == "unknown"


def test_the_way_through_the_guide(tables):
    labels = {"sensor": "gpu"}
    guide = [
        check("heat", labels=labels, expect="> 75", yes="go on with `clock`", no="not heat"),
        check("clock", CLOCK, "< 1e9", labels={"domain": "sm"}, yes="throttled", no="hot, but at full speed"),
        check("power", POWER, "> 700", yes="`clock`, `heat`", no="power is usual"),
        check(
            "memory", labels={"sensor": "memory"}, expect="> 90", after=("heat",), yes="bad memory", no="memory fine"
        ),
        check("fan", labels=labels, expect="> 1", after=("heat",), yes="`never`", no="never"),
    ]
    found = walk("x", guide, tables, subjects.gpu("n1", 2))
    assert {one.check.name: one.reached for one in found.steps} == {
        "heat": True, "clock": True, "power": True, "memory": True, "fan": True,
    }  # fmt: skip
    assert "clock: hot, but at full speed" in found.conclusion
    assert "power: power is usual" in found.conclusion
    cool = walk("x", guide, tables, subjects.gpu("n0", 0))
    assert not {one.check.name: one.reached for one in cool.steps}["clock"]
    assert not [line for line in cool.conclusion if line.startswith("clock")]


def complaints(guide):
    """Yield what is wrong with a room's guide."""
    levels(guide)
    if not guide:
        yield "no checks"
    for one in guide:
        expectation(one.expect)
        yield from (f"{one.name}: {said}" for said in wrong_in(one))


def wrong_in(one):
    known = {f"{metric.name}{end}": metric for metric in METRICS for end in ("", *SERIES.get(metric.kind, ()))}
    declared = known.get(one.metric)
    if declared is None:
        yield f"{one.metric} is not declared in skewscope.metrics"
        return
    if one.take not in TAKES or (declared.kind == "gauge" and one.take in ("rate", "increase")):
        yield f"take {one.take} of a {declared.kind}"
    if declared.kind != "gauge" and one.take in ("mean", "low", "high"):
        yield f"take {one.take} of a {declared.kind}"
    if one.metric not in one.query:
        yield f"the query does not mention {one.metric}"
    for label, value in one.labels.items():
        some = {value} if isinstance(value, str) else set(value)
        if label not in declared.labels or not some <= set(declared.values.get(label, some)):
            yield f"{one.metric} has no label {label}={value}"
    if not (one.what.strip() and one.yes.strip() and one.no.strip()):
        yield "what, yes and no want words"


def test_a_bad_check_is_noticed():
    assert list(wrong_in(check("a", "skewscope_gpu_heat"))) == [
        "skewscope_gpu_heat is not declared in skewscope.metrics"
    ]
    assert len(list(wrong_in(check("a", REPLAYS, yes=" ", labels={"reason": "x"})))) == 3


def guide_of(room):
    if not hasattr(room.kind(), "guide"):
        pytest.skip(f"{room.id} has no guide: its page's `What to do` is printed instead")
    return room.load().guide()


@pytest.mark.parametrize("room", rooms("detectors"), ids=lambda room: room.id)
def test_guides_are_well_formed(room):
    assert list(complaints(guide_of(room))) == []


@pytest.mark.parametrize("room", rooms("detectors"), ids=lambda room: room.id)
def test_guides_speak_of_what_their_rooms_see(room):
    """In a world that shows the condition some check of the guide can be done, and there is a conclusion."""
    guide, detector, answers = guide_of(room), room.load(), []
    worlds = list(detector.cases())
    for world in worlds:
        for found in detector.detect(world.tables):
            done = walk(room.id, guide, world.tables, found.subject, found.window)
            assert done.conclusion
            answers += [step.answer for step in done.steps]
    live = any("windows" in world.tables and len(world.tables["windows"]) for world in worlds)
    assert not live or {"yes", "no"} & set(answers), "no world tells any metric of the guide"


GUIDE = (
    check("heat", labels={"sensor": "gpu"}, expect="> 90", yes="`xid`", no="go on elsewhere"),
    check("xid", "skewscope_gpu_xid_errors_total", "> 0", take="rate", after=("heat",)),
    check("load", "skewscope_host_load1", "> 5", yes="busy"),
)


@pytest.fixture
def guided(monkeypatch):
    from skewscope.commands import runbook

    monkeypatch.setattr(runbook, "guide", lambda place: GUIDE)


@pytest.fixture
def folder(tmp_path):
    t_ns = np.arange(20, dtype=np.int64) * 15_000_000_000 + 1_700_000_010_000_000_000
    hot = {"t_ns": t_ns, "node": "n1", "device": "gpu2", "metric": HEAT, "labels": "sensor=gpu", "value": 93.0}
    cool = hot | {"device": "gpu3", "value": 60.0}
    for name, columns in (("a", hot), ("b", cool)):
        (tmp_path / name).mkdir()
        frame("samples", columns).to_parquet(tmp_path / name / "samples.parquet", index=False)
    return tmp_path


def report(tmp_path, condition="coll-late-rank"):
    subject = {"kind": "gpu", "id": "n1/gpu3", "rank": None, "peer": None, "node": "n1", "stage": None, "layer": None}
    window = {"start_ns": None, "end_ns": None, "first_step": None, "last_step": None}
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"findings": [{"condition": condition, "subject": subject, "window": window}]}))
    return str(path)


def test_the_guide_alone(guided, capsys):
    assert main(["runbook", "coll-late-rank"]) == 0
    said = capsys.readouterr().out
    assert "Round 1: 2 checks, independent of each other" in said and "Round 2" in said and GUIDE[0].query in said
    assert main(["runbook", "coll-late-rank", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["checks"]] == ["heat", "xid", "load"]


def test_without_a_guide_the_page_says_what_to_do(capsys, monkeypatch):
    from skewscope.commands import runbook

    monkeypatch.setattr(runbook, "guide", lambda place: ())
    assert main(["runbook", "coll-late-rank"]) == 0
    said = capsys.readouterr().out
    assert "What to do" in said and "exclude the node" in said and "Why it hurts" not in said
    assert main(["runbook", "coll-late-rank", "--json"]) == 0
    assert "exclude the node" in json.loads(capsys.readouterr().out)["page"]


def test_the_guide_done_over_samples(guided, folder, capsys):
    assert main(["runbook", "coll-late-rank", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "[yes] heat" in said and "is 93 celsius at n1/gpu2, asked > 90; 1 of 2 series meet it" in said
    assert "(next: xid)" in said and "(no growth is told" in said and "[ ? ] load" in said
    assert said.rstrip().splitlines()[-2:] == [
        "  xid: cool",
        "  load: cannot be told, skewscope_host_load1 is not in the data",
    ]


def test_the_report_says_who(guided, folder, capsys):
    assert main(["runbook", "coll-late-rank", str(folder), "--report", report(folder), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["walks"]
    assert one["subject"] == "n1/gpu3"
    heat, load, xid = one["steps"]
    assert (heat["answer"], heat["value"], heat["says"]) == ("no", 60.0, "go on elsewhere")
    assert (xid["reached"], load["value"]) == (False, None)
    assert main(["runbook", "coll-late-rank", "--report", report(folder)]) == 0
    assert "names n1/gpu3; give PATH" in capsys.readouterr().out
    assert main(["runbook", "coll-late-rank", str(folder), "--report", report(folder, "coll-hang")]) == 0
    assert "everybody in the data" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["no-such"], ["coll-late-rank", "--report", "/not/there"], ["coll-late-rank", "--report", __file__],
              ["coll-late-rank", "/not/there"]],
)  # fmt: skip
def test_wrong_usage(words, capsys, guided):
    assert main(["runbook", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
