from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.errors import UsageError
from skewscope.watch.notify.alertmanager import RESOLVES_NS, TELL_END_NS, Alertmanager

incident = run_path(str(Path(__file__).parents[1] / "_incidents.py"))["incident"]
receiver = run_path(str(Path(__file__).with_name("_receiver.py")))["receiver"]
PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
SECOND_NS = 10**9
NOW_NS = 1_750_000_020 * SECOND_NS


def told(now_ns: int, state: str = "open", **kw):
    return incident(opened_ns=now_ns - 60 * SECOND_NS, changed_ns=now_ns, state=state, **kw)


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * SECOND_NS


def bodies(server) -> list[list[dict]]:
    return [json.loads(body) for _, _, body in server.seen]


class TestWhatIsSent:
    @pytest.fixture
    def server(self):
        with receiver() as one:
            one.url = one.url.removesuffix("/hook/secret") + "/am/"
            yield one

    def test_a_live_incident_is_sent_each_window_and_would_end_by_itself(self, server):
        one = Alertmanager(server.url)
        assert one.tell([told(NOW_NS)], NOW_NS, "http://w")
        assert one.tell([told(NOW_NS, "growing")], NOW_NS + 30 * SECOND_NS, "http://w")
        first, second = (alerts[0] for alerts in bodies(server))
        assert server.seen[0][0] == "/am/api/v2/alerts"
        assert first["labels"] == second["labels"]
        assert ns(first["startsAt"]) == NOW_NS - 60 * SECOND_NS
        assert ns(second["endsAt"]) == NOW_NS + 30 * SECOND_NS + RESOLVES_NS
        assert (one.counts["sent"], one.waiting) == (2, 0)

    def test_nothing_is_sent_of_nothing_and_of_what_was_never_sent(self, server):
        one = Alertmanager(server.url)
        assert one.tell([], NOW_NS, "") and one.tell([told(NOW_NS, "closed")], NOW_NS, "")
        assert server.seen == []

    def test_an_end_is_repeated_for_a_while(self, server):
        one = Alertmanager(server.url)
        one.tell([told(NOW_NS)], NOW_NS, "")
        closed = told(NOW_NS + 60 * SECOND_NS, "closed")
        for after_s in (60, 90, 60 + TELL_END_NS // SECOND_NS - 1, 60 + TELL_END_NS // SECOND_NS, 5000):
            one.tell([closed], NOW_NS + after_s * SECOND_NS, "")
        assert [ns(alerts[0]["endsAt"]) for alerts in bodies(server)[1:]] == 3 * [NOW_NS + 60 * SECOND_NS]

    def test_changed_labels_end_the_former_alert(self, server):
        one = Alertmanager(server.url)
        one.tell([told(NOW_NS, severity="S3")], NOW_NS, "")
        later_ns = NOW_NS + 30 * SECOND_NS
        one.tell([told(later_ns)], later_ns, "")
        one.tell([told(later_ns)], later_ns + 30 * SECOND_NS, "")
        new, former = bodies(server)[1]
        assert (former["labels"]["severity"], new["labels"]["severity"]) == ("warning", "critical")
        assert (ns(former["endsAt"]), ns(new["endsAt"])) == (later_ns, later_ns + RESOLVES_NS)
        assert ns(bodies(server)[2][1]["endsAt"]) == later_ns

    def test_what_is_open_again_fires_again(self, server):
        one = Alertmanager(server.url)
        for at, state in enumerate(("open", "closed", "open")):
            one.tell([told(NOW_NS + at * SECOND_NS, state)], NOW_NS + at * SECOND_NS, "")
        (again,) = bodies(server)[-1]
        assert again["labels"] == bodies(server)[0][0]["labels"]
        assert ns(again["endsAt"]) == NOW_NS + 2 * SECOND_NS + RESOLVES_NS

    def test_former_labels_survive_a_restart(self, server, tmp_path):
        Alertmanager(server.url, folder=tmp_path).tell([told(NOW_NS, severity="S3")], NOW_NS, "")
        Alertmanager(server.url, folder=tmp_path).tell([told(NOW_NS, "closed")], NOW_NS + SECOND_NS, "")
        (ended,) = bodies(server)[1]
        assert (ended["labels"]["severity"], ns(ended["endsAt"])) == ("warning", NOW_NS)

    @pytest.mark.parametrize("damage", ["{", "[1]", '{"a7": 3}', '{"a7": [{"labels": 1}]}', '{"a7": [{}]}'])
    def test_a_damaged_file_costs_only_former_labels(self, server, tmp_path, damage, caplog):
        (tmp_path / "alertmanager-0.json").write_text(damage)
        one = Alertmanager(server.url, folder=tmp_path)
        assert "is damaged" in caplog.text
        assert one.tell([told(NOW_NS)], NOW_NS, "")
        assert len(bodies(server)[0]) == 1

    def test_a_disk_that_takes_nothing_stops_no_alert(self, server, tmp_path):
        assert Alertmanager(server.url, folder=tmp_path / "gone").tell([told(NOW_NS)], NOW_NS, "")

    def test_what_was_not_taken_waits_for_the_next_window(self, server):
        one = Alertmanager(server.url)
        server.answers = [(503, {}, ""), (400, {}, "bad")]
        assert not one.tell([told(NOW_NS)], NOW_NS, "")
        assert (one.waiting, dict(one.counts)) == (1, {"retried": 1})
        assert not one.tell([told(NOW_NS)], NOW_NS, "")
        assert one.tell([told(NOW_NS)], NOW_NS, "")
        assert (one.waiting, dict(one.counts)) == (0, {"retried": 1, "failed": 1, "sent": 1})

    def test_an_address_that_cannot_be_meant(self):
        with pytest.raises(UsageError):
            Alertmanager("localhost:9093")


@contextmanager
def alertmanager(folder: Path, port: int, hook: str):
    """Run a real Alertmanager until the block ends."""
    (folder / "am.yml").write_text(json.dumps({
        "route": {"receiver": "hook", "group_by": ["incident"], "group_wait": "100ms", "group_interval": "1s"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": hook, "send_resolved": True}]}],
    }))  # fmt: skip
    with open(folder / "am.log", "ab") as log:
        process = subprocess.Popen(
            [PROGRAM, f"--config.file={folder}/am.yml", f"--storage.path={folder}/data", "--cluster.listen-address=",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: asked(port, "/-/ready") is not None)
        yield
    finally:
        process.terminate()
        process.wait(10)


def asked(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.read()
    except OSError:
        return None


def alerts(port: int) -> dict[str, dict]:
    """Return the alerts that fire, by their subject."""
    found = json.loads(asked(port, "/api/v2/alerts") or b"[]")
    return {one["labels"]["subject"]: one for one in found}


def until(true, within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it did not come in time"
        time.sleep(0.05)


@pytest.mark.skipif(not PROGRAM, reason="Alertmanager is not installed")
def test_a_real_alertmanager_notifies_once_of_each_change(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with receiver() as hook:

        def notified() -> list[tuple[str, str]]:
            return [
                (one["status"], one["labels"]["subject"]) for _, _, body in hook.seen
                for one in json.loads(body)["alerts"]
            ]  # fmt: skip

        def tell(*args, **kw) -> None:
            assert sender.tell([told(time.time_ns() // SECOND_NS * SECOND_NS, *args, **kw)], time.time_ns(), "http://w")

        sender = Alertmanager(f"http://127.0.0.1:{port}", folder=tmp_path)
        assert not sender.tell([told(time.time_ns())], time.time_ns(), "")  # it is not there yet
        with alertmanager(tmp_path, port, hook.url):
            tell()
            until(lambda: notified() == [("firing", "llm/rank7")])
            (one,) = alerts(port).values()
            assert one["status"]["state"] == "active"
            assert one["annotations"]["advice"] == "Look at n3."
            tell("growing", summary="worse")
            until(lambda: alerts(port)["llm/rank7"]["annotations"]["description"].startswith("worse"))
        sender = Alertmanager(f"http://127.0.0.1:{port}", folder=tmp_path)  # and we begin anew, too
        with alertmanager(tmp_path, port, hook.url):
            tell("growing", summary="worse")
            assert list(alerts(port)) == ["llm/rank7"]
            host = {"kind": "node", "id": "n3", "rank": None, "peer": None, "node": "n3", "stage": None, "layer": None}
            tell(subject=host)
            until(lambda: list(alerts(port)) == ["n3"] and ("firing", "n3") in notified())
            tell("closed", subject=host)
            until(lambda: not alerts(port))
            until(lambda: ("resolved", "n3") in notified())
    fired = [one for one in notified() if one[0] == "firing"]
    assert sorted(set(fired)) == [("firing", "llm/rank7"), ("firing", "n3")]
    assert fired.count(("firing", "llm/rank7")) == 1
