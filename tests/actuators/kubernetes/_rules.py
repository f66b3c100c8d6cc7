"""What an API server checks and how it merges: selectors, patches, taints. Pure functions."""

from __future__ import annotations

import copy
import re
from typing import Any

Object = dict[str, Any]
LABEL = r"([A-Za-z0-9][A-Za-z0-9._-]{0,61}[A-Za-z0-9]|[A-Za-z0-9]?)"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


class No(Exception):
    """A refusal, as the status object of one."""

    def __init__(self, code: int, reason: str, message: str, after_s: int = 0) -> None:
        super().__init__(message)
        self.code, self.after_s = code, after_s
        self.body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def precondition(held: Object, body: Object) -> None:
    wanted = (body.get("preconditions") or {}).get("uid")
    if wanted not in (None, held["metadata"]["uid"]):
        raise No(409, "Conflict", "Precondition failed: UID in precondition differs")


def selected(values: dict[str, str], selector: str) -> bool:
    """Return whether values fit a selector of the forms a=b, a==b, a!=b, a, !a."""
    for part in filter(None, selector.split(",")):
        key, unequal, value = part.partition("!=")
        if unequal:
            fits = values.get(key, "") != value
        elif "=" in part:
            fits = values.get(part.partition("=")[0]) == part.partition("=")[2].lstrip("=")
        else:
            fits = (part.lstrip("!") in values) != part.startswith("!")
        if not fits:
            return False
    return True


def fields(one: Object) -> dict[str, str]:
    return {"metadata.name": one["metadata"]["name"], "metadata.namespace": one["metadata"].get("namespace", ""),
            "spec.nodeName": (one.get("spec") or {}).get("nodeName", ""),
            "status.phase": (one.get("status") or {}).get("phase", "")}  # fmt: skip


def patched(held: Object, body: Object, kind: str) -> Object:
    if kind not in (MERGE, STRATEGIC):
        raise No(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
    then = merged(held, body)
    told = (body.get("status") or {}).get("conditions")
    if kind == STRATEGIC and told is not None:
        by_type = {one["type"]: one for one in (held.get("status") or {}).get("conditions") or ()}
        for one in told:
            if one.get("$patch") == "delete":
                by_type.pop(one["type"], None)
            else:
                by_type[one["type"]] = {**by_type.get(one["type"], {}), **one}
        then["status"]["conditions"] = list(by_type.values())
    return then


def merged(held: Any, body: Any) -> Any:
    """Return a value after a merge patch: objects key by key, null removes, lists are replaced."""
    if not isinstance(body, dict):
        return copy.deepcopy(body)
    then = dict(held) if isinstance(held, dict) else {}
    for key, value in body.items():
        if value is None:
            then.pop(key, None)
        else:
            then[key] = merged(then.get(key), value)
    return then


def check_node(node: Object) -> None:
    seen = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        if not re.fullmatch(LABEL, value):
            raise No(422, "Invalid", f"metadata.labels.{key}: Invalid value: {value!r}")
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") not in EFFECTS:
            raise No(422, "Invalid", f"spec.taints.effect: Unsupported value: {taint.get('effect')!r}")
        if not re.fullmatch(LABEL, taint.get("value") or ""):
            raise No(422, "Invalid", f"spec.taints.value: Invalid value: {taint.get('value')!r}")
        if (taint["key"], taint["effect"]) in seen:
            raise No(422, "Invalid", "spec.taints: Duplicate value")
        seen.add((taint["key"], taint["effect"]))


def note_cordon(held: Object | None, then: Object, who: str) -> None:
    """Remember who set `unschedulable`, as managed fields do."""
    now = bool((then.get("spec") or {}).get("unschedulable"))
    if now != bool(((held or {}).get("spec") or {}).get("unschedulable")):
        fields = [{"manager": who, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}] if now else []
        then["metadata"] = {**then["metadata"], "managedFields": fields}
