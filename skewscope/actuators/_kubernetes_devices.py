"""Single GPUs under dynamic resource allocation: one slow device is fenced, its neighbours stay in use.

A `DeviceTaintRule` of resource.k8s.io names driver, pool and device; where the server has none, a node is fenced whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ..acts import Request, Step
from ._kubernetes_client import Client, Object, Refusal, path
from ._kubernetes_marks import act_name, is_ours, label_value, mark, taint_text

GROUP = "resource.k8s.io"
VERBS = ("exclude", "drain")  # a quarantine is for tests, which want the whole node
NUMBERED = re.compile(r"^gpu-(\d+)$")
FENCING = ("NoSchedule", "NoExecute")


def served(client: Client) -> dict[str, str]:
    """Return which version of the group serves `resourceslices` and `devicetaintrules`; asked once a client."""
    if "devices" not in client.kept:
        group = client.found(path("apis", GROUP)) or {}
        found: dict[str, str] = {}
        for version in (str(one.get("version", "")) for one in group.get("versions") or ()):
            for one in (client.found(path("apis", GROUP, version)) or {}).get("resources") or ():
                found.setdefault(str(one.get("name")), version)
        client.kept["devices"] = found
    kept: dict[str, str] = client.kept["devices"]
    return kept


def by_node(client: Client, drivers: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return for each node its `devices` {number: place} and the `rules` that stand on them; none where not served."""
    versions = served(client)
    if not {"devicetaintrules", "resourceslices"} <= set(versions):
        return {}
    try:
        slices = list(client.listed(path("apis", GROUP, versions["resourceslices"], "resourceslices")))
        rules = list(client.listed(path("apis", GROUP, versions["devicetaintrules"], "devicetaintrules")))
    except Refusal as error:
        if error.status != 403:
            raise
        return {}
    found: dict[str, dict[str, Any]] = {}
    for spec in _newest([one["spec"] for one in slices if one["spec"].get("driver") in drivers]):
        own = found.setdefault(spec["nodeName"], {"devices": {}, "rules": [], "api": versions["devicetaintrules"]})
        own["devices"] |= _numbered(spec)
        own["rules"] += [_rule(one) for one in rules if _is_of(one, spec)]
    return found


def _newest(specs: list[Object]) -> list[Object]:
    """Return the slices of nodes that are of the newest generation of their pool."""
    newest: dict[str, int] = {}
    for spec in specs:
        pool = spec["pool"]["name"]
        newest[pool] = max(newest.get(pool, 0), int(spec["pool"].get("generation") or 0))
    own = [one for one in specs if one.get("nodeName")]
    return [one for one in own if int(one["pool"].get("generation") or 0) == newest[one["pool"]["name"]]]


def _numbered(spec: Object) -> dict[int, dict[str, str]]:
    """Return the whole GPUs of a slice by their local number, which stands in the name or the attribute `index`."""
    found = {}
    for device in spec.get("devices") or ():
        index = ((device.get("basic") or device).get("attributes") or {}).get("index") or {}
        name = NUMBERED.match(device["name"])
        number = int(index["int"]) if "int" in index else int(name[1]) if name else -1
        if number >= 0:
            found[number] = {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"]}
    return found


def _rule(rule: Object) -> dict[str, Any]:
    meta, spec = rule["metadata"], rule["spec"]
    notes = meta.get("annotations") or {}
    ours = [verb for verb in VERBS if is_ours(notes.get(mark(verb), ""))]
    act = notes.get(f"{mark(ours[0])}-act", "") if ours else ""
    taint = spec.get("taint") or {}
    return {"name": meta["name"], "uid": meta.get("uid", ""), "act": act, "taint": taint_text(taint),
            "reason": notes[mark(ours[0])] if ours else "",
            "place": dict(spec.get("deviceSelector") or {}), "fences": taint.get("effect") in FENCING}  # fmt: skip


def _is_of(rule: Object, spec: Object) -> bool:
    """Return whether a rule may stand on devices of a slice: what it does not say, it leaves open."""
    place = rule["spec"].get("deviceSelector")
    if place is None:  # no selector selects none, an empty one all
        return False
    return place.get("driver") in (None, spec["driver"]) and place.get("pool") in (None, spec["pool"]["name"])


def wanted(request: Request, native: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the place of the device that a request is to fence alone, None for the node as a whole."""
    if request.verb not in VERBS or request.gpu < 0 or request.params.get("evict"):
        return None
    place: dict[str, str] | None = native["devices"].get(request.gpu)
    return place


def on(place: Mapping[str, str], native: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules that fence a device."""
    return [rule for rule in native["rules"]
            if rule["fences"] and all(place.get(key) == value for key, value in rule["place"].items())]  # fmt: skip


def rule_name(request: Request) -> str:
    """Return the name of the rule of an act: always the same, so that it is never made twice."""
    return "skewscope-" + hashlib.sha256(f"{request.act} {request.target} {request.gpu}".encode()).hexdigest()[:16]


def step(request: Request, place: Mapping[str, str], api: str) -> Step:
    """Return what makes the rule of a request."""
    key = mark(request.verb)
    meta = {"name": rule_name(request), "annotations": {key: request.reason, f"{key}-act": act_name(request.act)}}
    taint = {"key": key, "value": label_value(request.incident), "effect": "NoSchedule"}
    body = {"apiVersion": f"{GROUP}/{api}", "kind": "DeviceTaintRule", "metadata": meta,
            "spec": {"deviceSelector": dict(place), "taint": taint}}  # fmt: skip
    return Step("http", ("POST", path("apis", GROUP, api, "devicetaintrules")), body)


def undo_step(rule: Mapping[str, Any], api: str) -> Step:
    """Return what removes a rule, and only this one."""
    where = path("apis", GROUP, api, "devicetaintrules", rule["name"])
    return Step("http", ("DELETE", where), {"preconditions": {"uid": rule["uid"]}})
