from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope import commands
from skewscope.commands.watch import Watch, feed, options, size
from skewscope.feeds.prometheus import Prometheus
from skewscope.feeds.scrape import Scrape

F = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "feeds" / "_fleet.py")))
WATCH = [sys.executable, "-m", "skewscope", "watch"]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    Watch().arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one source"),
        (("--prometheus", "http://p", "--scrape", "n1:9709"), "give one source"),
        (("--scrape", "n1:9709", "--horizon", "11"), "wants 12 windows or more"),
        (("--scrape", "n1:9709", "--only", "gpu-hw-slowdwn"), "gpu-hw-slowdown"),
        (("--scrape", "n1:9709", "--scrape-interval", "31"), "wants 1 to 30 s"),
        (("--scrape", "n1:9709", "--policy", "p.toml"), "--policy: wants --act NAME"),
        (("--scrape", "n1:9709", "--act", "slurm"), "wants --audit FILE, or --state DIR"),
        (("--scrape", "n1:9709", "--scrape-interval", "nan"), "wants 1 to 30 s"),
        (("--scrape", "n1:9709", "--keep-bytes", "5X"), "is no size"),
        (("--scrape", "n1:9709", "--header", "X-Scope-OrgID"), "wants NAME=VALUE"),
        (("--scrape", "n1:9709", "--listen", "nowhere"), "nowhere"),
        (("--scrape", "n1:9709", "--listen", "127.0.0.1:0", "--webhook", "hook"), "wants an address"),
        (("--scrape", "n1:9709", "--listen", "127.0.0.1:0", "--slack-file", "/gone"), "cannot be read"),
        (("--scrape", "n1:9709", "--listen", "0.0.0.0:0"), "can be reached from other machines"),
        (("--scrape", "@/gone"), "@/gone: there is no such file"),
        (("--prometheus", "p:9090"), "p:9090"),
        (("--scrape", "n1:9709", "--bearer-token-file", "/gone", "--listen", "127.0.0.1:0"), "/gone"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_and_code_2(words, says, capsys):
    assert commands.main(["watch", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1500", 1500), ("1k", 1000), ("2.5M", 2_500_000), ("20G", 20 * 10**9), ("1t", 10**12)],
)
def test_sizes(text, count):
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1", "1.2.3G", "5GB", "1e9", "five"])
def test_texts_that_are_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        size(text)


def test_flags_reach_the_service(tmp_path):
    (tmp_path / "slack").write_text("# ours\nhttps://hooks/1\n\nhttps://hooks/2\n")
    words = ("--scrape", "n1:9709", "--state", "s", "--store", "t", "--keep-hours", "2", "--keep-bytes", "1G",
             "--alertmanager", "http://a,http://b", "--webhook", "http://h", "--slack-file", str(tmp_path / "slack"),
             "--external-url", "https://w/", "--horizon", "20", "--clear-after", "60", "--only", "nic-link-down",
             "--listen", "127.0.0.1:1", "--web-allow-plain")  # fmt: skip
    made = options(parsed(*words))
    assert (made.folder, made.store, made.keep_s, made.keep_bytes) == (Path("s"), Path("t"), 7200.0, 10**9)
    assert (made.alertmanagers, made.webhooks) == (("http://a", "http://b"), ("http://h",))
    assert list(made.chats) == ["https://hooks/1", "https://hooks/2"]
    assert (made.link, made.length, made.patience.clear_s, made.only) == ("https://w", 20, 60.0, ("nic-link-down",))
    assert (made.listen, made.allow_plain) == ("127.0.0.1:1", True)


def test_the_source_is_as_named():
    assert isinstance(feed(parsed("--prometheus", "http://p:9090", "--header", "X-Scope-OrgID=a,B=c=d")), Prometheus)
    assert isinstance(feed(parsed("--scrape", "n1:9709, n2:9709")), Scrape)
    assert parsed("--scrape", "x", "--header", "X-Scope-OrgID=a,B=c=d").header == {"X-Scope-OrgID": "a", "B": "c=d"}


@contextmanager
def running(folder: Path, *words: str):
    """Run a watch until the block ends; yield its address and the process."""
    with open(folder / "watch.log", "ab") as log:
        process = subprocess.Popen([*WATCH, "--listen", f"unix:{folder}/w.sock", *words], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(folder: Path, path: str) -> bytes:
    """Return what the service says at a path, b"" where it does not answer."""
    words = ["curl", "-sg", "--max-time", "5", "--unix-socket", str(folder / "w.sock"), f"http://w{path}"]
    return subprocess.run(words, capture_output=True).stdout


def until(true, within_s: float = 60.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it did not come in time"
        time.sleep(0.1)


def test_a_real_one_watches_and_ends_when_told(tmp_path):
    with F.fleet() as server:
        F.serve(server, F.told_pages("gpu-hw-slowdown", 12))
        targets = ",".join(F.target(server, node) for node in ("n000", "n001"))
        with running(
            tmp_path, "--scrape", targets, "--scrape-interval", "1", "--only", "gpu-hw-slowdown",
            "--state", str(tmp_path / "state"), "--store", str(tmp_path / "store"),
        ) as process:  # fmt: skip
            until(lambda: b"skewscope_watch_targets 2.0" in asked(tmp_path, "/metrics"))
            assert asked(tmp_path, "/readyz").startswith(b"ready")
            assert json.loads(asked(tmp_path, "/api/v1/incidents"))["incidents"] == []
            until(lambda: len(server.seen) > 4)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    log = (tmp_path / "watch.log").read_text()
    assert "Traceback" not in log
    assert (tmp_path / "state" / "state.json").is_file()
    assert list((tmp_path / "store").iterdir())


def test_one_that_waits_for_its_first_window_ends_at_once(tmp_path):
    with running(tmp_path, "--scrape", "127.0.0.1:1") as process:
        until(lambda: asked(tmp_path, "/healthz") != b"")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_an_address_that_is_taken_is_told(tmp_path):
    with F.fleet() as server:
        ran = subprocess.run(
            [*WATCH, "--scrape", "n1:9709", "--listen", F.address(server)], capture_output=True, timeout=60
        )
    assert ran.returncode == 2
    assert b"Traceback" not in ran.stderr


def test_acting_is_by_files_in_the_state_folder(tmp_path):
    args = parsed("--scrape", "n1:9709", "--state", str(tmp_path / "state"), "--act", "slurm,file", "--lease", "slurm")
    told = options(args).act
    assert (
        told.schedulers == ("slurm", "file") and told.audit == tmp_path / "state/audit.jsonl" and told.lease == "slurm"
    )
    assert told.audit.parent.is_dir() and told.policy is None
    assert options(parsed("--scrape", "n1:9709")).act is None
