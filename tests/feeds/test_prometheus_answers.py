"""The feed of a Prometheus API beside a server that misbehaves, or answers as other stores do."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest

from skewscope.errors import UsageError
from skewscope.feeds.prometheus import Prometheus
from skewscope.web.access import Access

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_fleet.py"))))
END = F.START_NS + F.WINDOW_NS


class Fake:
    """Answers queries as a test says."""

    def __init__(self, server) -> None:
        self.server, self.asked, self.hung = server, [], threading.Event()
        self.wrong, self.warned, self.nodes, self.more = [], {}, ("n1",), {}
        server.pages = {"/prom/api/v1/query": self.answer}

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        form = {name: value for name, (value, *_) in parse_qs(body.decode()).items()}
        query, t_s = form["query"], float(form["time"])
        self.asked.append((query, dict(handler.headers)))
        if self.wrong and query.startswith("{"):
            return self.wrong.pop(0)(handler)
        known = [{"instance": f"{node}:9400", "job": "agents", **self.more} for node in self.nodes]
        if query.startswith("up"):
            rows = [{"metric": {"__name__": "up", **labels}, "values": [[t_s, "1"]]} for labels in known]
        elif query.startswith("count"):
            rows = [
                {"metric": {"__name__": name}, "value": [t_s, "1"]} for name in ("skewscope_gpu_power_watts", "node_x")
            ]
        elif "skewscope_gpu_power_watts" in query:
            metric = {"__name__": "skewscope_gpu_power_watts", "gpu": "0", "kind": "instant"}
            rows = [{"metric": metric | labels, "values": [[t_s - 15, "100"], [t_s, "200"]]} for labels in known]
        else:
            rows = []
        return json.dumps(
            {"status": "success", "data": {"resultType": "matrix", "result": rows}, **self.warned}
        ).encode()


def status(code, body=b"", **headers):
    def reply(handler):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        handler.wfile.write(f"HTTP/1.1 {code} x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)

    return reply


@pytest.fixture
def fake():
    with F.fleet() as server:
        one = Fake(server)
        one.url = f"http://{F.address(server)}/prom/"
        yield one
        one.hung.set()


def feed_of(fake, **options):
    feed = Prometheus(fake.url, clock_ns=lambda: END + 10**15, **{"timeout_s": 1.0, **options})
    feed.start()
    return feed


def test_a_server_that_is_well(fake, tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    access = Access(bearer_token_file=str(tmp_path / "token"), headers={"X-Scope-OrgID": "gpus"})
    told = feed_of(fake, access=access).window(END)
    assert (told.targets, told.answered, told.errors, told.samples) == (1, 1, (), 2)
    assert told.tables["windows"]["mean_value"].tolist() == [150.0]
    assert {(sent["X-Scope-OrgID"], sent["Authorization"]) for _, sent in fake.asked} == {("gpus", "Bearer t0ken")}


def truncated(handler):
    return b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__na'


def dropped(handler):
    return None


@pytest.mark.parametrize("wrong", [status(500), status(503, b"{}"), truncated, dropped, status(429, Retry_After="0")])
def test_what_goes_wrong_once_is_asked_again(fake, wrong):
    fake.wrong = [wrong]
    told = feed_of(fake).window(END)
    assert told.errors == () and told.samples == 2 and not fake.wrong


def test_the_server_says_how_long_to_wait(fake):
    fake.wrong = [status(429, Retry_After="1")]
    before = time.monotonic()
    assert feed_of(fake).window(END).samples == 2
    assert 1.0 <= time.monotonic() - before < 3.0


@pytest.mark.parametrize(
    ("wrong", "said", "asked"),
    [
        (status(500, b'{"status":"error","error":"no disk"}'), "HTTP status 500: no disk", 2),
        (status(400, b'{"status":"error","error":"parse error"}'), "HTTP status 400: parse error", 1),
        (status(401, b"who?"), "HTTP status 401: who?", 1),
        (truncated, "no answer that can be read", 2),
        (lambda handler: b"<html>proxy</html>", "no answer that can be read", 2),
        (lambda handler: b'{"status":"error","error":"bad"}', ": bad", 1),
        (lambda handler: handler.server.hung.wait(20), "no answer within 0.3 s", 1),
    ],
)
def test_what_stays_wrong_is_told_and_the_next_window_is_well(fake, wrong, said, asked):
    fake.server.hung = fake.hung
    fake.wrong = [wrong] * asked
    feed = feed_of(fake, tries=2, timeout_s=0.3)
    told = feed.window(END)
    assert len(told.errors) == 1 and told.errors[0].startswith(fake.url.rstrip("/")) and said in told.errors[0]
    assert told.samples == 0 and not fake.wrong
    fake.hung.set()
    after = feed.window(END + F.WINDOW_NS)
    assert after.errors == () and after.samples == 2


def test_what_is_too_much_is_asked_for_in_halves_and_stays_so(fake):
    fake.wrong = [status(422, b'{"status":"error","error":"too many samples"}')] * 3
    feed = feed_of(fake)
    told = feed.window(END)
    assert told.errors == () and told.samples == 2 and len(feed._pages) == 4
    fake.asked.clear()
    assert feed.window(END + F.WINDOW_NS).samples == 2
    assert len(fake.asked) == 5


def test_a_huge_answer_is_parted_too(fake):
    fake.wrong = [lambda handler: b" " * 100_000]
    feed = feed_of(fake)
    feed._api.most_bytes = 50_000
    told = feed.window(END)
    assert told.errors == () and told.samples == 2 and len(feed._pages) == 2


def test_partial_answers_are_told(fake):
    fake.warned = {"warnings": ["store 3 is away"], "isPartial": True}
    told = feed_of(fake).window(END)
    assert told.samples == 2
    assert [error.partition(": ")[2] for error in told.errors] == [
        "store 3 is away", "a partial answer: part of the data is missing",
    ]  # fmt: skip


def test_hosts_that_a_partial_answer_leaves_out_are_silent_and_not_gone(fake):
    fake.nodes = ("n1", "n2", "n3")
    feed = feed_of(fake)
    assert feed.window(END).targets == 3
    fake.nodes, fake.warned = ("n1", "n3"), {"warnings": ["No StoreAPIs matched for this query"]}
    told = feed.window(END + F.WINDOW_NS)
    assert (told.targets, told.answered, told.stale) == (3, 2, ("n2",))
    fake.warned = {}  # an answer that is whole: the host was taken out of the fleet
    told = feed.window(END + 2 * F.WINDOW_NS)
    assert (told.targets, told.stale) == (2, ())


def test_a_host_whose_samples_a_partial_answer_leaves_out_is_silent(fake):
    fake.nodes = ("n1", "n2")
    feed = feed_of(fake)
    feed.window(END)

    def of_one(handler):
        metric = {"__name__": "skewscope_gpu_power_watts", "gpu": "0", "kind": "instant", "instance": "n2:9400"}
        data = {"resultType": "matrix", "result": [{"metric": metric, "values": [[END / 1e9 + 30, "100"]]}]}
        return json.dumps({"status": "success", "data": data, "warnings": ["store 3 is away"]}).encode()

    fake.wrong = [of_one]
    told = feed.window(END + F.WINDOW_NS)
    assert (told.targets, told.stale, told.samples) == (2, ("n1",), 1)
    assert feed.window(END + 2 * F.WINDOW_NS).stale == ()


def test_replicas_and_labels_of_the_store_change_nothing(fake):
    plain = feed_of(fake).window(END).tables["windows"]
    fake.more = {"cluster": "a", "prometheus_replica": "prometheus-0", "__tenant_id__": "gpus"}
    pd.testing.assert_frame_equal(feed_of(fake).window(END).tables["windows"], plain)


def test_an_answer_without_rows_may_say_null(fake):
    fake.wrong = [lambda handler: b'{"status":"success","data":{"resultType":"matrix","result":null},"warnings":null}']
    told = feed_of(fake).window(END)
    assert (told.errors, told.samples, told.stale) == ((), 0, ())


def test_a_server_that_refuses_whatever_the_size_is_not_flooded(fake):
    fake.nodes = tuple(f"n{at}" for at in range(200))
    refused = status(422, b'{"status":"error","errorType":"execution","error":"no store is there"}')
    feed = feed_of(fake)
    feed.window(END)
    fake.asked.clear()
    fake.wrong = [refused] * 10_000
    told = feed.window(END + F.WINDOW_NS)
    assert "no store is there" in told.errors[-1] and "however small" in told.errors[-1]
    assert len(fake.asked) < 40 and told.targets == len(told.stale) == 200
    fake.asked.clear()
    fake.wrong = []
    told = feed.window(END + 2 * F.WINDOW_NS)
    assert (told.errors, told.stale, told.samples) == ((), (), 400)
    assert len(fake.asked) < 5


def test_a_label_bomb_costs_its_own_series_and_neither_memory_nor_others(fake, monkeypatch):
    monkeypatch.setattr("skewscope.feeds._labels.MOST_NEW", 50)
    monkeypatch.setattr("skewscope.feeds._labels.SPARE", 0)
    power = {"__name__": "skewscope_gpu_power_watts", "gpu": "0", "kind": "instant"}
    feed = feed_of(fake, metrics=["skewscope_gpu_power_watts", "skewscope_step_seconds_count"])
    known = []
    for at in range(8):
        t_s = END / 1e9 + 30 * at
        bomb = [{"__name__": "skewscope_steps_total", "job_id": f"bomb{at}-{more}", "rank": "0", "instance": "n1:9400"}
                for more in range(60 if at else 0)]  # fmt: skip
        own = [power | {"instance": f"{node}:9400"} for node in ("n1", "n2")]
        rows = [{"metric": metric, "values": [[t_s, "7"]]} for metric in (*bomb, *own)]
        answer = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}).encode()
        fake.wrong = [lambda handler, answer=answer: answer]
        told = feed.window(END + at * F.WINDOW_NS)
        watts = told.tables["windows"]
        assert sorted(watts["node"][(watts["metric"] == "skewscope_gpu_power_watts").to_numpy()]) == ["n1", "n2"]
        assert told.samples == (52 if at else 2)
        assert [error.partition(";")[0] for error in told.errors] == (
            ["n1: 60 new series in a window, more than 50: the rest is left out"] if at else []
        )
        known.append(len(feed._labels._numbers))
    assert max(known) < 200 and len(feed._cutter.roll) == 2 + 7 * 50


def test_a_metric_that_takes_too_long_does_not_blind_the_rest(fake):
    usual, queries = fake.answer, []

    def answer(handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        query = parse_qs(body.decode())["query"][0]
        queries.append(query)
        if query.startswith("{") and "skewscope_steps_total" in query and slow:
            return handler.server.hung.wait(20)
        handler.rfile = io.BytesIO(body)
        return usual(handler)

    slow = [True]
    fake.server.hung, fake.server.pages = fake.hung, {"/prom/api/v1/query": answer}
    feed = feed_of(fake, timeout_s=0.2)
    first = 7 * F.WINDOW_NS - END % (10 * F.WINDOW_NS) + END  # three windows before the slow ones are tried
    first -= first % F.WINDOW_NS
    told = [feed.window(first + at * F.WINDOW_NS) for at in range(24)]
    assert [one.samples for one in told[9:]] == [2] * 15  # by then it has a page of its own
    assert feed._slow == {"skewscope_steps_total"}
    left_out = [any("left out" in error and "skewscope_steps_total" in error for error in one.errors) for one in told]
    assert left_out[10:].count(False) <= 2  # it was tried
    asked = len(queries)
    slow.clear()
    told = [feed.window(first + at * F.WINDOW_NS) for at in range(24, 36)]
    assert feed._slow == set() and told[-1].errors == ()
    assert any("skewscope_steps_total" in query for query in queries[asked:])


def test_a_dead_server_takes_no_longer_than_a_window(fake):
    fake.server.hung = fake.hung
    fake.server.pages = {"/prom/api/v1/query": lambda handler: handler.server.hung.wait(20)}
    feed = feed_of(fake, timeout_s=0.2, tries=3)
    before = time.monotonic()
    told = feed.window(END)
    assert told.errors and time.monotonic() - before < 5
    feed.stop()
    assert feed.window(END + 10**18).samples == 0  # stopped: waits for nothing


@pytest.mark.parametrize("url", ["nonsense", "ftp://a", "http://", "http://u:p@a"])
def test_no_address_is_refused(url):
    with pytest.raises(UsageError, match="no address of a server"):
        Prometheus(url)


def test_secrets_are_looked_at_when_it_starts(fake):
    with pytest.raises(UsageError, match="cannot be read"):
        feed_of(fake, access=Access(bearer_token_file="/no/such/file"))
    with pytest.raises(UsageError, match="line end"):
        feed_of(fake, access=Access(headers={"X-A": "b\r\nc: d"}))


def test_a_label_that_the_scrape_pushed_aside_comes_back(fake):
    scraped = {"instance": "n1:9400", "job": "agents", "exported_job": "train"}
    row = {
        "metric": {"__name__": "skewscope_input_ready_ratio", "rank": "3", **scraped},
        "values": [[END / 1e9, "0.5"]],
    }
    fake.wrong = [lambda handler: json.dumps({"status": "success", "data": {"result": [row]}}).encode()]
    told = feed_of(fake, metrics=["skewscope_input_ready_ratio"])
    rows = told.window(END).tables["windows"]
    assert rows[["node", "job", "rank"]].values.tolist() == [["n1", "train", 3]]
    assert np.isclose(rows["mean_value"].iloc[0], 0.5)
