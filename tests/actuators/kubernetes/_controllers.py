"""What the controllers of a cluster do: mark cordoned nodes, make, place, suspend and run the pods of jobs."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
JOBS = {
    "jobs": "job-name",
    "jobsets": "jobset.sigs.k8s.io/jobset-name",
    "pytorchjobs": "training.kubeflow.org/job-name",
}
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def settle(cluster: Any) -> None:
    """Let pods that end be gone, as when their grace period is over."""
    for key in [key for key, one in cluster.objects.items() if one["metadata"].get("deletionTimestamp")]:
        del cluster.objects[key]
    control(cluster)


def control(cluster: Any) -> None:
    """Do what there is to do after a change."""
    for node in cluster.of("nodes"):
        _mark_cordoned(cluster, node)
    for plural, label in JOBS.items() if cluster.controlled else ():
        for job in cluster.of(plural):
            _run(cluster, job, label)
    for pod in cluster.of("pods") if cluster.kubelet else ():
        if pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
            meta = pod["metadata"]
            cluster.logs[meta["namespace"], meta["name"]], phase = cluster.kubelet(pod)
            pod["status"] = {"phase": phase}


def _mark_cordoned(cluster: Any, node: Object) -> None:
    """Put or take the taint of a cordoned node."""
    spec = node.setdefault("spec", {})
    taints = [taint for taint in spec.get("taints") or () if taint["key"] != CORDONED["key"]]
    if len(taints) + bool(spec.get("unschedulable")) == len(spec.get("taints") or ()):
        return
    spec["taints"] = taints + [dict(CORDONED)] * bool(spec.get("unschedulable"))
    node["metadata"]["resourceVersion"] = cluster.number()


def _run(cluster: Any, job: Object, label: str) -> None:
    """Give a job the pods that it lacks; one that is suspended loses its pods."""
    meta, spec = job["metadata"], job["spec"]
    pods = [pod for pod in cluster.of("pods", meta["namespace"])
            if (pod["metadata"].get("labels") or {}).get(label) == meta["name"]
            and not pod["metadata"].get("deletionTimestamp")]  # fmt: skip
    if (spec.get("runPolicy") or spec).get("suspend"):
        for pod in pods:
            pod["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        job["status"] = {"conditions": [{"type": "Suspended", "status": "True"}]}
        return
    if not _is_over(job):
        job["status"] = {"conditions": [{"type": "Suspended", "status": "False"}]}
    for _ in range(int(spec.get("parallelism", 1)) - len(pods)):
        _make(cluster, job, {**spec.get("template", {}).get("metadata", {}).get("labels", {}), label: meta["name"]})


def _is_over(job: Object) -> bool:
    return any(one["type"] == "Complete" for one in job.get("status", {}).get("conditions", ()))


def _make(cluster: Any, job: Object, labels: dict[str, str]) -> None:
    meta, place = job["metadata"], _place(cluster)
    owner = {"kind": job["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}
    name = f"{meta['name']}-{cluster.number()}"
    own = {"name": name, "namespace": meta["namespace"], "labels": labels, "ownerReferences": [owner],
           "uid": f"uid-{cluster.number()}", "resourceVersion": cluster.number()}  # fmt: skip
    spec, status = {"nodeName": place} if place else {}, {"phase": "Running" if place else "Pending"}
    cluster.objects["pods", meta["namespace"], name] = {"metadata": own, "spec": spec, "status": status}


def _place(cluster: Any) -> str:
    """Return the node for a new pod: none that is cordoned or tainted, the fewest pods, PreferNoSchedule last."""
    used = [one["spec"].get("nodeName") for one in cluster.of("pods")]
    free = []
    for node in cluster.of("nodes"):
        name, effects = node["metadata"]["name"], {taint["effect"] for taint in node["spec"].get("taints") or ()}
        if not node["spec"].get("unschedulable") and not effects & {"NoSchedule", "NoExecute"}:
            free.append(("PreferNoSchedule" in effects, used.count(name), name))
    return min(free)[2] if free else ""
