"""Ray: drains of nodes as a fake of its programs tells them, and once on a real cluster of three on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.actuators.ray import REASON, Ray
from skewscope.errors import SkewscopeError, UsageError

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record, clean = nasty["request"], nasty["record"], nasty["clean"]

# Both programs: `python -c PROBE ADDRESS` prints the state, `ray drain-node` and `restart NODE` change it.
FAKE = """
import json, sys
from pathlib import Path
kept = Path({state!r})
state = json.loads(kept.read_text())
words = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[0] == "-c":
    print(json.dumps(state))
elif words[0] == "drain-node":
    told = dict(zip(words[1::2], words[2::2]))
    if state.get("refuses"):
        sys.exit("Error: The drain request is not accepted: " + state["refuses"])
    state["draining"][told["--node-id"]] = 0
    state["said"] = told
else:
    name = words[1]
    state["nodes"].append(next(n for n in state["nodes"] if n["NodeManagerHostname"] == name) | {{
        "NodeID": "new-" + name, "Alive": True, "DeathReasonMessage": "", "Resources": {{"CPU": 1.0}}}})
    state["free"]["new-" + name] = state["all"]["new-" + name] = {{"CPU": 1.0}}
kept.write_text(json.dumps(state))
"""


def row(name: str, host: str = "", head: bool = False, **more) -> dict:
    resources = {"CPU": 8.0, "GPU": 8.0} | ({"node:__internal_head__": 1.0} if head else {})
    return {"NodeID": f"id-{name}", "Alive": True, "NodeManagerHostname": host or name, "NodeName": name,
            "NodeManagerAddress": "10.0.0.1", "DeathReason": 0, "DeathReasonMessage": "", "Resources": resources,
            "Labels": {"ray.io/node-group": "gpu"}, **more}  # fmt: skip


class Cluster:
    """A fake Ray whose state is a file; `leaves` is what an idle, drained raylet does by itself."""

    def __init__(self, place: Path, *rows: dict):
        self.state, self.calls = place / "state.json", place / "calls"
        self.calls.write_text("")
        full = {one["NodeID"]: {"CPU": 8.0, "GPU": 8.0} for one in rows}
        self.write({"nodes": list(rows), "draining": {}, "free": dict(full), "all": dict(full)})
        program = place / "fake"
        program.write_text(f"#!{sys.executable}\n" + FAKE.format(state=str(self.state), calls=str(self.calls)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (place / "memory").mkdir()
        self.acting = Ray(
            address="head:6379", memory=str(place / "memory"), ray=str(program), python=str(program),
            restart_words=(str(program), "restart", "{node}"),
        )  # fmt: skip

    def read(self) -> dict:
        return json.loads(self.state.read_text())

    def write(self, told: dict) -> None:
        self.state.write_text(json.dumps(told))

    def change(self, **more) -> None:
        self.write(self.read() | more)

    def leaves(self, name: str, reason: str) -> None:
        told = self.read()
        for one in told["nodes"]:
            if one["NodeName"] == name:
                one |= {"Alive": False, "DeathReason": 3, "DeathReasonMessage": reason, "Resources": {}}
                told["draining"].pop(one["NodeID"], None)
        self.write(told)

    def sent(self) -> list[list[str]]:
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [words for words in calls if words[0] != "-c"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, row("h0", head=True), row("n1"), row("n2"))


def drain(cluster: Cluster, node: str = "n1"):
    made = request(target=node)
    command = cluster.acting.command(made, cluster.acting.look())
    return command, cluster.acting.apply(command, dry_run=False), record(made, dict(command.undo))


def test_a_node_is_drained_leaves_and_comes_back(cluster: Cluster):
    acting = cluster.acting
    before = acting.look().nodes
    assert (before["n1"].schedulable, before["n1"].idle, before["n1"].groups) == (True, True, ("gpu",))
    command, outcome, told = drain(cluster)
    assert outcome.result == "done" and acting.holds(told, acting.look()) is True
    said = cluster.read()["said"]
    assert (said["--node-id"], said["--address"], said["--reason"]) == ("id-n1", "head:6379", REASON)
    assert said["--reason-message"] == request().reason and clean(said["--reason-message"])
    node = acting.look().nodes["n1"]
    assert (node.ours, node.schedulable, node.reason) == (True, False, request().reason)
    assert "work still runs" in acting.undo(told, acting.look()).refused
    cluster.leaves("n1", said["--reason-message"])
    gone = acting.look().nodes["n1"]
    assert (gone.ours, gone.idle, acting.holds(told, acting.look())) == (True, True, True)
    assert acting.apply(acting.undo(told, acting.look()), dry_run=False).result == "done"
    back = acting.look().nodes["n1"]
    assert (back.schedulable, back.owner, back.native["node_id"]) == (True, "", "new-n1")
    assert acting.holds(told, acting.look()) is False and acting.undo(told, acting.look()).nothing
    assert acting.look().nodes["n2"] == before["n2"] and list(Path(acting.memory).glob("*.json")) == []


def test_twice_is_no_more_than_once(cluster: Cluster):
    command, _, _ = drain(cluster)
    assert cluster.acting.apply(command, dry_run=False).result == "nothing"
    assert cluster.acting.command(request(), cluster.acting.look()).nothing
    assert len(cluster.sent()) == 1


def test_a_dry_run_changes_nothing(cluster: Cluster):
    acting, before = cluster.acting, cluster.read()
    assert acting.apply(acting.command(request(), acting.look())).result == "done"
    assert cluster.read() == before and list(Path(acting.memory).iterdir()) == []


def test_a_drain_by_somebody_else_is_left_alone(cluster: Cluster):
    cluster.change(draining={"id-n1": 0})
    node = cluster.acting.look().nodes["n1"]
    assert not node.ours and node.owner and not node.schedulable
    assert "bears a mark of" in drain(cluster)[0].refused
    assert cluster.acting.undo(record(request(), {"node_id": "id-n1"}), cluster.acting.look()).refused
    assert cluster.sent() == []


def test_the_head_and_unknown_nodes_are_refused(cluster: Cluster):
    assert "head of the cluster" in drain(cluster, "h0")[0].refused
    for name in nasty["NAMES"]:
        assert drain(cluster, name)[1].result == "refused"
    assert cluster.sent() == []


def test_a_node_that_came_anew_meanwhile_is_a_conflict(cluster: Cluster):
    acting = cluster.acting
    late = acting.command(request(), acting.look())
    told = cluster.read()
    told["nodes"][1]["NodeID"] = "id-other"
    cluster.write(told)
    assert acting.apply(late, dry_run=False).result == "conflict"
    told["nodes"].pop(1)
    cluster.write(told)
    assert acting.apply(late, dry_run=False).result == "conflict" and cluster.sent() == []
    assert acting.holds(record(request(), {"node_id": "id-n1"}), acting.look()) is None


def test_ray_may_refuse(cluster: Cluster):
    cluster.change(refuses="the node is `busy`")
    _, outcome, told = drain(cluster)
    assert (outcome.result, "not accepted: the node is _busy_" in outcome.detail) == ("failed", True)
    assert cluster.acting.holds(told, cluster.acting.look()) is False
    cluster.change(draining={"id-n1": 0})
    assert not cluster.acting.look().nodes["n1"].ours


def test_dead_nodes_count_only_where_they_are_ours(cluster: Cluster):
    cluster.leaves("n2", "raylet crashed")
    assert list(cluster.acting.look().nodes) == ["h0", "n1"]
    cluster.leaves("n2", "skewscope:c0ffee slow")
    assert cluster.acting.look().nodes["n2"].ours


def test_several_raylets_on_one_host_go_by_rays_own_names(tmp_path: Path):
    cluster = Cluster(tmp_path, row("a", host="vm"), row("b", host="vm"), row("c"))
    assert list(cluster.acting.look().nodes) == ["a", "b", "c"]


def test_without_a_way_back(cluster: Cluster):
    _, _, told = drain(cluster)
    acting = Ray(address="head:6379", memory=cluster.acting.memory, ray="x", python=cluster.acting.python)
    assert "start Ray anew" in acting.undo(told, acting.look()).refused


def test_settings_that_cannot_be_meant(cluster: Cluster, tmp_path: Path):
    for address in ("", "--help"):
        with pytest.raises(UsageError, match="address"):
            Ray(address=address).look()
    with pytest.raises(SkewscopeError, match="cannot be run"):
        Ray(address="h:1", python="no-such-python").look()
    with pytest.raises(SkewscopeError, match="another way"):
        cluster.change(nodes=[{"NodeID": 1}])
        cluster.acting.look()
    blind = Ray(address="h:1", python=cluster.acting.python)
    cluster.change(nodes=[row("n1")])
    assert "set memory" in blind.command(request(), blind.look()).refused


# --- a real cluster of three raylets on 127.0.0.2-4 ----------------------------------------------------------------


def ray_program() -> tuple[str, str] | None:
    """Return `ray` and the Python that has it: on the path, or in the folder that SKEWSCOPE_TEST_RAY names."""
    program = shutil.which("ray", path=os.environ.get("SKEWSCOPE_TEST_RAY") or None)
    if program is None:
        return None
    first = Path(program).read_text("utf-8", "replace").splitlines()[0]
    return program, first.removeprefix("#!")


def free_port() -> int:
    with socket.socket() as one:  # Ray keeps 10002-19999 for its workers
        for port in range(21_000 + os.getpid() % 5_000, 32_000):
            try:
                one.bind(("127.0.0.2", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = ray_program()
    if found is None:
        pytest.skip("no ray here: put it on the path, or its folder into SKEWSCOPE_TEST_RAY")
    program, python = found
    port = free_port()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    place = Path(tempfile.mkdtemp(prefix="ray"))  # the paths of its sockets must stay short
    started = []

    def start(last: int, *more: str) -> None:
        ports = ("--min-worker-port", str(20_000 + last * 100), "--max-worker-port", str(20_090 + last * 100))
        own = ("--block", "--num-cpus", "1", "--node-ip-address", f"127.0.0.{last}")
        started.append(subprocess.Popen([program, "start", *own, *ports, *more], **quiet))

    quiet = {"start_new_session": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start(2, "--head", "--port", str(port), "--include-dashboard=false", "--temp-dir", str(place))
    (tmp_path / "memory").mkdir()
    acting = Ray(address=f"127.0.0.2:{port}", memory=str(tmp_path / "memory"), ray=program, python=python)
    try:
        until(acting, lambda nodes: len(nodes) == 1)
        for last, number in ((3, 2), (4, 3)):
            start(last, "--address", acting.address)
            until(acting, lambda nodes, number=number: len(nodes) == number)
        yield acting
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(30)
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        shutil.rmtree(place, ignore_errors=True)


def until(acting: Ray, holds, within_s: float = 90.0) -> None:
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        try:
            if holds(acting.look().nodes):
                return
        except SkewscopeError:
            pass
        time.sleep(0.5)
    raise AssertionError("the cluster did not get there")


WORK = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def where():
    time.sleep(0.2)
    return ray.util.get_node_ip_address()
print("PLACES", *sorted(set(ray.get([where.remote() for _ in range(12)]))))
"""


def test_a_real_cluster_places_nothing_on_a_drained_node(real: Ray, tmp_path: Path):
    acting = real
    made = request(target="127.0.0.3")
    command = acting.command(made, acting.look())
    begun_s = time.monotonic()
    assert acting.apply(command, dry_run=False).result == "done"
    took_s = time.monotonic() - begun_s
    told = record(made, dict(command.undo))
    node = acting.look().nodes["127.0.0.3"]
    assert (node.ours, node.schedulable, acting.holds(told, acting.look())) == (True, False, True)
    words = [acting.python, "-c", WORK, acting.address]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "PLACES 127.0.0.2 127.0.0.4" in said.stdout, said.stdout + said.stderr
    until(acting, lambda nodes: not nodes["127.0.0.3"].native["alive"])
    gone = acting.look().nodes["127.0.0.3"]
    assert gone.ours and gone.reason == made.reason and acting.holds(told, acting.look()) is True
    print(f"drained in {took_s:.1f} s")
