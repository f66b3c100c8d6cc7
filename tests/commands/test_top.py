from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest

from skewscope import commands
from skewscope.feeds.scrape import Scrape
from skewscope.reports.json_schema import schema
from skewscope.watch.live import Live, Options
from skewscope.watch.rehearsal import Rehearsal, WithPast
from skewscope.web.server import Reply, Server

HOT = "gpu-hw-slowdown"
SPOOL = Path(__file__).parents[2] / "sample_data/spool-slow-rank"
TOP = [sys.executable, "-m", "skewscope", "top"]


def incidents(url: str) -> list:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/incidents") as reply:
            return json.loads(reply.read())["incidents"]
    except urllib.error.HTTPError:  # it has not looked yet
        return []


@pytest.fixture(scope="module")
def fleet():
    """A real service that watches simulated agents: its address, the agents' targets, and whom it names."""
    rehearsal = Rehearsal(HOT, 0, 16)
    rehearsal.start()
    live = Live(WithPast(Scrape(rehearsal.targets), rehearsal.past), Options(listen="127.0.0.1:0", only=(HOT,)))
    live.start()
    thread = threading.Thread(target=live.run, daemon=True)
    thread.start()
    end_s = time.monotonic() + 60
    while not incidents(live.address):
        assert time.monotonic() < end_s, "the service found nothing"
        time.sleep(0.1)
    yield live.address, ",".join(rehearsal.targets), rehearsal.simulation.truth["faults"][0]["subject"]
    live.stop()
    thread.join(20)
    rehearsal.stop()


def once(capsys, *words: str) -> str:
    assert commands.main(["top", "--once", *words]) == 0
    return capsys.readouterr().out


def test_the_service_alone_gives_job_findings_and_whom_they_name(fleet, capsys):
    url, _, subject = fleet
    told = json.loads(once(capsys, "--watch", url, "--json"))
    jsonschema.validate(told, schema("top"))
    assert told["trouble"] == "" and told["jobs"][0]["ranks"] == 16 and told["jobs"][0]["slowdown"] > 1
    assert [(one["condition"], one["subject"], one["state"]) for one in told["findings"]] == [(HOT, subject, "open")]
    assert told["findings"][0]["since_ns"] > 0 and told["findings"][0]["cost_s"] > 0
    first = told["rows"][0]
    assert (first["state"], f"{first['node']}/gpu{first['gpu']}") == ("culprit", subject)
    assert sorted(row["rank"] for row in told["rows"]) == list(range(16))
    assert all(row["step_s"] > 0 and 0 <= row["wait_ratio"] <= 1 for row in told["rows"])
    assert first["work_ratio"] == max(row["work_ratio"] for row in told["rows"]) > 1
    assert [row["state"] for row in told["rows"]].count("culprit") == 1


def test_with_agents_every_gpu_has_its_row_and_the_culprit_is_first(fleet, capsys):
    url, targets, subject = fleet
    told = json.loads(once(capsys, "--watch", url, "--scrape", targets, "--json"))
    first = told["rows"][0]
    told["rows"] = [row for row in told["rows"] if row["job"]]  # the third node is a spare
    assert len(told["rows"]) == 16 and first["state"] == "culprit"
    assert f"{first['node']}/gpu{first['gpu']}" == subject and first["why"] == HOT
    assert all(0 < row["util_ratio"] <= 1 and row["power_watts"] > 100 and row["step_s"] > 0 for row in told["rows"])
    assert first["work_ratio"] == max(row["work_ratio"] for row in told["rows"])
    page = once(capsys, "--watch", url, "--scrape", targets, "--filter", "n001", "--sort", "temp")
    assert HOT in page and "n001" in page and "8 rows of 24" in page


def test_agents_alone(fleet, capsys):
    told = json.loads(once(capsys, "--scrape", f"{fleet[1]},gone=127.0.0.1:1", "--json"))
    jsonschema.validate(told, schema("top"))
    assert {row["node"] for row in told["rows"]} == {"n000", "n001", "n002", "gone"}
    (gone,) = [row for row in told["rows"] if row["node"] == "gone"]
    assert gone["state"] == "silent" and "refused" in gone["why"] and "127.0.0.1:1" in told["wrong"][0]


def test_a_spool_on_this_machine(capsys):
    told = json.loads(once(capsys, "--spool", str(SPOOL), "--json"))
    jsonschema.validate(told, schema("top"))
    assert len(told["rows"]) > 1 and told["rows"][0]["state"] == "culprit"
    assert told["rows"][0]["rank"] == told["findings"][0]["rank"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--watch", "http://127.0.0.1:1", "--once"), 1, "does not answer"),
        (("--watch", "nowhere", "--once"), 2, "wants an address"),
        (("--watch", "http://u:geheim@h:1", "--once"), 2, "--password-file"),
        (("--scrape", "127.0.0.1:1", "--once"), 1, "does not answer"),
        (("--scrape", "no port", "--once"), 2, "is no address"),
        (("--spool", "/gone", "--once"), 2, "no such file or folder"),
        (("--spool", ".", "--watch", "http://h:1", "--once"), 2, "stands alone"),
        (("--interval", "0.1"), 2, "wants 0.5 to 3600 s"),
        (("--sort", "height", "--once"), 2, "there is state, rank"),
        (("--bearer-token-file", "/gone", "--once"), 2, "cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line(words, code, says, capsys):
    assert commands.main(["top", *words]) == code
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and "geheim" not in said


@contextmanager
def answering(pages: dict[str, bytes], seen: list):
    def reply(path, headers):
        seen.append(headers)
        body = pages.get(path)
        return Reply(404, "text/plain", b"no\n") if body is None else Reply(200, "application/json", body)

    server = Server("127.0.0.1:0", reply)
    server.start()
    try:
        yield "http://{}:{}".format(*server.address)
    finally:
        server.stop()


def test_logins_are_sent_and_strange_answers_are_told(tmp_path, capsys):
    (tmp_path / "token").write_text("abc\n")
    seen: list = []
    with answering({"/api/v1/incidents": b'{"incidents": [{"state": "open"}], "time_ns": 1}', "/api/v1/report": b"{}",
                    "/metrics": b""}, seen) as url:  # fmt: skip
        words = ["top", "--watch", url, "--once", "--bearer-token-file", str(tmp_path / "token"), "--header", "X-Org=a"]
        assert commands.main(words) == 1
    assert "an incident is not understood" in capsys.readouterr().err
    older = {"/api/v1/incidents": b'{"incidents": [], "time_ns": 1}', "/api/v1/report": b"{}", "/metrics": b""}
    with answering(older, []) as url:  # without /api/v1/ranks
        assert json.loads(once(capsys, "--watch", url, "--json"))["rows"] == []
    with answering({**older, "/api/v1/ranks": b'{"ranks": [7]}'}, []) as url:
        assert commands.main(["top", "--watch", url, "--once"]) == 1
    assert "a rank is not understood" in capsys.readouterr().err
    assert seen[0]["authorization"] == "Bearer abc" and seen[0]["x-org"] == "a"
    with answering({"/api/v1/incidents": b"<html>"}, []) as url:
        assert commands.main(["top", "--watch", url, "--once"]) == 1
    assert "no JSON" in capsys.readouterr().err


def modes(descriptor: int) -> list:
    return termios.tcgetattr(descriptor)[:4]


@contextmanager
def on_a_terminal(*words: str):
    """Run `top` on a terminal of its own: (process, our end, what it was like before)."""
    ours, theirs = pty.openpty()
    before = modes(theirs)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "30"}
    process = subprocess.Popen([*TOP, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        yield process, ours, theirs, before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def until(ours: int, text: bytes, within_s: float = 60.0) -> bytes:
    """Return what the terminal showed, up to a text."""
    seen, end_s = b"", time.monotonic() + within_s
    while text not in seen:
        assert time.monotonic() < end_s, seen[-2000:]
        if select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 65536)
    return seen


def test_keys_steer_it_and_q_leaves_the_terminal_as_it_was(fleet):
    url, targets, _ = fleet
    with on_a_terminal("--watch", url, "--scrape", targets) as (process, ours, theirs, before):
        until(ours, b"of 24 rows")
        assert modes(theirs) != before
        os.write(ours, b"\x1b[C")
        until(ours, b"sorted by state")
        os.write(ours, b"/n001\r")
        until(ours, b"8 rows of 24")
        os.write(ours, b"q")
        until(ours, b"\x1b[?1049l")  # back from the alternate screen
        assert process.wait(20) == 0
        assert modes(theirs) == before


def test_an_end_from_outside_leaves_the_terminal_as_it_was():
    with on_a_terminal("--watch", "http://127.0.0.1:1") as (process, ours, theirs, before):
        until(ours, b"does not answer")
        process.send_signal(signal.SIGTERM)
        until(ours, b"\x1b[?1049l")
        assert process.wait(20) == 0
        assert modes(theirs) == before


def test_over_a_pipe_it_prints_page_after_page(fleet):
    words = [*TOP, "--watch", fleet[0], "--interval", "0.5", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert all(one["schema"] == "skewscope.top/1" and one["findings"] for one in told)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
