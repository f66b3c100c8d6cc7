from __future__ import annotations

import gzip
import http.client
import json
import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path
from runpy import run_path
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from skewscope import commands
from skewscope.catalogue import rooms
from skewscope.reports.json_schema import INCIDENT_STATES, schema
from skewscope.watch.api import Api
from skewscope.watch.changes import Changes
from skewscope.watch.openapi import document
from skewscope.watch.rank_times import RankTimes
from skewscope.web.server import Server

made = run_path(str(Path(__file__).with_name("_incidents.py")))
incident, snapshot = made["incident"], made["snapshot"]
SAMPLE = Path(__file__).parents[2] / "sample_data/spool-slow-rank"
DESCRIBED = document()
ACT = {
    "schema": "skewscope.action/1", "seq": 0, "time_ns": 5, "phase": "proposed", "actor": "skewscope", "act": "e1",
    "prev": "0" * 64, "hash": "f" * 64, "scheduler": "slurm", "verb": "drain", "target": "n3",
}  # fmt: skip
ACTS = {
    "schema": "skewscope.acts/1", "time_ns": 9, "turned_ns": 9, "holder": "a:1", "mine": True, "policy": "0123456789ab",
    "head": "f" * 64, "modes": {"slurm": "approve"}, "dry_run": {"slurm": False}, "breaker": "", "budget": {},
    "troubles": {}, "waiting": [ACT], "standing": [], "trust": {}, "records": [ACT],
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of a shipped recording."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    assert commands.main(["analyze", str(SAMPLE), "-q", "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.fixture
def api(report) -> Api:
    """Return an API that knows three incidents, one of them with the finding of the report."""
    api = Api(acts=lambda: ACTS)
    api.update(
        snapshot(
            incident("c3", 9, "growing", job=""),
            incident("b2", 7, "closed", condition="nic-link-flap"),
            incident("a1", 5, findings=report["findings"]),
            report=report,
        )
    )
    return api


def get(api: Api, path: str, **headers: str):
    return api.pages(path, {name.replace("_", "-"): value for name, value in headers.items()})


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = DESCRIBED
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def check(path: str, reply) -> None:
    """Check a reply against what the OpenAPI document promises for its path."""
    answers = DESCRIBED["paths"][path]["get"]["responses"]
    assert str(reply.status) in answers, f"{path} does not promise {reply.status}"
    content = resolved(answers[str(reply.status)])["content"]
    kind = reply.content_type.split(";")[0]
    assert kind in content
    if kind.endswith("json"):
        body = json.loads(gzip.decompress(reply.body) if reply.encoding else reply.body)
        whole = {"components": DESCRIBED["components"], **content[kind]["schema"]}
        jsonschema.Draft202012Validator(whole).validate(body)


def test_the_description_is_valid_openapi():
    OpenAPIV31SpecValidator(DESCRIBED).validate()


def test_every_route_is_described(api: Api):
    assert set(api.routes) == set(DESCRIBED["paths"])
    names = [operation["get"]["operationId"] for operation in DESCRIBED["paths"].values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", sorted(DESCRIBED["paths"]))
def test_every_answer_is_as_described(api: Api, path: str):
    ids = {"/api/v1/incidents/{id}": "a1", "/api/v1/conditions/{id}": "coll-late-rank"}
    asked = path.replace("{id}", ids.get(path, ""))
    for one in (api, Api()):  # with a snapshot, and before the first
        for query in ("", "?nothing=1"):
            for packing in ("", "gzip"):
                check(path, get(one, asked + query, accept_encoding=packing))
    if path in ids:
        unknown = get(api, path.replace("{id}", "gone"))
        assert unknown.status == 404
        check(path, unknown)
    told = DESCRIBED["paths"][path]["get"]["responses"]
    assert get(api, asked).status == 200 and "200" in told
    if "400" in told:
        assert get(api, f"{asked}?nothing=1").status == 400
    always = ("/", "/healthz", "/api/v1/acts", "/api/v1/events", "/api/v1/openapi.json")
    if path not in always and "condition" not in path:
        assert get(Api(), asked).status == 503


def test_who_acts_on_nothing_says_so():
    reply = get(Api(), "/api/v1/acts")
    assert reply.status == 404 and b"--act" in reply.body


def test_a_wrong_answer_would_be_noticed(report):
    api = Api()
    api.update(snapshot(incident("a1", state="ajar"), report=report | {"summary": {}}))
    for path in ("/api/v1/report", "/api/v1/incidents"):
        with pytest.raises(jsonschema.ValidationError):
            check(path, get(api, path))


def test_the_report_is_given_as_it_is(api: Api, report):
    reply = get(api, "/api/v1/report")
    assert (reply.status, reply.content_type, reply.encoding) == (200, "application/json", "")
    assert json.loads(reply.body) == report
    packed = get(api, "/api/v1/report", accept_encoding="gzip")
    assert packed.encoding == "gzip" and gzip.decompress(packed.body) == reply.body
    assert get(api, "/api/v1/report").body is reply.body, "made once"


def test_ranks_are_given_with_none_for_what_is_unknown(api: Api):
    nan = float("nan")
    columns = (["b", "a", "a", "a"], [0, 1, 0, 2], ["n1"] * 4, ["gpu2", "gpu1", "gpu0", ""])
    times = ([nan, 2.0, 2.0, 2.0], [nan, 1.0, 1.5, 1.5])
    api.update(replace(snapshot(time_ns=60), ranks=RankTimes(*map(np.array, (*columns, *times)))))
    reply = get(api, "/api/v1/ranks")
    check("/api/v1/ranks", reply)
    told = json.loads(reply.body)
    assert told["time_ns"] == 60
    assert [tuple(one.values()) for one in told["ranks"]] == [
        ("a", 0, "n1", "0", 2.0, 1.0, 0.75),
        ("a", 1, "n1", "1", 2.0, 2.0, 0.5),
        ("a", 2, "n1", "", 2.0, 1.0, 0.75),
        ("b", 0, "n1", "2", None, None, None),
    ]


def test_metrics_are_given_as_they_are(api: Api):
    reply = get(api, "/metrics?x", accept="application/openmetrics-text")
    assert reply.body == b"skewscope_watch_up 1\n" and reply.content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["c3", "b2", "a1"]),
        ("?state=open", ["a1"]),
        ("?state=open,growing", ["c3", "a1"]),
        ("?state=closed&state=growing", ["c3", "b2"]),
        ("?job=llm", ["b2", "a1"]),
        ("?job=", ["c3"]),
        ("?condition=nic-link-flap&job=llm", ["b2"]),
        ("?condition=nic%2Dlink%2Dflap", ["b2"]),
        ("?state=mitigated", []),
    ],
)
def test_incidents_are_listed_as_asked(api: Api, query: str, names: list[str]):
    reply = get(api, f"/api/v1/incidents{query}")
    check("/api/v1/incidents", reply)
    body = json.loads(reply.body)
    assert [one["id"] for one in body["incidents"]] == names
    assert (body["time_ns"], body["last_event"]) == (30, "9-c3")


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/v1/incidents?state=shut", 400, "there is open, growing, mitigated, closed"),
        ("/api/v1/incidents?stat=open", 400, "there is state, job, condition"),
        ("/api/v1/report?job=a", 400, "this page has none"),
        ("/api/v1/incidents/zz", 404, "/api/v1/incidents lists them"),
        ("/api/v1/conditions/slow", 404, "/api/v1/conditions lists them"),
        ("/api/v2/report", 404, "/api/v1/report"),
        ("/api/v1/incidents/", 404, "/api/v1/incidents"),
        ("/api/v1/incidents/a1/more", 404, "/api/v1/incidents"),
    ],
)
def test_what_is_wrong_is_said(api: Api, path: str, status: int, told: str):
    reply = get(api, path)
    problem = json.loads(reply.body)
    assert (reply.status, problem["status"]) == (status, status)
    assert reply.content_type == "application/problem+json" and told in problem["detail"]


def test_one_incident_by_its_id(api: Api, report):
    for path in ("/api/v1/incidents/a1", "/api/v1/incidents/%61%31"):
        assert json.loads(get(api, path).body)["findings"] == report["findings"]


def test_the_incident_has_a_schema_of_its_own():
    jsonschema.validate(incident(), schema("incident"))
    assert set(incident()) == set(schema("skewscope.incident/1")["properties"])
    for state in INCIDENT_STATES:
        jsonschema.validate(incident(state=state), schema("incident"))
    for wrong in ({"state": "ajar"}, {"id": "a/b"}, {"confidence": 2}, {"closed_ns": "soon"}, {"subject": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(incident(**wrong), schema("incident"))


def test_the_catalogue_tells_every_condition(api: Api):
    body = json.loads(get(api, "/api/v1/conditions").body)
    assert {one["id"] for one in body["conditions"]} == {room.id for room in rooms("detectors")}
    one = json.loads(get(api, "/api/v1/conditions/coll-late-rank").body)
    assert one in body["conditions"] and "What to do" in one["page"] and one["needs"]
    assert any(one["alert"] for one in body["conditions"])


def test_life_and_readiness_follow_the_snapshots():
    now_s = 0.0
    api = Api(stands_s=150.0, clock_s=lambda: now_s)
    assert get(api, "/healthz").status == 200
    assert get(api, "/readyz").status == 503 and b"no window" in get(api, "/readyz").body
    api.update(snapshot(ready=("telemetry stale: n3", "the store is full")))
    assert get(api, "/readyz").body == b"telemetry stale: n3\nthe store is full\n"
    api.update(snapshot())
    now_s = 149.0
    assert get(api, "/readyz").status == get(api, "/healthz").status == 200
    now_s = 150.0
    assert get(api, "/readyz").status == get(api, "/healthz").status == 503
    api.update(snapshot())
    assert get(api, "/healthz").status == 200


def newest(api: Api) -> tuple[str, str]:
    body = json.loads(get(api, "/api/v1/incidents").body)
    return body["incidents"][0]["id"], body["last_event"]


def test_who_hears_of_a_change_and_asks_at_once_finds_it():
    class Asking(Changes):
        def tell(self, incidents) -> None:
            super().tell(incidents)
            found.append(newest(api))

    found: list[tuple[str, str]] = []
    api = Api(Asking())
    for at in (1, 2):
        api.update(snapshot(incident(f"n{at}", at)))
    assert found == [("n1", "1-n1"), ("n2", "2-n2")]


def test_a_change_in_the_middle_of_an_answer_is_in_it_or_told_later():
    class Changing(Changes):
        @property
        def last(self) -> str:
            if api is not None:
                api.update(snapshot(incident("n2", 2)))
            return super().last

    api = None
    new = Api(Changing())
    new.update(snapshot(incident("n1", 1)))
    api = new
    assert newest(api) == ("n2", "2-n2")


def test_labels_are_few_whatever_is_asked(api: Api):
    asked = ["/", "/metrics", "/api/v1/incidents/a", "/api/v1/incidents/b", "/x", "/api/v1/incidents/", "//", ""]
    assert {api.label(path) for path in asked} == {"/", "/metrics", "/api/v1/incidents/{id}", "other"}


@pytest.fixture
def server(api: Api):
    server = Server("127.0.0.1:0", api.pages, max_streams=2)
    server.start()
    yield server
    api.close()
    server.stop()


def opened(server: Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*server.address, timeout=10.0)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def next_event(reply: http.client.HTTPResponse) -> dict[str, str]:
    fields: dict[str, str] = {}
    while "event" not in fields:
        fields = {}
        while line := reply.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return fields


def test_changes_come_over_the_wire_as_they_happen(api: Api, server: Server):
    last = json.load(opened(server, "/api/v1/incidents"))["last_event"]
    stream = opened(server, f"/api/v1/events?after={last}")
    assert stream.status == 200 and stream.headers["content-type"] == "text/event-stream"
    api.update(snapshot(incident("c3", 11, "closed"), incident("b2", 7, "closed")))
    event = next_event(stream)
    assert (event["event"], event["id"]) == ("incident", "11-c3")
    jsonschema.validate(json.loads(event["data"]), schema("incident"))
    assert json.load(opened(server, "/api/v1/incidents/c3")) == json.loads(event["data"])
    again = opened(server, "/api/v1/events?after=nonsense", Last_Event_ID=last)  # the header is the newer word
    assert next_event(again)["id"] == "11-c3"
    assert opened(server, "/api/v1/events").status == 503, "there are two streams at most"


def test_the_last_word_of_a_service_ends_its_streams(api: Api, server: Server, caplog: pytest.LogCaptureFixture):
    stream = opened(server, "/api/v1/events")
    assert stream.readline() == b"retry: 3000\n"
    with caplog.at_level(logging.DEBUG):
        api.close()
        server.stop()
        assert stream.read() == b"\n"
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_service_may_bring_its_own_ring(report):
    api = Api(Changes(ring=1))
    api.update(snapshot(incident("a", 1), incident("b", 2)))
    assert b"event: reset" in b"".join(islice(get(api, "/api/v1/events?after=0-a").parts, 2))
