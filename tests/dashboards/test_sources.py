from __future__ import annotations

import json
import threading

import pytest

from skewscope import commands
from skewscope.catalogue import load
from skewscope.errors import SkewscopeError, Unreadable, UsageError
from skewscope.frames import empty, frame
from skewscope.store import Store
from skewscope.watch.api import Api
from skewscope.watch.snapshot import Snapshot
from skewscope.web.server import Server

sources, live_sources = load("dashboards._sources"), load("dashboards._live_sources")
View = load("dashboards._view").View
END_NS = 1_700_000_010 * 10**9


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder that `analyze --out` wrote for a shipped sample."""
    folder = tmp_path_factory.mktemp("out")
    sample = load("sample_data").__path__[0]
    assert commands.main(["analyze", f"{sample}/compute-slow", "--out", str(folder), "-q"]) == 0
    return folder


@pytest.mark.parametrize("name", ["", "report.json"])
def test_a_report_comes_with_its_tables(written, name):
    view = sources.from_report(written / name)
    assert view.report["findings"][0]["subject"]["rank"] == 5
    assert len(view.tables["rank_steps"])
    assert view.time_ns == view.report["job"]["end_ns"]
    assert not view.empty
    assert view.id == sources.from_report(written).id


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, UsageError), ("{", Unreadable), ("[]", Unreadable), ('{"schema": "skewscope.report/9"}', Unreadable),
        ('{"schema": "skewscope.report/1", "findings": 7}', Unreadable),
    ],
)  # fmt: skip
def test_what_is_no_report_is_told(tmp_path, text, error):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(error):
        sources.from_report(tmp_path)


def test_a_broken_table_is_told(written, tmp_path):
    (tmp_path / "report.json").write_bytes((written / "report.json").read_bytes())
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "steps.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Unreadable, match=r"steps\.parquet"):
        sources.from_report(tmp_path)


def test_a_report_of_the_least_is_whole():
    found = sources.checked({"schema": "skewscope.report/1", "summary": {"verdict": "fine"}}, "x")
    assert found["job"]["ranks"] == 0
    assert found["summary"]["slowdown"] is None


def test_a_source_that_fails_keeps_the_old_view_and_says_why():
    answers = [View(id="a"), SkewscopeError("gone"), OSError("no route"), View(id="b")]

    def make():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = sources.Refreshing(make, "made up")
    assert (source.view().id, source.view().live) == ("waiting", True)
    seen = []
    for _ in range(4):
        source.refresh()
        seen.append((source.view().id.partition("!")[0], source.view().errors))
    assert seen == [("a", ()), ("a", ("gone",)), ("a", ("OSError: no route",)), ("b", ())]


def test_refreshing_goes_on_until_stop():
    calls, second = [], threading.Event()

    def make():
        calls.append(1)
        if len(calls) > 1:
            second.set()
        return View(id=str(len(calls)))

    source = sources.Refreshing(make, "made up", every_s=0.01)
    source.start()
    assert second.wait(10)
    source.stop()


@pytest.fixture
def watched():
    """Return the API of a watching service and its address."""
    api = Api()
    server = Server("127.0.0.1:0", api.pages)
    server.start()
    yield api, f"http://127.0.0.1:{server.address[1]}"
    api.close()
    server.stop()


def snapshot(time_ns=END_NS):
    verdict = {**View().report, "summary": {**View().report["summary"], "verdict": "all is well"}}
    return Snapshot(
        time_ns, verdict, ({"id": "i1", "state": "open", "job": "a", "condition": "x", "changed_ns": 1},), b""
    )


def test_a_watching_service_gives_report_and_incidents(watched, tmp_path):
    api, url = watched
    source = live_sources.live(watch=url, store=None, prometheus="", selector="", hours=1.0, every_s=5.0)
    source.refresh()
    assert "503" in source.view().errors[0]
    api.update(snapshot())
    source.refresh()
    view = source.view()
    assert (view.time_ns, view.live, view.errors) == (END_NS, True, ())
    assert [one["id"] for one in view.incidents] == ["i1"]
    assert view.report["summary"]["verdict"] == "all is well"


def test_a_service_of_this_process_is_asked_without_its_server():
    api = Api()
    usual = {"store": None, "prometheus": "", "selector": "", "hours": 1.0, "every_s": 5.0}
    source = live_sources.live(watch="https://watch:9710", pages=api.pages, **usual)
    source.refresh()
    assert "answers 503: " in source.view().errors[0] and "no window" in source.view().errors[0]
    api.update(snapshot())
    source.refresh()
    view = source.view()
    assert (view.time_ns, view.errors, view.acts, view.title) == (END_NS, (), None, "from https://watch:9710")
    assert [one["id"] for one in view.incidents] == ["i1"]
    api.acts = lambda: {"schema": "nothing"}
    source.refresh()
    assert source.view().errors and source.view().incidents


def test_what_is_no_watching_service_is_told(watched):
    api, url = watched
    api.update(snapshot())
    source = live_sources.live(watch=f"{url}/x", store=None, prometheus="", selector="", hours=1.0, every_s=5.0)
    source.refresh()
    assert "answers 404" in source.view().errors[0]
    gone = live_sources.live(watch="http://127.0.0.1:9", store=None, prometheus="", selector="", hours=1.0, every_s=5.0)
    gone.refresh()
    assert "does not answer" in gone.view().errors[0]


def test_a_store_gives_its_last_hours(tmp_path, watched):
    columns = empty("windows").columns
    with_values = {"t_ns": [END_NS], "node": ["n1"], "device": ["gpu0"], "metric": ["skewscope_gpu_power_watts"]}
    numbers = {name: [1] for name in columns if name not in with_values and empty("windows")[name].dtype.kind in "fi"}
    words = {name: [""] for name in columns if name not in with_values and name not in numbers}
    store = Store(tmp_path / "store")
    store.append(frame("windows", {**with_values, **numbers, **words}))
    store.close()
    alone = live_sources.live(watch="", store=tmp_path / "store", prometheus="", selector="", hours=1.0, every_s=5.0)
    alone.refresh()
    assert alone.view().errors == ()
    assert len(alone.view().tables["windows"]) == 1
    assert alone.view().time_ns == END_NS
    api, url = watched
    api.update(snapshot())
    both = live_sources.live(watch=url, store=tmp_path / "store", prometheus="", selector="", hours=1.0, every_s=5.0)
    both.refresh()
    assert len(both.view().tables["windows"]) == 1
    assert both.view().incidents


@pytest.mark.parametrize(
    ("more", "says"), [({"hours": 0.0}, "--hours"), ({"every_s": 0.1}, "--every"), ({"watch": "ftp://x"}, "--watch")]
)
def test_what_cannot_be_meant_is_told(more, says):
    usual = {"watch": "http://x", "store": None, "prometheus": "", "selector": "", "hours": 1.0, "every_s": 5.0}
    with pytest.raises(UsageError, match=says):
        live_sources.live(**{**usual, **more})


def test_a_prometheus_is_asked_for_what_is_new_only():
    asked = []

    class Feed:
        def history(self, begin_ns, end_ns):
            asked.append((begin_ns, end_ns))
            yield type("Told", (), {
                "end_ns": 90 * 10**9, "errors": (), "samples": 1, "tables": {"windows": empty("windows")}
            })  # fmt: skip

    past = live_sources.Past(Feed(), hours=0.01, clock_ns=lambda: 100 * 10**9)
    past.tables()
    past.tables()
    assert [begin for begin, _ in asked] == [59 * 10**9, 90 * 10**9]


def test_a_prometheus_that_only_fails_is_told():
    class Feed:
        def history(self, begin_ns, end_ns):
            yield type("Told", (), {"end_ns": 1, "errors": ("refused",), "samples": 0, "tables": {}})

    with pytest.raises(SkewscopeError, match="refused"):
        live_sources.Past(Feed(), hours=1.0).tables()


def test_the_json_of_a_view_is_what_was_analysed(written):
    assert sources.from_report(written).report == json.loads((written / "report.json").read_text())
