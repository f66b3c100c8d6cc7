"""Two real processes with one lease, one audit and one folder of verdicts; who acts is killed at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from skewscope.acting.audit import Audit, verify

NODES = 10
POLICY = """
mode = "act"
[schedulers.file]
dry_run = false
folder = "{folder}/verdicts"
nodes = ["n[0-9]"]
[ladder]
start = "note"
verbs = ["note"]
[capacity]
spare_nodes = 0
[storm]
nodes = 100
[cool_down]
retry_s = 0.0
[rate]
per_s = 1000.0
"""


@pytest.fixture
def instances(tmp_path):
    """Yield a function that starts one more instance; all are ended."""
    (tmp_path / "verdicts").mkdir()
    (tmp_path / "policy.toml").write_text(POLICY.format(folder=tmp_path))
    tell(tmp_path, 1)
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        script = str(Path(__file__).with_name("_instance.py"))
        started.append(subprocess.Popen([sys.executable, script, str(tmp_path), "0.01"]))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def tell(folder, number):
    """Let the instances know of so many incidents."""
    (folder / "number.new").write_text(str(number))
    os.replace(folder / "number.new", folder / "number")


def records(folder):
    path = folder / "audit.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def until(what, most_s=120.0):
    end_s = time.monotonic() + most_s
    while not what():
        assert time.monotonic() < end_s, "nothing comes of it"
        time.sleep(0.01)


def test_whoever_is_killed_each_act_is_done_once_and_the_chain_holds(tmp_path, instances):
    pick = random.Random(3)
    running = [instances(), instances()]
    for number in range(1, NODES + 1):
        tell(tmp_path, number)
        if number % 3 == 0:
            time.sleep(pick.uniform(0.0, 0.05))  # anywhere in a turn
            holder = json.loads((tmp_path / "lease").read_text())["owner"].rpartition(":")[2]
            for one in [one for one in running if str(one.pid) == holder]:
                one.kill()
                one.wait()
                running.remove(one)
                running.append(instances())
        until(partial(_stand, tmp_path, number))
    told = records(tmp_path)
    assert verify(tmp_path / "audit.jsonl").ok
    done = Counter(one["target"] for one in told if _stands(one))
    assert done == {f"n{at}": 1 for at in range(NODES)}
    for at in range(NODES):
        verdict = json.loads((tmp_path / f"verdicts/n{at}.json").read_text())
        assert len(verdict["acts"]) == 1
    assert {one["phase"] for one in told} >= {"lease", "intended", "done"}
    assert not [one for one in Audit(tmp_path / "audit.jsonl").records() if one["phase"] == "failed"]


def _stand(folder, count):
    return sum(_stands(one) for one in records(folder)) >= count


def _stands(record):
    return record["phase"] in ("done", "recovered") and record.get("result") == "done"
