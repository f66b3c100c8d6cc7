"""What would be sent for a request, and for taking an act back. Pure: of a fleet that was read, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..acts import FENCES, OWNER, Command, Fleet, NodeState, Request, Step, Values
from . import _kubernetes_devices as devices
from . import _kubernetes_jobs as jobs
from ._kubernetes_client import path
from ._kubernetes_fleet import NAME, NODES
from ._kubernetes_marks import CONDITION, CORDONS, DOMAIN, Marks, act_name, label_value, mark

VERBS = ("note", "avoid", "exclude", "drain", "quarantine", "requeue")
EVENTS = path("api", "v1", "namespaces", "default", "events")


@dataclass
class Draft:
    """A command in the making: parts on the node, one device and the job add to it; the first "no" is final."""

    request: Request
    steps: tuple[Step, ...] = ()
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    refused: str = ""

    def add(self, steps: tuple[Step, ...], before: Values, after: Values, part: dict[str, Any]) -> None:
        """Add one part."""
        self.steps += steps
        self.before |= before
        self.after |= after
        self.parts.append(part)

    def done(self, event: Step | None = None) -> Command:
        """Return the command; an event is told only where something else is sent."""
        if self.refused:
            return Command(self.request, NAME, refused=self.refused)
        steps = (*self.steps, event) if event and self.steps else self.steps
        undo = {"parts": self.parts} if self.parts else {}
        return Command(self.request, NAME, steps, self.before, self.after, undo, nothing=not steps)


def command(request: Request, fleet: Fleet) -> Command:
    """Return what would be sent for a request."""
    draft = Draft(request)
    if request.verb not in VERBS:
        draft.refused = f"Kubernetes has no {request.verb!r}; it has {', '.join(VERBS)}"
        return draft.done()
    if not act_name(request.act):
        draft.refused = "an act without an id could not be taken back"
        return draft.done()
    event = None
    if request.verb != "requeue":
        node = fleet.nodes.get(request.target)
        draft.refused = _against(request, node)
        if node and not draft.refused:
            _put(draft, node, fleet.read_ns)
            event = _event(request, node, fleet.read_ns, "Warning", request.reason)
    if not draft.refused and (request.verb == "requeue" or _restarts(request)):
        _restart(draft, fleet)
    return draft.done(event)


def undo(request: Request, parts: list[Mapping[str, Any]], fleet: Fleet) -> Command:
    """Return what takes the parts of an act back, the last first."""
    draft, event = Draft(request), None
    for part in reversed(parts):
        if part["kind"] == "job":
            _undo_job(draft, part, fleet)
            continue
        node = fleet.nodes.get(part["node"])
        if node is None or node.native["uid"] != part["uid"]:
            if not fleet.complete and node is None:
                draft.refused = f"{part['node']} cannot be seen now"
            continue  # the node is gone, and what we left on it with it
        (_undo_node if part["kind"] == "node" else _undo_device)(draft, part, node, fleet.read_ns)
        event = _event(request, node, fleet.read_ns, "Normal", f"{OWNER}: act {act_name(request.act)} is taken back")
    draft.parts = []
    return draft.done(event)


def holds(parts: list[Mapping[str, Any]], act: str, fleet: Fleet) -> bool | None:
    """Return whether an act stands, None where that cannot be seen.

    A fence stands as long as anything of ours keeps work away; the restart of a job beside it says nothing of it.
    """
    fences = [part for part in parts if part["kind"] != "job"] or parts
    found = [_holds(part, act_name(act), fleet) for part in fences]
    return None if not found or None in found else all(found)


def _holds(part: Mapping[str, Any], act: str, fleet: Fleet) -> bool | None:
    unseen = None if not fleet.complete else False
    if part["kind"] == "job":
        job = fleet.jobs.get(part["job"])
        return unseen if job is None else jobs.view(job)["requeue_act"] == act
    node = fleet.nodes.get(part["node"])
    if node is None or node.native["uid"] != part["uid"]:
        return unseen if node is None else False
    if part["kind"] == "device":
        return any(rule["name"] == part["rule"] and rule["act"] == act for rule in node.native["rules"])
    marks = Marks.of(node.native["node"])
    return marks.act(part["verb"]) == act and marks.works(part["verb"])


def _restarts(request: Request) -> bool:
    return request.verb in FENCES and bool(request.params.get("requeue"))


def _against(request: Request, node: NodeState | None) -> str:
    """Return why nothing may be sent for a node, "" nothing against it."""
    if node is None:
        return f"Kubernetes lists no node {request.target!r}"
    if node.native["paused"]:
        return f"{node.name} is paused by {DOMAIN}/pause"
    if request.verb in FENCES and node.native["control_plane"]:
        return f"{node.name} belongs to the control plane"
    if request.verb != "note" and node.owner not in ("", OWNER):
        return f"{node.name} is fenced by somebody else: {node.owner}"
    if taken := Marks.of(node.native["node"]).foreign(request.verb):
        return f"{node.name}: {taken} is not ours"
    return ""


def _put(draft: Draft, node: NodeState, read_ns: int) -> None:
    place = devices.wanted(draft.request, node.native)
    if place:
        _put_device(draft, node, place)
        return
    request, now = draft.request, Marks.of(node.native["node"])
    then = now if now.has(request.verb) else now.put(request)
    steps = _node_steps(node, now, then, read_ns) + (_evictions(request, node) if request.params.get("evict") else ())
    part = {"kind": "node", "node": node.name, "uid": node.native["uid"], "verb": request.verb}
    draft.add(steps, now.view(), then.view(), part)


def _put_device(draft: Draft, node: NodeState, place: Mapping[str, str]) -> None:
    standing = devices.on(place, node.native)
    others = [rule["name"] for rule in standing if not rule["act"]]
    if others:
        draft.refused = f"{node.name}: device {place['device']} is fenced by somebody else: rule {others[0]}"
        return
    before = [f"{place['device']} {rule['taint']}" for rule in standing]
    value = label_value(draft.request.incident)
    after = before or [f"{place['device']} {mark(draft.request.verb)}={value}:NoSchedule"]
    steps = () if standing else (devices.step(draft.request, place, node.native["api"]),)
    part = {"kind": "device", "node": node.name, "uid": node.native["uid"], "rule": devices.rule_name(draft.request)}
    draft.add(steps, {"devices": before}, {"devices": after}, part)


def _restart(draft: Draft, fleet: Fleet) -> None:
    request = draft.request
    job = jobs.named(fleet.jobs, request.job or (request.target if request.verb == "requeue" else ""))
    draft.refused = job if isinstance(job, str) else jobs.refused(job, request)
    if isinstance(job, str) or draft.refused:
        return
    marked = {"requeue": request.reason, "requeue_act": act_name(request.act), "suspend": False}
    draft.add(jobs.steps(job, request), {"job": {job.id: jobs.view(job)}}, {"job": {job.id: marked}},
              {"kind": "job", "job": job.id})  # fmt: skip


def _undo_job(draft: Draft, part: Mapping[str, Any], fleet: Fleet) -> None:
    job = fleet.jobs.get(part["job"])
    if job is None:  # over and cleared away
        return
    steps = jobs.undo_steps(job, draft.request.act)
    gone = {"requeue": "", "requeue_act": "", "suspend": False}
    draft.add(steps, {"job": {job.id: jobs.view(job)}}, {"job": {job.id: gone if steps else jobs.view(job)}}, {})


def _undo_device(draft: Draft, part: Mapping[str, Any], node: NodeState, _read_ns: int) -> None:
    for rule in node.native["rules"]:
        if rule["name"] != part["rule"]:
            continue
        if rule["act"] != act_name(draft.request.act):
            draft.refused = f"{node.name}: rule {rule['name']} is not ours any more"
            return
        shown = f"{rule['place'].get('device')} {rule['taint']}"
        draft.add((devices.undo_step(rule, node.native["api"]),), {"devices": [shown]}, {"devices": []}, {})


def _undo_node(draft: Draft, part: Mapping[str, Any], node: NodeState, read_ns: int) -> None:
    verb, now = part["verb"], Marks.of(node.native["node"])
    stands, ours = now.act(verb), act_name(draft.request.act)
    then = now.take(verb)
    if stands and stands != ours:
        draft.refused = f"{node.name}: the {verb} of act {stands} stands there now"
    elif taken := now.changed(verb) if stands else now.foreign(verb):
        draft.refused = f"{node.name}: {taken} is not ours any more"
    elif then.unschedulable != now.unschedulable and node.owner not in ("", OWNER):
        draft.refused = (
            f"{node.name}: somebody else fences it as well ({node.owner}); our cordon stays until that is gone"
        )
    elif stands:
        draft.add(_node_steps(node, now, then, read_ns), now.view(), then.view(), {})


def _node_steps(node: NodeState, now: Marks, then: Marks, read_ns: int) -> tuple[Step, ...]:
    """Return the patches from one state to another; with the version that was read, so that a stale one is refused."""
    meta = {
        "labels": _difference(now.labels, then.labels),
        "annotations": _difference(now.annotations, then.annotations),
    }
    spec: dict[str, Any] = {}
    if now.unschedulable != then.unschedulable:
        spec["unschedulable"] = then.unschedulable or None
    if now.taints != then.taints:
        spec["taints"] = [dict(taint) for taint in then.taints] or None
    where = f"{NODES}{path(node.name)}"
    steps: tuple[Step, ...] = ()
    if spec or any(meta.values()):
        changed = {key: part for key, part in meta.items() if part}
        body = {"metadata": {**changed, "resourceVersion": node.native["version"]}, **({"spec": spec} if spec else {})}
        steps += (Step("http", ("PATCH", where), body),)
    if now.condition != then.condition:
        status = {"conditions": [_condition(then.condition, read_ns)]}
        steps += (Step("http", ("PATCH", f"{where}/status"), {"status": status}),)
    return steps


def _difference(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str | None]:
    """Return what a merge patch says: new values, null for what goes."""
    return {key: then.get(key) for key in (*now, *then) if now.get(key) != then.get(key)}


def _condition(message: str, read_ns: int) -> dict[str, str]:
    if not message:
        return {"type": CONDITION, "$patch": "delete"}
    now = _time(read_ns)
    return {"type": CONDITION, "status": "True", "reason": "SlowForItsJob", "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip


def _evictions(request: Request, node: NodeState) -> tuple[Step, ...]:
    if request.verb not in CORDONS:
        return ()
    found = []
    for pod in node.native["pods"]:
        if not pod["why"]:
            body = {"apiVersion": node.native["eviction"], "kind": "Eviction",
                    "metadata": {"name": pod["name"], "namespace": pod["namespace"]},
                    "deleteOptions": {"preconditions": {"uid": pod["uid"]}}}  # fmt: skip
            where = path("api", "v1", "namespaces", pod["namespace"], "pods", pod["name"], "eviction")
            found.append(Step("http", ("POST", where), body))
    return tuple(found)


def _event(request: Request, node: NodeState, read_ns: int, kind: str, text: str) -> Step:
    """Return an event of the node; its name is that of the act, so that it is told once."""
    now = _time(read_ns)
    told = "returned" if kind == "Normal" else request.verb
    name = f"{OWNER}-{devices.rule_name(request).rpartition('-')[2]}-{told}"
    body = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.native["uid"]},
            "reason": f"Skewscope{told.capitalize()}", "message": text, "type": kind, "count": 1,
            "source": {"component": OWNER}, "firstTimestamp": now, "lastTimestamp": now}  # fmt: skip
    return Step("http", ("POST", EVENTS), body)


def _time(time_ns: int) -> str:
    """Return a time as the API writes it.

    >>> _time(1_500_000_000)
    '1970-01-01T00:00:01Z'
    """
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
