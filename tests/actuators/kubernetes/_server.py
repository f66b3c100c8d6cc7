"""A small Kubernetes API server in memory, which behaves in what matters to us as a real one was seen to.

Stale writes 409, bad taints 422, evictions without room in a disruption budget 429; a patch of `spec.taints` replaces
the whole list, one of a status merges its conditions by type; `dryRun=All`; selectors; lists in pages; discovery;
tokens and rights. Besides, it does what a cluster's controllers do: pods of jobs are made, placed, suspended, moved.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Object = dict[str, Any]
RULES, CONTROLLERS = (run_path(str(Path(__file__).with_name(name))) for name in ("_rules.py", "_controllers.py"))
No = RULES["No"]
CORE = {"nodes", "namespaces", "pods", "events"}
GROUPS = {
    "batch/v1": {"jobs"}, "policy/v1": {"poddisruptionbudgets"}, "coordination.k8s.io/v1": {"leases"},
    "jobset.x-k8s.io/v1alpha2": {"jobsets"}, "kubeflow.org/v1": {"pytorchjobs"},
    "resource.k8s.io/v1": {"resourceslices"}, "resource.k8s.io/v1beta2": {"resourceslices", "devicetaintrules"},
}  # fmt: skip
CLUSTER = {"nodes", "namespaces", "resourceslices", "devicetaintrules"}


class Cluster:
    """The objects, and what the controllers do with them. `key` of an object: (plural, namespace, name)."""

    def __init__(self, eviction: str = "policy/v1") -> None:
        self.eviction, self.token = eviction, ""
        self.served = {version: set(plurals) for version, plurals in GROUPS.items()}
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.forbidden: set[tuple[str, str]] = set()  # (method, plural or plural/subresource)
        self.before_write: Callable[[str, str], None] = lambda method, where: None
        self.kubelet: Callable[[Object], tuple[str, str]] | None = None  # runs a pod: its log and how it ended
        self.logs: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, str, Object | None]] = []  # all requests that are not reads, dry ones too
        self.unknown: set[str] = set()  # fields of a spec that are dropped silently, as an old server does
        self.used: set[tuple[str, str, str, str]] = set()  # rights that were made use of: group, resource, verb, space
        self.controlled = True  # whether the controllers of jobs are up
        self.lock = threading.RLock()
        self._count = itertools.count(100)
        for name in ("default", "skewscope"):
            self.objects["namespaces", "", name] = {"metadata": {"name": name, "uid": name}}

    def of(self, plural: str, namespace: str = "") -> list[Object]:
        """Return the objects of a kind, of one namespace or of all."""
        found = sorted(self.objects.items())
        return [one for key, one in found if key[0] == plural and namespace in ("", key[1])]

    # Requests

    def answer(self, method: str, url: str, body: Object | None, kind: str, who: str) -> Object | str:
        """Return what the server says to a request; raises No."""
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        steps = [unquote(step) for step in parts.path.strip("/").split("/")]
        if steps == ["api", "v1"]:
            group, version = self.eviction.split("/")
            return {"resources": [{"name": "pods/eviction", "kind": "Eviction", "group": group, "version": version}]}
        api, rest = (steps[1], steps[2:]) if steps[0] == "api" else ("/".join(steps[1:3]), steps[3:])
        if not rest:
            return self._discovered(steps[1:])
        space = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else ""
        plural, *names = rest[2:] if space else rest
        if plural not in (CORE if steps[0] == "api" else self.served.get(api, ())):
            raise No(404, "NotFound", "the server could not find the requested resource")
        name, sub = (names + ["", ""])[:2]
        verb = {"GET": "get" if name else "list", "POST": "create", "PUT": "update"}.get(method, method.lower())
        self.used.add((api.rpartition("/")[0], plural + (f"/{sub}" if sub else ""), verb, space))
        if (method, plural + (f"/{sub}" if sub else "")) in self.forbidden:
            raise No(403, "Forbidden", f"{plural} is forbidden: User cannot {method} resource")
        if method == "GET":
            return self._read((plural, space, name), sub, query)
        self.asked.append((method, url, body))
        self.before_write(method, parts.path)
        return self._write(method, (plural, space, name), sub, body or {}, kind, "dryRun" in query,
                           query.get("fieldManager", who))  # fmt: skip

    def _discovered(self, steps: list[str]) -> Object:
        versions = [version for version in self.served if version.startswith(f"{steps[0]}/")]
        if len(steps) == 1 and versions:
            return {"versions": [{"version": version.partition("/")[2]} for version in versions]}
        if "/".join(steps) not in self.served:
            raise No(404, "NotFound", "the server could not find the requested resource")
        return {"resources": [{"name": plural} for plural in sorted(self.served["/".join(steps)])]}

    def _read(self, key: tuple[str, str, str], sub: str, query: dict[str, str]) -> Object | str:
        if sub == "log":
            return self.logs[key[1:]]
        if key[2]:
            return copy.deepcopy(self._get(key))
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        fits, fields_of = RULES["selected"], RULES["fields"]
        every = self.of(key[0], key[1])
        found = [
            one for one in every if fits(one["metadata"].get("labels") or {}, labels) and fits(fields_of(one), fields)
        ]
        start, most = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(found)
        more = {"continue": str(start + most)} if start + most < len(found) else {}
        return {"kind": "List", "metadata": more, "items": copy.deepcopy(found[start : start + most])}

    def _get(self, key: tuple[str, str, str]) -> Object:
        if key not in self.objects:
            raise No(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def _write(
        self, method: str, key: tuple[str, str, str], sub: str, body: Object, kind: str, dry: bool, who: str
    ) -> Object:
        if sub == "eviction":
            return self._evict(key, body, dry)
        if method == "POST":
            return self._create(key, body, dry)
        held = self._get(key)
        if method == "DELETE":
            RULES["precondition"](held, body)
            if not dry:
                del self.objects[key]
                CONTROLLERS["control"](self)
            return held
        then = RULES["patched"](held, body, kind) if method == "PATCH" else copy.deepcopy(body)
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version not in (None, held["metadata"]["resourceVersion"]):
            raise No(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
        kept = "spec" if sub == "status" else "status"
        then = {**then, "metadata": then["metadata"] if kept == "status" else held["metadata"], kept: held.get(kept)}
        for name in self.unknown & set(then.get("spec") or {}):
            del then["spec"][name]
        return self._store(key, held, {name: part for name, part in then.items() if part is not None}, dry, who)

    def _create(self, key: tuple[str, str, str], body: Object, dry: bool) -> Object:
        plural, space, _ = key
        key = (plural, space, body["metadata"]["name"])
        if space and ("namespaces", "", space) not in self.objects:
            raise No(404, "NotFound", f'namespaces "{space}" not found')
        if plural not in CLUSTER and not space:
            raise No(404, "NotFound", "the server could not find the requested resource")
        if key in self.objects:
            raise No(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": f"uid-{self.number()}"} | ({"namespace": space} if space else {})
        if plural == "pods":
            made.setdefault("status", {"phase": "Pending"})
        return self._store(key, None, made, dry, "")

    def _store(self, key: tuple[str, str, str], held: Object | None, then: Object, dry: bool, who: str) -> Object:
        if key[0] == "nodes":
            RULES["check_node"](then)
            RULES["note_cordon"](held, then, who)
        if held is not None and then == held:
            return held  # nothing changes, not even the version
        then["metadata"] = {**then["metadata"], "resourceVersion": self.number()}
        if not dry:
            self.objects[key] = then
            CONTROLLERS["control"](self)
        return copy.deepcopy(then)

    def _evict(self, key: tuple[str, str, str], body: Object, dry: bool) -> Object:
        if body.get("apiVersion") != self.eviction:
            raise No(400, "BadRequest", f"no kind Eviction is registered for version {body.get('apiVersion')}")
        pod = self._get(key)
        RULES["precondition"](pod, body.get("deleteOptions") or {})
        for budget in self.of("poddisruptionbudgets", key[1]):
            wanted = budget["spec"]["selector"]["matchLabels"]
            pods = self.of("pods", key[1])
            same = [one for one in pods if wanted.items() <= (one["metadata"].get("labels") or {}).items()]
            if pod in same and len(same) - 1 < budget["spec"]["minAvailable"]:
                raise No(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
        if not dry:
            del self.objects[key]
            CONTROLLERS["control"](self)
        return {"kind": "Status", "status": "Success"}

    def settle(self) -> None:
        """Let pods that end be gone, as when their grace period is over."""
        CONTROLLERS["settle"](self)

    def number(self) -> str:
        """Return a number that was never given before."""
        return str(next(self._count))


def serve(cluster: Cluster, context: Any = None) -> ThreadingHTTPServer:
    """Return a server for a cluster, not started yet; with an SSL context it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            after_s = 0
            try:
                if cluster.token and self.headers.get("Authorization") != f"Bearer {cluster.token}":
                    raise No(401, "Unauthorized", "Unauthorized")
                who = (self.headers.get("User-Agent") or "").partition("/")[0]
                with cluster.lock:
                    found = cluster.answer(self.command, self.path, body, self.headers.get("Content-Type") or "", who)
                code = 201 if self.command == "POST" else 200
            except No as no:
                code, found, after_s = no.code, no.body, no.after_s
            said = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(code)
            if after_s:
                self.send_header("Retry-After", str(after_s))
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server
