from __future__ import annotations

import json
import resource
import threading
import urllib.error
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.errors import UsageError
from skewscope.store.failures import StoreTaken
from skewscope.watch.acting import ActOptions
from skewscope.watch.live import Live, Options, open_files_for

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
receiver = run_path(str(Path(__file__).parent / "notify" / "_receiver.py"))["receiver"]
HOT = "gpu-hw-slowdown"
LOOPBACK = "127.0.0.1:0"


def get(live: Live, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(live.address + path, timeout=5) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def watched(feed, **options) -> Live:
    """Return a live service that has taken all windows of a feed and still has its door open."""
    live = Live(feed, Options(listen=LOOPBACK, only=(HOT,), **options))
    live.start()
    live.service.plan.clock_ns = lambda: feed.now_ns
    feed.service = live.service
    live.service.run()
    return live


def test_what_is_done_on_schedulers_is_served(tmp_path):
    (tmp_path / "policy.toml").write_text('[schedulers.file]\nfolder = "."\nnodes = ["n[000-003]"]\n')
    acts = ActOptions(("file",), tmp_path / "audit.jsonl", tmp_path / "policy.toml", tmp_path / "decisions.jsonl")
    live = watched(W.Feed(W.told(HOT, 0, 1)), act=acts)
    try:
        told = json.loads(get(live, "/api/v1/acts")[1])
        assert told["schema"] == "skewscope.acts/1" and told["modes"] == {"file": "observe"}
        assert set(told["budget"]["file"]) >= {"ours", "foreign", "at_once", "per_day"}
        assert b"skewscope_act_breaker_open 0.0" in get(live, "/metrics")[1]
    finally:
        live.close()
    lease = tmp_path / "audit.jsonl.lease"  # none where the feed ended before the first turn began
    assert not lease.exists() or json.loads(lease.read_text())["owner"] == "", "given back at the end"


def test_what_the_service_says_is_served_and_sent(tmp_path):
    with receiver() as hook:
        feed = W.Feed(W.told(HOT, -8, 4))
        address = hook.url.removesuffix("/hook/secret")
        live = watched(feed, folder=tmp_path / "state", store=tmp_path / "store", webhooks=[hook.url],
                       chats=[f"{address}/chat"], alertmanagers=[address])  # fmt: skip
        try:
            status, body = get(live, "/api/v1/incidents")
            assert (status, [one["condition"] for one in json.loads(body)["incidents"]]) == (200, [HOT])
            assert get(live, "/readyz")[0] == 200
            assert b"skewscope_watch_store_bytes" in get(live, "/metrics")[1]
            name = json.loads(body)["incidents"][0]["id"]
            assert get(live, f"/api/v1/incidents/{name}")[0] == 200
        finally:
            live.close()
        sent = {path: json.loads(body) for path, _, body in reversed(hook.seen)}
        assert sent["/hook/secret"]["link"] == f"{live.address}/api/v1/incidents/{name}"
        assert f"<{live.address}/api/v1/incidents/{name}|details>" in sent["/chat"]["text"]
        assert sent["/api/v2/alerts"][0]["generatorURL"] == live.address
        assert sorted(path for path, *_ in hook.seen if "alerts" not in path) == ["/chat", "/hook/secret"]
    assert {one.name for one in (tmp_path / "state").iterdir()} == {
        "state.json", "outbox-webhook-0.json", "outbox-chat-0.json", "alertmanager-0.json", "history.jsonl"
    }  # fmt: skip
    with pytest.raises(urllib.error.URLError):
        get(live, "/healthz")


def test_a_link_may_be_named(tmp_path):
    with receiver() as hook:
        live = watched(W.Feed(W.told(HOT, -8, 4)), webhooks=[hook.url], link="https://watch.example")
        live.close()
        assert json.loads(hook.seen[0][2])["link"].startswith("https://watch.example/api/v1/incidents/")


def test_it_runs_until_it_is_stopped():
    waiting = threading.Event()

    class Endless(W.Feed):
        def window(self, end_ns: int):
            waiting.set()
            self.ended.wait(20)
            return W.nothing(end_ns)

        def stop(self) -> None:
            super().stop()
            self.ended.set()

    feed = Endless(W.told(HOT, -8, -7))
    feed.ended = threading.Event()
    live = Live(feed, Options(listen=LOOPBACK, only=(HOT,)))
    live.start()
    thread = threading.Thread(target=live.run)
    thread.start()
    assert waiting.wait(20)
    status, body = get(live, "/readyz")
    assert (status, b"the past is being read" in body) == (503, True)
    live.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert feed.states == ["started", "stopped"]
    live.close()  # once more does no harm


def test_one_that_is_told_to_end_before_it_begins_does_not_begin():
    feed = W.Feed([W.nothing(W.START_NS)])
    live = Live(feed, Options(listen=LOOPBACK))
    live.stop()
    live.start()
    live.run()
    assert feed.states == []


def test_what_cannot_be_meant_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    feed = W.Feed([W.nothing(W.START_NS)])
    with pytest.raises(UsageError, match="cannot be made"):
        Live(feed, Options(listen=LOOPBACK, folder=tmp_path / "file" / "state")).start()
    with pytest.raises(UsageError):
        Live(feed, Options(listen="here"))
    for wrong in ({"webhooks": ["hook"]}, {"chats": ["slack"]}, {"alertmanagers": ["h:9093"]}):
        live = Live(feed, Options(listen=LOOPBACK, **wrong))
        with pytest.raises(UsageError, match="wants an address"):
            live.start()
        with pytest.raises((urllib.error.URLError, OSError)):
            get(live, "/healthz")


def test_a_store_that_is_taken_is_told_and_the_door_closes(tmp_path):
    feed = W.Feed([W.nothing(W.START_NS)])
    first = Live(feed, Options(listen=LOOPBACK, store=tmp_path / "store"))
    first.start()
    second = Live(feed, Options(listen=LOOPBACK, store=tmp_path / "store"))
    with pytest.raises(StoreTaken):
        second.start()
    with pytest.raises((urllib.error.URLError, OSError)):
        get(second, "/healthz")
    first.close()
    third = Live(feed, Options(listen=LOOPBACK, store=tmp_path / "store"))
    third.start()
    third.close()


def test_addresses_are_urls(tmp_path):
    live = Live(W.Feed([W.nothing(W.START_NS)]), Options(listen=f"unix:{tmp_path}/watch.sock"))
    live.start()
    assert live.address == f"unix:{tmp_path}/watch.sock"
    live.close()
    live = Live(W.Feed([W.nothing(W.START_NS)]), Options(listen="[::1]:0"))
    live.start()
    assert live.address.startswith("http://[::1]:")
    live.close()


def test_files_may_be_open_for_each_target():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        open_files_for(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (356, hard)
        open_files_for(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (356, hard)
        if hard != resource.RLIM_INFINITY:
            open_files_for(hard)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
