"""A cluster for tests: the small server of this folder, or a real one, both driven over HTTP by the same actuator.

With SKEWSCOPE_TEST_KUBECONFIG the tests that need no look inside run against that cluster as well. They make nodes
`skewtest-...` (objects only, no machines) and a namespace, and remove them.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from skewscope.acts import Command, NodeState, Outcome, Request
from skewscope.actuators._kubernetes_client import Client, Refusal
from skewscope.actuators.kubernetes import Kubernetes

SERVER = run_path(str(Path(__file__).with_name("_server.py")))
Cluster, serve = SERVER["Cluster"], SERVER["serve"]
REAL = os.environ.get("SKEWSCOPE_TEST_KUBECONFIG", "")
ROOM = {"pods": "110", "cpu": "8", "memory": "8Gi"}
STATUS = {"capacity": ROOM, "allocatable": ROOM, "conditions": [
    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine"}]}  # fmt: skip
RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
OTHERS = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
WAIT_S = 20.0


@dataclass
class World:
    """One cluster; `inside` are its objects where it is ours."""

    kubernetes: Kubernetes
    inside: Any = None
    prefix: str = ""
    made: list[str] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return self.kubernetes.client

    @property
    def tag(self) -> str:
        """A label of all nodes that were made here."""
        return self.prefix.strip("-") or "here"

    @property
    def space(self) -> str:
        return self.kubernetes.namespace

    def put(self, where: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object below a path; it is removed at the end."""
        found = self.client.send("POST", where, body)
        self.made.append(f"{where}/{body['metadata']['name']}")
        return found

    def node(self, name: str = "n1", taints: tuple[Any, ...] = (OTHERS,), **meta: Any) -> str:
        """Make a node that is ready and bears what others put there; return its name."""
        name = f"{self.prefix}{name}"
        labels = {"skewtest": self.tag, **meta.pop("labels", {})}
        notes = {"example.com/owner": "ops; rm -rf", **meta.pop("annotations", {})}
        body = {"apiVersion": "v1", "kind": "Node", "spec": {"taints": list(taints), **meta},
                "metadata": {"name": name, "labels": labels, "annotations": notes}}  # fmt: skip
        self.put("/api/v1/nodes", body)
        self.client.send("PATCH", f"/api/v1/nodes/{name}/status", {"status": STATUS})
        self.until(lambda: "node.kubernetes.io/not-ready" not in str(self.client.get(f"/api/v1/nodes/{name}")["spec"]))
        return name

    def pod(self, name: str, node: str, **meta: Any) -> None:
        """Make a pod that runs on a node."""
        owner = {"apiVersion": "v1", "kind": "Thing", "name": "t", "uid": "1", "controller": True}
        owners = [owner | meta.pop("owner")] if meta.get("owner") is not None else []
        meta.pop("owner", None)
        spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "a", "image": "b"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {"name": name, "namespace": self.space, "ownerReferences": owners, **meta}}  # fmt: skip
        self.put(f"/api/v1/namespaces/{self.space}/pods", body)
        self.runs(name)

    def runs(self, pod: str) -> None:
        """Say that a pod runs, as the kubelet of its node would."""
        where = f"/api/v1/namespaces/{self.space}/pods/{pod}/status"
        self.client.send("PATCH", where, {"status": RUNNING})

    def patch(self, name: str, body: dict[str, Any]) -> None:
        """Change a node as somebody else would."""
        self.client.send("PATCH", f"/api/v1/nodes/{name}", body)

    def raw(self, name: str) -> dict[str, Any]:
        """Return what of a node may not change by an act that is taken back: all but versions, times and managers."""
        node = self.client.get(f"/api/v1/nodes/{name}")
        spec = {key: value for key, value in node["spec"].items() if value}
        told = [(one["type"], one["status"], one.get("message")) for one in (node.get("status") or {})["conditions"]]
        meta = node["metadata"]
        return {"labels": meta.get("labels") or {}, "annotations": meta.get("annotations") or {}, "spec": spec,
                "conditions": sorted(told)}  # fmt: skip

    def state(self, name: str) -> NodeState:
        return self.kubernetes.look().nodes[name]

    def command(self, verb: str, target: str, act: str = "a1", **rest: Any) -> Command:
        request = Request(act, verb, target, rest.pop("incident", "c0ffee"), rest.pop("why", "rank 7 is slow"), **rest)
        return self.kubernetes.command(request, self.kubernetes.look())

    def do(self, command: Command, *, dry_run: bool = False) -> Outcome:
        """Send a command, again and again while it asks for that."""
        outcome = self.kubernetes.apply(command, dry_run=dry_run)
        until_s = time.monotonic() + WAIT_S
        while outcome.result == "waiting" and time.monotonic() < until_s:
            self.settle()
            outcome = self.kubernetes.apply(command, dry_run=dry_run)
        return outcome

    def undo(self, command: Command) -> Command:
        """Return what takes a command back, by way of what an audit record keeps of it."""
        return self.kubernetes.undo(record(command), self.kubernetes.look())

    def settle(self) -> None:
        """Give the controllers time."""
        if self.inside is not None:
            self.inside.settle()
        else:
            time.sleep(0.2)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; in our own cluster it does at once."""
        until_s = time.monotonic() + WAIT_S
        while not holds() and time.monotonic() < until_s:
            self.settle()
        assert holds()

    def served(self, where: str) -> bool:
        return self.client.found(where) is not None

    def clear(self) -> None:
        """Remove what was made, the last first."""
        for where in reversed(self.made):
            with contextlib.suppress(Refusal):
                self.client.send("DELETE", where, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


def record(command: Command) -> dict[str, Any]:
    """Return the audit record of a command, after a round through JSON."""
    request = command.request
    told = {"act": request.act, "verb": request.verb, "target": request.target, "job": request.job,
            "incident": request.incident, "undo": dict(command.undo)}  # fmt: skip
    return json.loads(json.dumps(told))


@contextlib.contextmanager
def serving(inside: Any, context: Any = None) -> Iterator[str]:
    """Give the address of a cluster of ours while it is served."""
    server = serve(inside, context)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig(folder: Path, server: str, **user: Any) -> str:
    """Write a kubeconfig for a server and return its path."""
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}]}  # fmt: skip
    file = folder / "kubeconfig.json"
    file.write_text(json.dumps(document))
    return str(file)


@contextlib.contextmanager
def ours(folder: Path, eviction: str = "policy/v1", **settings: Any) -> Iterator[World]:
    """Give a world of our own."""
    inside = Cluster(eviction)
    inside.token = "secret-7"
    with serving(inside) as server:
        file = kubeconfig(folder, server, token="secret-7")
        yield World(Kubernetes(kubeconfig=file, namespace="skewscope", evict_again_s=0.0, **settings), inside)


@contextlib.contextmanager
def theirs(**settings: Any) -> Iterator[World]:
    """Give a world on the cluster of SKEWSCOPE_TEST_KUBECONFIG; what was made there is removed."""
    name = f"skewtest-{uuid.uuid4().hex[:6]}"
    settings = {"node_selector": f"skewtest={name}", **settings}
    world = World(Kubernetes(kubeconfig=REAL, namespace=name, evict_again_s=0.0, **settings), None, f"{name}-")
    world.put("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield world
    finally:
        world.clear()


@pytest.fixture(params=["ours", "theirs"] if REAL else ["ours"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Give our own cluster, and a real one where there is one."""
    with ours(tmp_path) if request.param == "ours" else theirs() as found:
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    """Give our own cluster, for tests that look inside."""
    with ours(tmp_path) as found:
        yield found


def with_settings(world: World, **settings: Any) -> World:
    """Return the same cluster, seen by an actuator of other settings."""
    return replace(world, kubernetes=replace(world.kubernetes, **settings))
