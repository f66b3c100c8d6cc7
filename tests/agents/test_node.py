from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from skewscope.catalogue import load
from skewscope.errors import UsageError

fakes = SimpleNamespace(**run_path(str(Path(__file__).with_name("_collectors.py"))))
node_module, settings_module = load("agents.node"), load("agents.settings")
LISTEN = "127.0.0.1:0"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function: collectors by name to a running node."""
    running = []

    def start(*, reload=None, interval_s=0.2, **collectors):
        found = fakes.rooms(**collectors)
        monkeypatch.setattr(node_module, "collectors", lambda wanted=(): found)
        made = settings_module.Settings(
            listen=LISTEN, interval_s=interval_s, slow_interval_s=interval_s, deadline_s=0.5, spool=tmp_path
        )
        node = node_module.Node(made, reload)
        node.serve()
        thread = threading.Thread(target=node.run)
        thread.start()
        running.append((node, thread))
        return node

    yield start
    for node, thread in running:
        node.stop()
        thread.join(5)
        assert not thread.is_alive()


def get(node, path="/metrics", **headers):
    host, port = node.address
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as reply:
        body = reply.read()
        return gzip.decompress(body) if reply.headers["Content-Encoding"] == "gzip" else body


def value(node, name, **labels):
    for family in parse_text(get(node).decode()):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return one.value
    return None


def until(true, within_s=5.0):
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def test_samples_come_on_the_agents_own_clock(started):
    node = started(good=fakes.Good)
    first = until(lambda: value(node, "skewscope_host_clock_synchronized"))
    until(lambda: value(node, "skewscope_host_clock_synchronized") > first)
    assert value(node, "skewscope_collector_success", collector="good") == 1
    assert get(node, "/readyz") == b"ready\n"


def test_a_failing_and_a_hanging_collector_leave_the_others_alone(started):
    fakes.Hanging.let_go.clear()
    node = started(good=fakes.Good, failing=fakes.Failing, hanging=fakes.Hanging, empty=fakes.Empty)
    until(lambda: value(node, "skewscope_collector_success", collector="hanging") == 0)
    assert value(node, "skewscope_collector_success", collector="failing") == 0
    assert value(node, "skewscope_collector_success", collector="empty") is None
    looks = until(lambda: value(node, "skewscope_host_clock_synchronized"))
    until(lambda: (now := value(node, "skewscope_host_clock_synchronized")) and now > looks + 2)
    fakes.Hanging.let_go.set()


def test_old_values_vanish_when_their_source_stops(started):
    class Dying(fakes.Good):
        def collect(self):
            if self.looks:
                raise OSError("gone")
            return list(super().collect())

    node = started(good=Dying, interval_s=0.2)
    until(lambda: value(node, "skewscope_host_clock_synchronized"))
    until(lambda: value(node, "skewscope_host_clock_synchronized") is None)
    assert value(node, "skewscope_series_dropped_total", reason="stale") == 1


def test_free_memory_is_given_back_again_and_again(started, monkeypatch):
    given = []
    monkeypatch.setattr(node_module, "TIDY_AFTER_S", 0.0)
    monkeypatch.setattr(node_module, "TIDY_EVERY_S", 0.3)
    monkeypatch.setattr(node_module, "give_back", lambda: given.append(time.monotonic()))
    started(good=fakes.Good)
    until(lambda: len(given) == 3)
    assert given[2] - given[0] > 0.5


def test_settings_are_taken_anew_and_bad_ones_are_not(started, caplog):
    turns = iter(
        [
            settings_module.Settings(listen=LISTEN, every={"good": 33.0}, deadline_s=0.5),
            UsageError("agent.toml: key intervall is unknown"),
        ]
    )

    def reload():
        turn = next(turns)
        if isinstance(turn, Exception):
            raise turn
        return turn

    node = started(good=fakes.Good, reload=reload)
    node.hang_up()
    until(lambda: node.settings.every == {"good": 33.0})
    node.hang_up()
    until(lambda: "intervall" in caplog.text)
    assert node.settings.every == {"good": 33.0} and node.alive()


def test_a_reload_keeps_what_is_known_and_leaks_no_file(started, tmp_path):
    numbers = iter(range(100, 200))

    def reload():
        return settings_module.Settings(listen=LISTEN, interval_s=0.2, most_series=next(numbers), spool=tmp_path)

    class Files(fakes.Good):
        def __init__(self, place):
            super().__init__(place)
            self.file = open(os.devnull)  # noqa: SIM115 - it is held as the collectors' own files are

    node = started(good=Files, reload=reload)
    node._place.board.update({"gpus": [{"slot": 0, "uuid": "GPU-a"}], "gpu-activity": {"GPU-a": 0.5}})
    counts = []
    for _ in range(6):
        most = node.settings.most_series
        node.hang_up()
        until(lambda before=most: node.settings.most_series != before)
        until(lambda: any(one.last for one, _ in node.outcomes()))
        counts.append(len(os.listdir("/proc/self/fd")))
    assert node._place.board["gpus"] and "gpu-activity" not in node._place.board
    assert max(counts) - min(counts) <= 2
    until(lambda: sum(one.name == "collectors" for one in threading.enumerate()) == 1)


def test_who_asks_before_there_are_samples_waits_for_them(started):
    node = started(good=fakes.Good)
    assert b"skewscope_build_info" in get(node)
    end_s = time.monotonic() + 20  # on a busy machine the first page may be made before a collector has answered
    while b"skewscope_host_clock_synchronized 1" not in get(node):
        assert time.monotonic() < end_s


def test_a_gpu_has_one_access_state_while_it_hangs():
    made = load("agents.self_metrics")
    rows = [(made.ACCESS, (slot, "u", state), state == "ok") for slot in "03" for state in ("ok", "hung")]
    rows.append(("skewscope_gpu_power_watts", ("3", "u", "average"), 9))
    block = load("agents.exposition").Renderer().block(rows)[0]
    left = made.without_access(block, [3])
    assert left[made.ACCESS][0].count(b'gpu="0"') == 2 and b'gpu="3"' not in left[made.ACCESS][0]
    assert left["skewscope_gpu_power_watts"] == block["skewscope_gpu_power_watts"]
    assert made.ACCESS not in made.without_access(block, [])


def test_a_taken_address_is_a_clear_error(started):
    node = started(good=fakes.Good)
    host, port = node.address
    other = node_module.Node(settings_module.Settings(listen=f"{host}:{port}", collectors=("tcp",)))
    with pytest.raises(UsageError, match=str(port)):
        other.serve()
    other.close()


def test_an_interval_of_no_collector_is_a_clear_error(capsys):
    from skewscope.commands import main

    assert main(["agent", "--once", "--every", "rdna=5"]) == 2
    assert "did you mean rdma" in capsys.readouterr().err


def agent(*flags, **environ):
    words = [sys.executable, "-m", "skewscope", "agent", "--listen", LISTEN, *flags]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ})


def address_of(process):
    line = process.stderr.readline()
    while "serving" not in line:
        assert process.poll() is None, f"the agent ended: {line}"
        line = process.stderr.readline()
    return line.split("serving ")[1].split()[0]


def test_the_process_stops_cleanly_and_reads_its_settings_again(tmp_path: Path):
    config = tmp_path / "agent.toml"
    config.write_text('[agent]\nevery = ["tcp=40"]\n')
    process = agent("--config", str(config), "--spool", str(tmp_path), "--collectors", "tcp,clock-offset")
    try:
        where = address_of(process)
        config.write_text("[agent]\nintervall = 3\n")
        process.send_signal(signal.SIGHUP)
        line = process.stderr.readline()
        assert "the settings stay as they were" in line and "intervall" in line
        config.write_text("[agent]\ninterval = 0.5\n")
        process.send_signal(signal.SIGHUP)
        assert "settings read again" in process.stderr.readline()
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=5) as reply:
            assert b"skewscope_tcp" in reply.read()
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


def test_a_lane_that_is_busy_when_it_is_due_fails_nobody(started):
    class Late(fakes.Good):
        pass

    node = started(good=Late)
    lane = node._lanes["fast"]
    lane.start = lambda due: False  # it was at the turn before, and has done with it a moment later
    until(lambda: node._watched["good"].due_s < time.monotonic())
    time.sleep(0.5)
    assert all(last is None or last.state == "ok" for _, last in node.outcomes())
