"""Jobs of Kubernetes: which there are, where they run, and how one is started anew by suspending and resuming it.

A suspended Job, JobSet or PyTorchJob loses its pods and gets new ones when it goes on; that counts as no failure
against its own limit. Jobs that Kueue manages are left alone: it owns that field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ..acts import JobState, Request, Step
from ._kubernetes_client import Client, Object, Refusal, path
from ._kubernetes_marks import DOMAIN, act_name, is_ours, mark

MAY_RESTART = f"{DOMAIN}/may-restart"
SUSPENDED = f"{DOMAIN}/suspended"
REQUEUE = mark("requeue")
LIVING = "status.phase!=Succeeded,status.phase!=Failed"
ENDS = {"Complete", "Completed", "Succeeded", "Failed"}
NOT_SERVED, FORBIDDEN = 404, 403


@dataclass(frozen=True)
class Kind:
    """One kind of job: where it is served, where its `suspend` stands, and the label of its pods."""

    name: str
    served: tuple[str, ...]
    plural: str
    label: str
    suspend: tuple[str, ...] = ("spec", "suspend")


KINDS = (
    Kind("JobSet", ("apis", "jobset.x-k8s.io", "v1alpha2"), "jobsets", "jobset.sigs.k8s.io/jobset-name"),
    Kind("PyTorchJob", ("apis", "kubeflow.org", "v1"), "pytorchjobs", "training.kubeflow.org/job-name",
         ("spec", "runPolicy", "suspend")),
    Kind("Job", ("apis", "batch", "v1"), "jobs", "job-name"),
)  # fmt: skip


def of_pod(pod: Object) -> str:
    """Return the job that a pod belongs to as NAMESPACE/NAME, "" none.

    >>> of_pod({"metadata": {"namespace": "ml", "ownerReferences": [{"kind": "Job", "name": "a"}]}})
    'ml/a'
    """
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    names = [labels[kind.label] for kind in KINDS if labels.get(kind.label)]
    names += [one["name"] for one in meta.get("ownerReferences") or () if one.get("kind") == "Job"]
    return f"{meta['namespace']}/{names[0]}" if names else ""


@dataclass
class Jobs:
    """Reads the jobs; `complete` turns false where a kind may not be listed."""

    client: Client
    restart_all: bool = False
    complete: bool = field(default=True, init=False)

    def states(self, pods: Iterable[Object]) -> dict[str, JobState]:
        """Return all jobs by NAMESPACE/NAME. `pods`: those that have not ended."""
        places: dict[str, list[str]] = {}
        for pod in pods:
            places.setdefault(of_pod(pod), []).append((pod.get("spec") or {}).get("nodeName") or "")
        found: dict[str, JobState] = {}
        for kind in KINDS:
            for job in self._listed(kind):
                state = self._state(kind, job, places)
                if not _is_part(job):
                    found.setdefault(state.id, state)
        return found

    def _listed(self, kind: Kind) -> list[Object]:
        try:
            return list(self.client.listed(path(*kind.served, kind.plural)))
        except Refusal as error:
            if error.status not in (NOT_SERVED, FORBIDDEN):
                raise
            self.complete &= error.status == NOT_SERVED
            return []

    def _state(self, kind: Kind, job: Object, places: Mapping[str, list[str]]) -> JobState:
        meta = job["metadata"]
        id_ = f"{meta['namespace']}/{meta['name']}"
        pods = places.get(id_, [])
        nodes = tuple(sorted({node for node in pods if node}))
        notes, suspended = meta.get("annotations") or {}, _flag(job, kind.suspend)
        kueue = "kueue.x-k8s.io/queue-name" in (meta.get("labels") or {})
        over = _is_over(job)
        where = path(*kind.served, "namespaces", meta["namespace"], kind.plural, meta["name"])
        native = {"kind": kind.name, "path": where,
                  "uid": meta.get("uid", ""), "version": meta.get("resourceVersion", ""), "suspend": suspended,
                  "suspend_at": kind.suspend, "kueue": kueue,
                  "notes": {key: text for key, text in notes.items() if key.startswith(f"{DOMAIN}/")}}  # fmt: skip
        may = not kueue and not over and (self.restart_all or notes.get(MAY_RESTART) == "true")
        state = "over" if over else "ending" if meta.get("deletionTimestamp") else "running" if nodes else "pending"
        wants = len(nodes) or int((job.get("spec") or {}).get("parallelism") or 0)
        return JobState(id_, meta["name"], meta["namespace"], state, nodes, wants, may, native)


def named(jobs: Mapping[str, JobState], name: str) -> JobState | str:
    """Return a job by NAMESPACE/NAME or by a name that only one has, else why not."""
    found = [job for job in jobs.values() if name and name in (job.id, job.name, job.native["uid"])]
    if len(found) == 1:
        return found[0]
    return f"{len(found)} jobs are called {name!r}: say NAMESPACE/NAME" if found else f"no job is called {name!r}"


def view(job: JobState) -> dict[str, Any]:
    """Return what a restart changes of a job that lasts: its mark. That it is suspended by us meanwhile is no part."""
    notes = job.native["notes"]
    return {"requeue": notes.get(REQUEUE, ""), "requeue_act": notes.get(f"{REQUEUE}-act", ""),
            "suspend": job.native["suspend"] and not suspended_by(job)}  # fmt: skip


def suspended_by(job: JobState) -> str:
    """Return the act for which we suspended a job that has not gone on yet, "" none."""
    return str(job.native["notes"].get(SUSPENDED, "")) if job.native["suspend"] else ""


def refused(job: JobState, request: Request) -> str:
    """Return why a job must not be started anew, "" nothing against it."""
    by = suspended_by(job)
    if by:
        return "" if by == act_name(request.act) else f"{job.id} is being restarted for act {by}"
    reasons = {
        "Kueue manages it: let Kueue evict its workload": job.native["kueue"],
        "it is over": job.state in ("over", "ending"),
        "it is suspended by somebody else": job.native["suspend"],
        f'its owner has not allowed it: annotate it {MAY_RESTART}: "true"': not job.may_restart,
        f"annotation {REQUEUE} is somebody else's": not is_ours(job.native["notes"].get(REQUEUE, "skewscope:")),
    }
    return next((f"{job.id} is not restarted: {why}" for why, holds in reasons.items() if holds), "")


def steps(job: JobState, request: Request) -> tuple[Step, ...]:
    """Return what starts a job anew, or what is left of it; nothing where this act did it already."""
    by, name = suspended_by(job), act_name(request.act)
    if not by and job.native["notes"].get(f"{REQUEUE}-act") == name:
        return ()
    notes = {REQUEUE: request.reason, f"{REQUEUE}-act": name, SUSPENDED: name}
    goes_on = _patch(job, {SUSPENDED: None}, False)
    return (goes_on,) if by else (_patch(job, notes, True, job.native["version"]), goes_on)


def restored(step: Step) -> dict[str, Any]:
    """Return the body that takes a suspension back, with all that was marked for it."""
    found: dict[str, Any] = _swapped(step.body["spec"], False)
    return {"metadata": {"annotations": dict.fromkeys(step.body["metadata"]["annotations"])}, "spec": found}


def _swapped(inner: Any, suspend: bool) -> Any:  # noqa: ANN401 - a spec of one field, or that field
    return {key: _swapped(value, suspend) for key, value in inner.items()} if isinstance(inner, dict) else suspend


def is_heard(client: Client, step: Step) -> bool:
    """Return whether the controllers of a job have seen it suspended: they say so, and its pods end or are gone.

    The word alone will not do: a JobSet says so before the Jobs that it is made of have ended their pods.
    """
    conditions = (client.get(step.words[1]).get("status") or {}).get("conditions") or ()
    if not any(one.get("type") == "Suspended" and one.get("status") == "True" for one in conditions):
        return False
    space, plural, name = (unquote(part) for part in step.words[1].split("/")[-3:])
    label = next(kind.label for kind in KINDS if kind.plural == plural)
    pods = client.listed(path("api", "v1", "pods"), labelSelector=f"{label}={name}",
                         fieldSelector=f"metadata.namespace={space},{LIVING}")  # fmt: skip
    return all(pod["metadata"].get("deletionTimestamp") for pod in pods)


def undo_steps(job: JobState, act: str) -> tuple[Step, ...]:
    """Return what takes our mark off a job, and lets it go on where we left it suspended."""
    notes = job.native["notes"]
    if notes.get(f"{REQUEUE}-act") != act_name(act):
        return ()
    gone = {key: None for key in (REQUEUE, f"{REQUEUE}-act", SUSPENDED) if key in notes}
    return (_patch(job, gone, False if suspended_by(job) else None, job.native["version"]),)


def _patch(job: JobState, notes: Mapping[str, str | None], suspend: bool | None, version: str = "") -> Step:
    body: Object = {"metadata": {"annotations": dict(notes)}}
    if version:
        body["metadata"]["resourceVersion"] = version
    if suspend is not None:
        inner: Any = suspend
        for key in reversed(job.native["suspend_at"]):
            inner = {key: inner}
        body |= inner
    return Step("http", ("PATCH", job.native["path"]), body)


def is_suspended(job: Object, step: Step) -> bool:
    """Return whether a job is suspended where a step of ours sets that: a server may drop a field it does not know."""
    inner = "runPolicy" in step.body["spec"]
    return _flag(job, ("spec", "runPolicy", "suspend") if inner else ("spec", "suspend"))


def _flag(job: Object, where: tuple[str, ...]) -> bool:
    found: Any = job
    for key in where:
        found = (found or {}).get(key)
    return bool(found)


def _is_over(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one.get("type") in ENDS and one.get("status") == "True" for one in conditions)


def _is_part(job: Object) -> bool:
    """Return whether a job belongs to another one, as the Jobs of a JobSet."""
    return any(one.get("controller") for one in job["metadata"].get("ownerReferences") or ())
