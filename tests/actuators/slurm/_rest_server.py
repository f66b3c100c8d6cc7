"""A small slurmrestd: v0.0.39 of its interface as its OpenAPI text declares it, over a few nodes and jobs."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "a-token"
VERSION = "v0.0.39"
NODE_FIELDS = {"state", "reason", "weight", "features", "features_act", "comment", "extra"}
JOB_FIELDS = {"excluded_nodes"}


class RestServer:
    """State of the cluster, and what was asked: (method, path). `broken` is a status that each request gets."""

    def __init__(self) -> None:
        self.nodes = {
            name: {"name": name, "state": ["IDLE"], "reason": "", "weight": 10, "comment": "", "extra": "",
                   "features": ["h100"], "active_features": ["h100"], "partitions": ["batch"], "gres": ""}
            for name in ("n3", "n8")
        }  # fmt: skip
        self.nodes["n8"] |= {"state": ["IDLE", "DRAIN"], "reason": "NHC: ecc"}
        job = {"job_id": 7, "name": "llm", "job_state": ["PENDING"], "user_name": "jo", "nodes": "", "requeue": True,
               "node_count": {"set": True, "infinite": False, "number": 2}, "excluded_nodes": "n8", "restart_cnt": 0,
               "batch_flag": True, "required_nodes": ""}  # fmt: skip
        self.jobs = {7: job}
        self.reservations = [{"name": "upgrade", "node_list": "n[8-9]", "flags": ["MAINT"]}]
        self.seen: list[tuple[str, str]] = []
        self.broken = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and document."""
        if self.broken:
            return self.broken, "it is broken"
        route = re.fullmatch(rf"/slurm/{re.escape(VERSION)}/(\w+)(?:/([^/]+))?", path)
        if not route:
            return 404, "Unable find requested URL. Please view /openapi/v3 for API reference."
        what, which = route.groups()
        if method == "GET":
            lists = {"nodes": self.nodes.values(), "jobs": self.jobs.values(), "reservations": self.reservations}
            return 200, {what: list(lists[what]), "errors": []}
        return self._changed(self._update_node if what == "node" else self._update_job, which, body)

    def _changed(self, update: Any, which: str, body: Any) -> tuple[int, Any]:
        complaint = update(which, body)
        return (500 if complaint else 200), {"errors": [{"description": complaint}] if complaint else []}

    def _update_node(self, name: str, body: dict[str, Any]) -> str:
        if name not in self.nodes or set(body) - NODE_FIELDS:
            return "Invalid node name specified"
        node = self.nodes[name]
        state = body.pop("state", [])
        if state == ["DRAIN"]:
            if not body.get("reason"):
                return "Failed, a reason is needed"
            node["state"] = sorted({*node["state"], "DRAIN"})
        elif state == ["UNDRAIN"]:
            node |= {"state": [one for one in node["state"] if one != "DRAIN"], "reason": ""}
        if "weight" in body:
            node["weight"] = body.pop("weight")["number"]
        node["active_features"] = body.pop("features_act", node["active_features"])
        node |= body
        return ""

    def _update_job(self, number: str, body: dict[str, Any]) -> str:
        job = self.jobs.get(int(number))
        if not job or set(body) - JOB_FIELDS:
            return "Invalid job id specified"
        if "PENDING" not in job["job_state"]:
            return "Job is no longer pending execution"
        job["excluded_nodes"] = ",".join(body["excluded_nodes"])
        return ""


@contextlib.contextmanager
def serving() -> Iterator[tuple[RestServer, str]]:
    """Yield the state and the address of a server that runs."""
    state = RestServer()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            state.seen.append((self.command, self.path))
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            known = (self.headers.get("X-SLURM-USER-NAME"), self.headers.get("X-SLURM-USER-TOKEN"))
            code, told = (401, "Authentication failure") if known != ("jo", TOKEN) else (0, "")
            if not code:
                code, told = state.answer(self.command, self.path, body)
            text = (told if isinstance(told, str) else json.dumps(told)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _do

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
