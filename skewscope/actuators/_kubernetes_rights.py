"""The rights that skewscope needs on a cluster, as a manifest to read and apply: no more than the settings ask for."""

from __future__ import annotations

from typing import Any

import yaml

from ._kubernetes_settings import Settings

ACCOUNT = "skewscope-actuator"
RBAC = "rbac.authorization.k8s.io"


def manifest(settings: Settings, verbs: tuple[str, ...], *, evict: bool = False) -> str:
    """Return namespace, service account, roles and bindings as YAML for the verbs of a policy; raises nothing."""
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": settings.namespace}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": settings.namespace}},
        _role("ClusterRole", ACCOUNT, "", _everywhere(settings, verbs, evict)),
        _binding("ClusterRole", "ClusterRoleBinding", ACCOUNT, "", account),
        _role("Role", ACCOUNT, settings.namespace, _at_home(settings)),
        _binding("Role", "RoleBinding", ACCOUNT, settings.namespace, account),
        _role("Role", f"{ACCOUNT}-events", "default", [_rule("", "events", "create")]),
        _binding("Role", "RoleBinding", f"{ACCOUNT}-events", "default", account),
    ]
    return "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in documents)


def _everywhere(settings: Settings, verbs: tuple[str, ...], evict: bool) -> list[dict[str, Any]]:
    """Return the rules for the whole cluster: reading, and of writing what the verbs need."""
    jobs = ("list", "get", "patch") if "requeue" in verbs else ("list",)
    rules = [
        _rule("", "nodes", "get", "list", *(["patch"] if set(verbs) - {"requeue"} else [])),
        _rule("", "pods", "list"),
        _rule("batch", "jobs", *jobs),
        _rule("jobset.x-k8s.io", "jobsets", *jobs),
        _rule("kubeflow.org", "pytorchjobs", *jobs),
    ]
    if "note" in verbs:
        rules.append(_rule("", "nodes/status", "patch"))
    if evict:
        rules.append(_rule("", "pods/eviction", "create"))
    if settings.device_taints and {"exclude", "drain"} & set(verbs):
        rules.append(_rule("resource.k8s.io", "resourceslices", "list"))
        rules.append(_rule("resource.k8s.io", "devicetaintrules", "list", "create", "delete"))
    return rules


def _at_home(settings: Settings) -> list[dict[str, Any]]:
    """Return the rules for our own namespace: the lease, and the pods of tests where they are set up."""
    rules = [_rule("coordination.k8s.io", "leases", "get", "create", "update")]
    if settings.test_image:
        rules += [_rule("", "pods", "get", "create", "delete"), _rule("", "pods/log", "get")]
    return rules


def _rule(group: str, resource: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


def _meta(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}


def _role(kind: str, name: str, namespace: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": _meta(name, namespace), "rules": rules}


def _binding(role: str, kind: str, name: str, namespace: str, account: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": _meta(name, namespace),
            "roleRef": {"apiGroup": RBAC, "kind": role, "name": name}, "subjects": [account]}  # fmt: skip
