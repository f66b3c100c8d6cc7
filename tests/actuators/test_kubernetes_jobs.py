"""Pods, jobs and single GPUs: evictions under budgets, restarts of jobs, fences on one device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from skewscope.actuators._kubernetes_client import Client, NoAnswer

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
world, own, record, ours = WORLDS["world"], WORLDS["own"], WORLDS["record"], WORLDS["ours"]
KINDS = {
    "jobs": ("Job", "batch/v1"), "jobsets": ("JobSet", "jobset.x-k8s.io/v1alpha2"),
    "pytorchjobs": ("PyTorchJob", "kubeflow.org/v1"),
}  # fmt: skip
ALLOWED = {"skewscope.io/may-restart": "true"}


def job(world: Any, plural: str = "jobs", name: str = "llama", **meta: Any) -> str:
    """Make a job of two pods, which the controllers place."""
    kind, api = KINDS[plural]
    labels = {"app": name}
    place = {"skewtest": world.tag}
    template = {"metadata": {"labels": labels}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "nodeSelector": place,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "a", "image": "b"}]}}  # fmt: skip
    spec: dict[str, Any] = {"parallelism": 2, "template": template}
    if plural == "jobs":
        spec |= {"completions": 2, "backoffLimit": 50}
    body = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": world.space, **meta}, "spec": spec}
    world.put(f"/apis/{api}/namespaces/{world.space}/{plural}", body)
    world.until(lambda: len(nodes_of(world, name)) == 2)
    for pod in pods_of(world):
        world.runs(pod)
    return f"{world.space}/{name}"


def nodes_of(world: Any, name: str) -> list[str]:
    """Return where the pods of a job are, one entry a pod that does not end."""
    pods = world.client.listed(f"/api/v1/namespaces/{world.space}/pods", labelSelector=f"app={name}")
    there = [one for one in pods if not one["metadata"].get("deletionTimestamp")]
    return sorted(one["spec"]["nodeName"] for one in there if one["spec"].get("nodeName"))


def pods_of(world: Any) -> set[str]:
    return {one["metadata"]["name"] for one in world.client.listed(f"/api/v1/namespaces/{world.space}/pods")}


def free(world: Any, *names: str) -> list[str]:
    return [world.node(name, ()) for name in names]


def test_a_drain_lets_pods_run_and_an_eviction_moves_them(world: Any) -> None:
    n1, n2 = free(world, "n1", "n2")
    job(world)
    assert set(nodes_of(world, "llama")) == {n1, n2}
    command = world.command("drain", n1)
    world.do(command)
    state = world.state(n1)
    assert (state.idle, state.jobs) == (False, (f"{world.space}/llama",))
    assert nodes_of(world, "llama") == [n1, n2]
    world.do(world.undo(command))

    moving = world.command("drain", n1, act="a2", params={"evict": True})
    assert [step.words[1].endswith("/eviction") for step in moving.steps] == [False, True, False]
    assert world.do(moving, dry_run=True).result == "done" and nodes_of(world, "llama") == [n1, n2]
    assert world.do(moving).result == "done"
    world.until(lambda: nodes_of(world, "llama") == [n2, n2])
    assert world.state(n1).idle and world.state(n1).jobs == ()


def test_a_disruption_budget_without_room_makes_the_act_wait(world: Any) -> None:
    n1, n2 = free(world, "n1", "n2")
    job(world)
    version = "policy/v1" if world.served("/apis/policy/v1") else "policy/v1beta1"
    where = f"/apis/{version}/namespaces/{world.space}/poddisruptionbudgets"
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "llama"}}}
    world.put(where, {"apiVersion": version, "kind": "PodDisruptionBudget", "spec": budget,
                      "metadata": {"name": "keep", "namespace": world.space}})  # fmt: skip
    command = world.command("drain", n1, params={"evict": True})
    outcome = world.kubernetes.apply(command, dry_run=False)
    assert outcome.result == "waiting" and "disruption budget" in outcome.detail
    assert nodes_of(world, "llama") == [n1, n2] and not world.state(n1).schedulable
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is True

    world.client.send("DELETE", f"{where}/keep", {})
    assert world.do(command).result == "done"
    world.until(lambda: nodes_of(world, "llama") == [n2, n2])
    assert world.do(command).result == "nothing"


def test_pods_that_must_stay_are_not_evicted(world: Any) -> None:
    n1 = world.node()
    marks = {"asked": {"karpenter.sh/do-not-disrupt": "true"}, "ours": {"skewscope.io/do-not-disrupt": "true"},
             "safe": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}  # fmt: skip
    for name, notes in marks.items():
        world.pod(name, n1, owner={}, annotations=notes)
    world.pod("bare", n1)
    world.pod("daemon", n1, owner={"kind": "DaemonSet"})
    world.pod("moves", n1, owner={})
    command = world.command("drain", n1, params={"evict": True})
    assert [step.body["metadata"]["name"] for step in command.steps if step.words[1].endswith("eviction")] == ["moves"]
    assert world.do(command).result == "done"
    assert pods_of(world) >= {"asked", "safe", "ours", "bare", "daemon"} and "moves" not in pods_of(world)
    assert not world.state(n1).idle


def test_only_the_pods_that_were_shown_are_evicted(own: Any) -> None:
    n1 = own.node()
    own.pod("moves", n1, owner={})
    command = own.command("drain", n1, params={"evict": True})
    own.pod("late", n1, owner={})
    outcome = own.do(command)
    assert outcome.result == "done" and "late came after the decision and stays" in outcome.detail
    assert pods_of(own) == {"late"}


def test_a_pod_of_the_same_name_is_not_taken_for_the_old_one(own: Any) -> None:
    n1 = own.node()
    own.pod("w0", n1, owner={})
    command = own.command("drain", n1, params={"evict": True})
    own.client.send("DELETE", "/api/v1/namespaces/skewscope/pods/w0", {})
    own.pod("w0", n1, owner={})
    assert "w0 came after the decision" in own.do(command).detail
    assert pods_of(own) == {"w0"}


@pytest.mark.parametrize("version", ["policy/v1beta1", "policy/v1"])
def test_evictions_speak_the_version_of_the_server(tmp_path: Path, version: str) -> None:
    with ours(tmp_path, version) as world:
        n1 = world.node()
        world.pod("moves", n1, owner={})
        assert world.do(world.command("drain", n1, params={"evict": True})).result == "done"
        assert pods_of(world) == set()


@pytest.mark.parametrize("plural", list(KINDS))
def test_a_job_is_started_anew_and_keeps_off_the_fenced_node(world: Any, plural: str) -> None:
    kind, api = KINDS[plural]
    if not world.served(f"/apis/{api}"):
        pytest.skip(f"{kind} is not served here")
    n1, n2 = free(world, "n1", "n2")
    id_ = job(world, plural, annotations=ALLOWED)
    state = world.kubernetes.look().jobs[id_]
    assert (state.state, state.nodes, state.may_restart, state.native["kind"]) == ("running", (n1, n2), True, kind)
    command = world.command("exclude", n1, job="llama", params={"requeue": True})
    before = pods_of(world)
    outcome = world.do(command)
    if "does not know how to suspend" in outcome.detail:
        pytest.skip(f"{kind}: {outcome.detail}")
    assert outcome.result == "done"
    world.settle()
    world.until(lambda: nodes_of(world, "llama") == [n2, n2])
    assert not before & pods_of(world)
    assert world.do(command).result == "nothing"
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is True

    assert world.do(world.undo(command)).result == "done"
    after = world.client.get(world.kubernetes.look().jobs[id_].native["path"])
    assert after["metadata"]["annotations"] == ALLOWED
    assert world.raw(n1)["spec"] == {} and nodes_of(world, "llama") == [n2, n2]


def test_a_restart_that_was_broken_off_is_taken_back_by_going_on(own: Any) -> None:
    """The process was gone, or the server away, between the two requests."""
    free(own, "n1", "n2")
    id_ = job(own, annotations=ALLOWED)
    command = own.command("requeue", id_)
    own.client.send(command.steps[0].words[0], command.steps[0].words[1], command.steps[0].body)
    own.settle()
    assert nodes_of(own, "llama") == []
    assert own.kubernetes.holds(record(command), own.kubernetes.look()) is True
    assert "is being restarted for act a1" in own.command("requeue", id_, act="a2").refused
    assert [step.body["spec"] for step in own.command("requeue", id_).steps] == [{"suspend": False}]
    assert own.do(own.undo(command)).result == "done"
    assert nodes_of(own, "llama") == ["n1", "n2"]
    assert own.client.get(own.kubernetes.look().jobs[id_].native["path"])["metadata"]["annotations"] == ALLOWED


def test_a_job_whose_controller_is_away_goes_on_as_it_was(own: Any) -> None:
    free(own, "n1", "n2")
    id_ = job(own, annotations=ALLOWED)
    own.inside.controlled = False
    seen = WORLDS["with_settings"](own, restart_s=0.0)
    outcome = seen.kubernetes.apply(seen.command("requeue", id_), dry_run=False)
    assert outcome.result == "failed" and "did not suspend the job in 0 s; it goes on" in outcome.detail
    after = seen.client.get(seen.kubernetes.look().jobs[id_].native["path"])
    assert after["metadata"]["annotations"] == ALLOWED and after["spec"]["suspend"] is False
    assert nodes_of(seen, "llama") == ["n1", "n2"]


def test_a_job_goes_on_though_the_server_is_away_for_a_moment(own: Any) -> None:
    free(own, "n1", "n2")
    id_ = job(own, annotations=ALLOWED)
    command = own.command("requeue", id_)
    away = [2]

    def sent(method: str, where: str, body: Any, **rest: Any) -> Any:
        if "'suspend': False" in str(body) and away[0]:
            away[0] -= 1
            raise NoAnswer("away")
        return Client.send(own.client, method, where, body, **rest)

    own.client.send = sent
    assert own.kubernetes.apply(command, dry_run=False).result == "done"
    again = own.command("requeue", id_, act="a2")
    away[0] = 9
    outcome = own.kubernetes.apply(again, dry_run=False)
    assert outcome.result == "waiting" and "the job is still suspended" in outcome.detail
    away[0] = 0
    assert own.do(again).result == "done"
    own.settle()
    assert nodes_of(own, "llama") == ["n1", "n2"]


def test_the_word_of_a_controller_alone_does_not_do(own: Any) -> None:
    """A JobSet calls itself suspended before its Jobs are: going on at once would start nothing anew."""
    free(own, "n1", "n2")
    id_ = job(own, "jobsets", annotations=ALLOWED)
    own.inside.controlled = False

    def say(method: str, where: str) -> None:
        own.inside.objects["jobsets", "skewscope", "llama"]["status"] = {
            "conditions": [{"type": "Suspended", "status": "True"}]
        }

    own.inside.before_write = say
    seen = WORLDS["with_settings"](own, restart_s=0.0)
    outcome = seen.kubernetes.apply(seen.command("requeue", id_), dry_run=False)
    assert outcome.result == "failed" and "did not suspend the job" in outcome.detail


def test_jobs_that_may_not_be_restarted_are_not(own: Any) -> None:
    free(own, "n1", "n2")
    notes = ALLOWED
    job(own, name="unasked")
    job(own, name="queued", annotations=notes, labels={"kueue.x-k8s.io/queue-name": "q"})
    over = job(own, name="over", annotations=notes)
    held = job(own, name="held", annotations=notes)
    paths = {id_: own.kubernetes.look().jobs[id_].native["path"] for id_ in (over, held)}
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    own.client.send("PATCH", f"{paths[over]}/status", done)
    own.client.send("PATCH", paths[held], {"spec": {"suspend": True}})
    own.inside.asked.clear()
    whys = {"unasked": "its owner has not allowed it", "queued": "Kueue manages it", "over": "it is over",
            "held": "suspended by somebody else", "none": "no job is called", "": "no job is called"}  # fmt: skip
    for name, why in whys.items():
        command = own.command("requeue", name)
        assert why in command.refused and own.do(command).result == "refused"
        assert why in own.command("exclude", "n1", job=name, params={"requeue": True}).refused
    assert own.inside.asked == []
    everyone = replace(own.kubernetes, restart_all=True)
    assert [one.name for one in everyone.look().jobs.values() if one.may_restart] == ["held", "unasked"]


def test_a_dry_run_of_a_restart_touches_nothing(own: Any) -> None:
    free(own, "n1", "n2")
    id_ = job(own, annotations=ALLOWED)
    before = own.client.get(own.kubernetes.look().jobs[id_].native["path"])
    assert own.do(own.command("requeue", id_), dry_run=True).result == "done"
    assert own.client.get(own.kubernetes.look().jobs[id_].native["path"]) == before


def test_a_server_that_does_not_know_how_to_suspend_is_told_so(own: Any) -> None:
    free(own, "n1", "n2")
    id_ = job(own, annotations=ALLOWED)
    own.inside.unknown.add("suspend")
    command = own.command("requeue", id_)
    outcome = own.do(command)
    assert outcome.result == "failed" and "suspend" in outcome.detail
    assert own.client.get(own.kubernetes.look().jobs[id_].native["path"])["metadata"]["annotations"] == ALLOWED


def test_a_name_that_two_jobs_have_wants_the_namespace(own: Any) -> None:
    free(own, "n1", "n2")
    first = job(own, annotations=ALLOWED)
    own.put("/api/v1/namespaces", {"metadata": {"name": "other"}})
    second = replace(own, kubernetes=replace(own.kubernetes, namespace="other"))
    second.kubernetes.__dict__["client"] = own.client
    job(second, annotations=ALLOWED)
    assert "2 jobs are called 'llama'" in own.command("requeue", "llama").refused
    assert not own.command("requeue", first).refused


def gpus(world: Any, node: str, driver: str = "gpu.nvidia.com") -> None:
    """Publish eight GPUs of a node, as its driver does; an older slice names one more."""
    devices = [{"name": f"gpu-{number}", "attributes": {"type": {"string": "gpu"}}} for number in range(8)]
    for generation, found in ((1, [*devices, {"name": "gpu-8"}]), (2, devices)):
        pool = {"name": node, "generation": generation, "resourceSliceCount": 1}
        world.put("/apis/resource.k8s.io/v1/resourceslices", {"metadata": {"name": f"{node}-{generation}"},
                  "spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": found}})  # fmt: skip


def test_one_gpu_is_fenced_alone_where_the_server_knows_devices(own: Any) -> None:
    n1 = own.node()
    gpus(own, n1)
    before = own.raw(n1)
    command = own.command("drain", n1, gpu=3)
    assert command.after == {"devices": ["gpu-3 skewscope.io/drain=c0ffee:NoSchedule"]}
    assert own.do(command, dry_run=True).result == "done" and not own.inside.of("devicetaintrules")
    assert own.do(command).result == "done" and own.do(command).result == "nothing"
    (rule,) = own.inside.of("devicetaintrules")
    assert rule["spec"]["deviceSelector"] == {"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-3"}
    state = own.state(n1)
    assert own.raw(n1) == before and state.schedulable and state.ours and state.reason.startswith("skewscope:c0ffee")
    assert own.kubernetes.holds(record(command), own.kubernetes.look()) is True
    assert own.command("drain", n1, act="a2", gpu=3).nothing and not own.command("drain", n1, act="a2", gpu=4).nothing

    assert own.do(own.undo(command)).result == "done"
    assert not own.inside.of("devicetaintrules") and own.undo(command).nothing
    assert own.kubernetes.holds(record(command), own.kubernetes.look()) is False


def test_the_rule_of_another_on_the_same_gpu_stays(own: Any) -> None:
    n1 = own.node()
    gpus(own, n1)
    rule = {"metadata": {"name": "theirs"}, "spec": {"deviceSelector": {"pool": n1, "device": "gpu-3"},
            "taint": {"key": "bob", "effect": "NoExecute"}}}  # fmt: skip
    own.put("/apis/resource.k8s.io/v1beta2/devicetaintrules", rule)
    assert "fenced by somebody else: rule theirs" in own.command("drain", n1, gpu=3).refused
    command = own.command("drain", n1, gpu=4)
    own.do(command)
    where = f"/apis/resource.k8s.io/v1beta2/devicetaintrules/{command.undo['parts'][0]['rule']}"
    own.client.send("PATCH", where, {"metadata": {"annotations": {"skewscope.io/drain-act": "a9"}}})
    assert "is not ours any more" in own.undo(command).refused
    assert {one["metadata"]["name"] for one in own.inside.of("devicetaintrules")} > {"theirs"}


@pytest.mark.parametrize(
    "case", ["not served", "other driver", "no such GPU", "evict", "forbidden", "off", "quarantine"]
)
def test_else_the_node_is_fenced_whole(own: Any, case: str) -> None:
    n1 = own.node()
    gpus(own, n1, "tpu.google.com" if case == "other driver" else "gpu.nvidia.com")
    if case == "not served":
        del own.inside.served["resource.k8s.io/v1beta2"]
    if case == "forbidden":
        own.inside.forbidden.add(("GET", "devicetaintrules"))
    seen = WORLDS["with_settings"](own, device_taints=case != "off")
    params = {"evict": True} if case == "evict" else {}
    verb = "quarantine" if case == "quarantine" else "drain"
    command = seen.command(verb, n1, gpu=8 if case == "no such GPU" else 3, params=params)
    assert "devices" not in command.after and any(
        text.startswith(f"skewscope.io/{verb}=") for text in command.after["taints"]
    )
