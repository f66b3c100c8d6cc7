"""What Kubernetes says of its nodes and jobs: fences of ours and of others, pods and whether they may be moved."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..acts import OWNER, Fleet, JobState, NodeState, plain_text
from ._kubernetes_client import Client, Object, Refusal, path
from ._kubernetes_devices import by_node
from ._kubernetes_jobs import LIVING, Jobs, of_pod
from ._kubernetes_marks import CONDITION, CORDON, DOMAIN, SERVERS_OWN, Marks, is_ours, taint_text
from ._kubernetes_settings import Settings

NAME = "kubernetes"
NODES, PODS = path("api", "v1", "nodes"), path("api", "v1", "pods")
PAUSED = f"{DOMAIN}/pause"
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
FENCING = ("NoSchedule", "NoExecute")
STAYS = {  # annotations that say that a pod must not be moved
    "karpenter.sh/do-not-disrupt": "true", "karpenter.sh/do-not-evict": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false", f"{DOMAIN}/do-not-disrupt": "true",
}  # fmt: skip


def fleet(client: Client, settings: Settings) -> Fleet:
    """Return all nodes and jobs; raises SkewscopeError where the nodes cannot be listed."""
    query = {"labelSelector": settings.node_selector} if settings.node_selector else {}
    nodes = list(client.listed(NODES, **query))
    pods, told = _pods(client, LIVING)
    jobs = Jobs(client, settings.restart_all)
    states = jobs.states(pods)
    return _fleet(client, settings, nodes, pods, states, told and jobs.complete)


def one_node(client: Client, settings: Settings, name: str, *, jobs: bool, devices: bool) -> Fleet:
    """Return one node alone, as it is now, just before something is sent; all jobs and devices where asked for."""
    node = client.found(f"{NODES}{path(name)}") if name else None
    pods, told = _pods(client, LIVING if jobs else f"spec.nodeName={name},{LIVING}")
    reader = Jobs(client, settings.restart_all)
    states = reader.states(pods) if jobs else {}
    seen = settings if devices else replace(settings, device_taints=False)
    return _fleet(client, seen, [node] if node else [], pods, states, told and reader.complete)


def _pods(client: Client, fields: str) -> tuple[list[Object], bool]:
    """Return the pods that have not ended, and whether we may know them."""
    try:
        return list(client.listed(PODS, fieldSelector=fields)), True
    except Refusal as error:
        if error.status != 403:
            raise
        return [], False


def _fleet(
    client: Client, settings: Settings, nodes: Iterable[Object], pods: Iterable[Object], jobs: Mapping[str, JobState],
    complete: bool,
) -> Fleet:  # fmt: skip
    placed: dict[str, list[Object]] = {}
    for pod in pods:
        placed.setdefault(str((pod.get("spec") or {}).get("nodeName") or ""), []).append(pod)
    devices = by_node(client, settings.gpu_drivers) if settings.device_taints else {}
    eviction = _eviction(client)
    found = {}
    for node in nodes:
        name = node["metadata"]["name"]
        native = {**_native(node, placed.get(name, [])), "eviction": eviction,
                  **devices.get(name, {"devices": {}, "rules": [], "api": ""})}  # fmt: skip
        found[name] = _state(settings, node, native, complete)
    return Fleet(NAME, found, jobs, time.time_ns(), complete)


def _native(node: Object, pods: Iterable[Object]) -> dict[str, Any]:
    """Return what an act needs to know of a node: plain JSON, only the fields that we touch."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    told = [one for one in status.get("conditions") or () if one.get("type") == CONDITION]
    kept = {"metadata": {"labels": dict(labels), "annotations": _domain(notes)},
            "spec": {"unschedulable": bool(spec.get("unschedulable")), "taints": spec.get("taints") or []},
            "status": {"conditions": told}}  # fmt: skip
    return {"uid": meta.get("uid", ""), "version": meta.get("resourceVersion", ""), "node": kept,
            "control_plane": any(key in labels for key in CONTROL_PLANE),
            "paused": "true" in (labels.get(PAUSED), notes.get(PAUSED)),
            "pods": [one for one in map(_pod, pods) if one["why"] != "daemon"]}  # fmt: skip


def _domain(texts: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(text) for key, text in texts.items() if key.startswith(f"{DOMAIN}/")}


def _pod(pod: Object) -> dict[str, str]:
    meta = pod["metadata"]
    return {"namespace": meta["namespace"], "name": meta["name"], "uid": meta.get("uid", ""), "job": of_pod(pod),
            "why": _why_it_stays(pod)}  # fmt: skip


def _why_it_stays(pod: Object) -> str:
    """Return why a pod is not evicted, "" it may be; "daemon" for what belongs to the node or the cluster."""
    meta = pod["metadata"]
    notes, owners = meta.get("annotations") or {}, meta.get("ownerReferences") or ()
    system = str((pod.get("spec") or {}).get("priorityClassName")).startswith("system-")
    daemon = "kubernetes.io/config.mirror" in notes or any(one.get("kind") == "DaemonSet" for one in owners)
    if daemon or system or meta["namespace"] == "kube-system":
        return "daemon"
    if meta.get("deletionTimestamp"):
        return "it ends already"
    if asked := [key for key, value in STAYS.items() if notes.get(key) == value]:
        return f"{asked[0]} forbids it"
    return "" if any(one.get("controller") for one in owners) else "nothing would make it anew"


def _state(settings: Settings, node: Object, native: Mapping[str, Any], complete: bool) -> NodeState:
    marks = Marks.of(native["node"])
    labels = node["metadata"].get("labels") or {}
    foreign, why = _foreign_fence(settings, node, marks)
    reason = marks.reason() or next((rule["reason"] for rule in native["rules"] if rule["act"]), "")
    fenced = any(
        taint.get("effect") in FENCING and _is_fence(settings, str(taint.get("key"))) for taint in marks.taints
    )
    return NodeState(
        node["metadata"]["name"], not marks.unschedulable and not fenced and _is_ready(node),
        foreign or (OWNER if reason else ""), why or reason, complete and not native["pods"],
        tuple(sorted({pod["job"] for pod in native["pods"] if pod["job"]})),
        tuple(labels[key] for key in settings.group_labels if labels.get(key))[:1],
        next((labels[key] for key in settings.rack_labels if labels.get(key)), ""), native=native,
    )  # fmt: skip


def _is_fence(settings: Settings, key: str) -> bool:
    return key.startswith((SERVERS_OWN, f"{DOMAIN}/")) or _is_others(settings, key)


def _is_others(settings: Settings, key: str) -> bool:
    return any(part in key for part in settings.fence_taints)


def _foreign_fence(settings: Settings, node: Object, marks: Marks) -> tuple[str, str]:
    """Return whose fence stands that is not ours, and what it is; ("", "") nobody's."""
    for taint in marks.taints:
        if _is_others(settings, str(taint.get("key"))):
            return plain_text(str(taint["key"])), plain_text(f"taint {taint_text(taint)}")
    if marks.unschedulable and not is_ours(marks.annotations.get(CORDON, "")):
        return _cordoned_by(node), "cordoned"
    return "", ""


def _cordoned_by(node: Object) -> str:
    """Return who set `unschedulable`, as the server remembers it."""
    for entry in node["metadata"].get("managedFields") or ():
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}):
            manager = plain_text(str(entry.get("manager") or ""))
            return manager if manager not in ("", OWNER) else "somebody"  # ours would bear our mark
    return "somebody"


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return all(one.get("status") == "True" for one in conditions if one.get("type") == "Ready")


def _eviction(client: Client) -> str:
    """Return the version of evictions that the server takes (policy/v1 from 1.22 on); asked once a client."""
    if "eviction" not in client.kept:
        try:
            served = client.get(path("api", "v1")).get("resources") or ()
        except Refusal:  # not told to us: what every server of these years takes
            return "policy/v1"
        found = [f"{one.get('group')}/{one.get('version')}" for one in served if one.get("name") == "pods/eviction"]
        client.kept["eviction"] = found[0] if found else "policy/v1"
    return str(client.kept["eviction"])
