"""Who may do what: the manifest gives just the rights that are used, and of several watchers one holds the lease."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import yaml

from skewscope.actuators._kubernetes_client import Client, Refusal
from skewscope.actuators._kubernetes_login import Credential, Login
from skewscope.actuators.kubernetes import Kubernetes

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
JOBS = run_path(str(Path(__file__).with_name("test_kubernetes_jobs.py")))
world, own = WORLDS["world"], WORLDS["own"]
CORE, RBAC = "/api/v1", "/apis/rbac.authorization.k8s.io/v1"
KINDS = {
    "Namespace": (CORE, "namespaces"), "ServiceAccount": (CORE, "serviceaccounts"), "Role": (RBAC, "roles"),
    "RoleBinding": (RBAC, "rolebindings"), "ClusterRole": (RBAC, "clusterroles"),
    "ClusterRoleBinding": (RBAC, "clusterrolebindings"),
}  # fmt: skip


def rights(manifest: str) -> set[tuple[str, str, str, str]]:
    """Return the rights of a manifest: group, resource, verb, namespace ("" everywhere)."""
    found = set()
    for document in yaml.safe_load_all(manifest):
        for rule in document.get("rules") or ():
            assert "*" not in str(rule)
            space = document["metadata"].get("namespace", "")
            found |= {(group, what, verb, space) for group in rule["apiGroups"] for what in rule["resources"]
                      for verb in rule["verbs"]}  # fmt: skip
    return found


def everything(world: Any, name: str) -> None:
    """Do all that an actuator can do."""
    for number, verb in enumerate(("note", "avoid", "exclude", "drain", "quarantine")):
        params = {"evict": True} if verb == "drain" else {}
        command = world.command(verb, name, act=f"a{number}", params=params)
        assert world.do(command).result == "done"
        assert world.do(world.undo(command)).result == "done"
    lease = world.kubernetes.lease("me")
    assert lease.take().mine and lease.take().mine
    lease.release()


def test_the_manifest_gives_just_the_rights_that_are_used(own: Any) -> None:
    JOBS["free"](own, "n1", "n2")
    job = JOBS["job"](own, annotations=JOBS["ALLOWED"])
    jobset = JOBS["job"](own, "jobsets", "moe", annotations=JOBS["ALLOWED"])
    pytorch = JOBS["job"](own, "pytorchjobs", "dense", annotations=JOBS["ALLOWED"])
    JOBS["gpus"](own, "n1")
    seen = WORLDS["with_settings"](own, test_image="i")
    seen.inside.used.clear()
    everything(seen, "n1")
    for number, id_ in enumerate((job, jobset, pytorch)):
        assert seen.do(seen.command("requeue", id_, act=f"r{number}")).result == "done"
    command = seen.command("drain", "n1", act="g", gpu=3)
    assert seen.do(command).result == "done" and seen.do(seen.undo(command)).result == "done"
    for pod in seen.inside.of("pods"):
        del seen.inside.objects["pods", "skewscope", pod["metadata"]["name"]]
    for plural in ("jobs", "jobsets", "pytorchjobs"):
        seen.inside.served = {key: value - {plural} for key, value in seen.inside.served.items()}
    command = seen.command("quarantine", "n1", act="q")
    seen.inside.kubelet = lambda pod: ("fine", "Succeeded")
    assert seen.do(command).result == "done"
    assert seen.kubernetes.test(WORLDS["record"](command), ("true",), 1.0) == "fine"

    granted = rights(seen.kubernetes.rbac())
    everywhere = {one[:3] for one in granted if not one[3]}
    used = {one[:3] if one[:3] in everywhere else one for one in seen.inside.used}
    assert used == everywhere | {one for one in granted if one[3] and one[:3] not in everywhere}


def test_rights_follow_the_verbs() -> None:
    resources = {what for _, what, verb, _ in rights(Kubernetes().rbac(("note",), evict=False)) if verb != "list"}
    assert resources == {"nodes", "nodes/status", "events", "leases"}
    assert ("", "nodes", "patch", "") not in rights(Kubernetes().rbac(("requeue",)))
    assert not any(what == "devicetaintrules" for _, what, *_ in rights(Kubernetes(device_taints=False).rbac()))
    assert not any(verb in ("delete", "update") and not space for _, what, verb, space in rights(Kubernetes().rbac())
                   if what != "devicetaintrules")  # fmt: skip


def apply(world: Any, manifest: str) -> None:
    """Create what a manifest holds, under names of this world."""
    for document in yaml.safe_load_all(manifest.replace("skewscope-actuator", f"{world.prefix}actuator")):
        api, plural = KINDS[document["kind"]]
        space = document["metadata"].get("namespace")
        if document["kind"] != "Namespace":
            world.put(f"{api}/namespaces/{space}/{plural}" if space else f"{api}/{plural}", document)


@pytest.mark.skipif(not WORLDS["REAL"], reason="rights are judged by a real API server: SKEWSCOPE_TEST_KUBECONFIG")
def test_a_real_server_lets_the_account_of_the_manifest_act_and_no_more() -> None:
    with WORLDS["theirs"]() as world:
        name = world.node()
        apply(world, world.kubernetes.rbac())
        where = f"/api/v1/namespaces/{world.space}/serviceaccounts/{world.prefix}actuator/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = world.client.send("POST", where, asked)["status"]["token"]
        admin = world.client.login
        limited, who = replace(world.kubernetes), Credential(token=token)
        login = Login(admin.server, lambda: who, authorities=admin.authorities, server_name=admin.server_name)
        limited.__dict__["client"] = Client(login)
        everything(replace(world, kubernetes=limited), name)
        for where in ("/api/v1/secrets", f"/api/v1/namespaces/{world.space}/pods/x"):
            with contextlib.suppress(Refusal):
                limited.client.get(where)
                pytest.fail(f"{where} was given")


def test_of_several_watchers_one_holds_the_lease(world: Any) -> None:
    now_s = [0.0]
    first, second = (replace(world.kubernetes.lease(name, "watch", 30.0), clock_s=lambda: now_s[0]) for name in "ab")
    assert (first.take().mine, second.take().mine) == (True, False)
    now_s[0] = 29.0
    assert first.take().mine and second.take().owner == "a"
    now_s[0] = 58.0
    assert not second.take().mine
    now_s[0] = 59.0
    taken = second.take()
    assert (taken.mine, taken.owner, taken.taken_from) == (True, "b", "a")
    assert first.take() == replace(taken, mine=False, taken_from="")
    first.release()
    assert not first.take().mine
    second.release()
    assert first.take().mine


def test_of_many_that_reach_for_the_lease_at_once_one_gets_it(world: Any) -> None:
    gate, mine = threading.Barrier(6), []

    def reach(name: str) -> None:
        lease = world.kubernetes.lease(name, "watch")
        gate.wait()
        if lease.take().mine:
            mine.append(name)

    threads = [threading.Thread(target=reach, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mine) == 1


def test_clocks_of_two_hosts_are_never_compared(own: Any) -> None:
    now_s = [0.0]
    first = own.kubernetes.lease("a", "watch", 30.0)
    second = replace(own.kubernetes.lease("b", "watch", 30.0), clock_s=lambda: now_s[0])
    assert first.take().mine
    lease = own.inside.of("leases")[0]
    lease["spec"]["renewTime"] = "1970-01-01T00:00:00.000000Z"
    assert not second.take().mine
    now_s[0] = 1e9
    assert first.take().mine and not second.take().mine


def test_a_name_is_plain_text_in_the_lease(world: Any) -> None:
    lease = world.kubernetes.lease('h"1\n;x', "watch")
    assert lease.take().owner == "h_1 ;x" and lease.take().mine
