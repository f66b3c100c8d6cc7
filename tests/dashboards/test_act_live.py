"""Acts of a watching service, over HTTP; a service that does not act, or says something else."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import load
from skewscope.watch.api import Api
from skewscope.watch.snapshot import Snapshot
from skewscope.web.server import Reply, Server

world = run_path(str(Path(__file__).with_name("_act_world.py")))
live_sources = load("dashboards._live_sources")
View = load("dashboards._view").View


@pytest.fixture
def service():
    """Return what the service answers at /api/v1/acts, to be changed, and a source that asks it."""
    said = {"status": 200, "body": world["document"]()}
    api = Api(acts=lambda: said["body"])

    def pages(path, headers):
        if path == "/api/v1/acts" and said["status"] != 200:
            return Reply(said["status"], "application/json", b"{}")
        return api.pages(path, headers)

    server = Server("127.0.0.1:0", pages)
    server.start()
    api.update(Snapshot(world["NOW_NS"], View().report, (), b""))
    url = f"http://127.0.0.1:{server.address[1]}"
    yield said, live_sources.live(watch=url, store=None, prometheus="", selector="", hours=1.0, every_s=5.0)
    api.close()
    server.stop()


def test_acts_come_with_the_report_and_a_change_makes_a_new_view(service):
    said, source = service
    source.refresh()
    first = source.view()
    assert first.acts == world["acts"]() and first.errors == ()
    source.refresh()
    assert source.view().id == first.id
    said["body"]["waiting"] = []
    source.refresh()
    assert source.view().acts.waiting == () and source.view().id != first.id


def test_a_service_that_does_not_act_has_no_acts(service):
    said, source = service
    said["status"] = 404  # as `Api` answers without an engine
    source.refresh()
    assert source.view().acts is None and source.view().errors == ()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [(503, {}, "answers 503"), (200, [], "is no object"), (200, {}, "gives no skewscope.acts/1")],
)
def test_what_is_wrong_is_told_and_the_incidents_come_all_the_same(service, status, body, told):
    said, source = service
    source.refresh()
    said.update(status=status, body=body)
    source.refresh()
    view = source.view()
    assert told in view.errors[0] and view.acts is None and view.time_ns == world["NOW_NS"]
