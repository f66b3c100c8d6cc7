"""Runs a program on a node that is fenced off: a pod of our own, put there by name, which tolerates our taints only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..acts import OWNER, NodeState
from ..errors import SkewscopeError, UsageError
from ._kubernetes_client import Client, Object, path
from ._kubernetes_marks import DOMAIN, EFFECTS, label_value, mark
from ._kubernetes_settings import Settings

POLL_S = 1.0
ENDED = ("Succeeded", "Failed")
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Trial:
    """One run: the pod is made, waited for, read and removed, however it ends."""

    client: Client
    settings: Settings
    node: NodeState
    act: str
    pause: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic

    def run(self, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what the program wrote; raises SkewscopeError where it did not end well, or not in time."""
        pod = self.pod(words, timeout_s)
        where = path("api", "v1", "namespaces", self.settings.namespace, "pods")
        own = where + path(pod["metadata"]["name"])
        self._remove(own)  # left over by one that crashed
        self.client.send("POST", where, pod)
        try:
            phase = self._ended(own, timeout_s)
            said = self.client.text(f"{own}/log")
        finally:
            self._remove(own)
        if phase != "Succeeded":
            raise SkewscopeError(f"{self.node.name}: the test failed: {said.strip()[-300:] or 'it wrote nothing'}")
        return said

    def _ended(self, own: str, timeout_s: float) -> str:
        until_s = self.clock_s() + timeout_s
        while True:
            status = self.client.get(own).get("status") or {}
            if status.get("phase") in ENDED:
                return str(status["phase"])
            if self.clock_s() >= until_s:
                raise SkewscopeError(f"{self.node.name}: the test did not end in {timeout_s:g} s{_waits_for(status)}")
            self.pause(POLL_S)

    def _remove(self, own: str) -> None:
        """Remove the pod of this name, where there is one and it is of ours."""
        found = self.client.found(own)
        if found is None:
            return
        if (found["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") != OWNER:
            raise SkewscopeError(f"{own}: a pod of somebody else has the name of our test")
        self.client.send("DELETE", own, {"gracePeriodSeconds": 0, "preconditions": {"uid": found["metadata"]["uid"]}})
        until_s = self.clock_s() + self.settings.timeout_s
        while self.client.found(own) is not None:
            if self.clock_s() >= until_s:
                raise SkewscopeError(f"{own}: the pod of a test does not end")
            self.pause(POLL_S)

    def pod(self, words: tuple[str, ...], timeout_s: float) -> Object:
        """Return the pod: words are its arguments, no shell stands between."""
        if not self.settings.test_image:
            raise UsageError("[schedulers.kubernetes] test_image is not set: no test can be run")
        name = f"skewscope-test-{hashlib.sha256(f'{self.act} {self.node.name}'.encode()).hexdigest()[:12]}"
        labels = {"app.kubernetes.io/managed-by": OWNER, f"{DOMAIN}/test": label_value(self.act)}
        keys = [*sorted({mark(verb) for verb in EFFECTS}), "node.kubernetes.io/unschedulable"]
        tolerated = [{"key": key, "operator": "Exists"} for key in keys]
        container = {"name": "test", "image": self.settings.test_image, "command": list(words),
                     "env": [{"name": "NODE_NAME", "value": self.node.name}],
                     "resources": {"limits": self._limits()}, "securityContext": HARDENED}  # fmt: skip
        spec = {"nodeName": self.node.name, "restartPolicy": "Never", "automountServiceAccountToken": False,
                "activeDeadlineSeconds": max(1, int(timeout_s)), "terminationGracePeriodSeconds": 1,
                "tolerations": tolerated, "containers": [container]}  # fmt: skip
        meta = {"name": name, "namespace": self.settings.namespace, "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}

    def _limits(self) -> dict[str, str]:
        pairs = [text.partition("=") for text in self.settings.test_resources]
        if any(not name or not amount for name, _, amount in pairs):
            raise UsageError("[schedulers.kubernetes] test_resources wants NAME=AMOUNT, as nvidia.com/gpu=8")
        return {name: amount for name, _, amount in pairs}


def _waits_for(status: Mapping[str, Any]) -> str:
    """Return what a pod waits for, as an image that cannot be had."""
    for one in status.get("containerStatuses") or ():
        if reason := ((one.get("state") or {}).get("waiting") or {}).get("reason"):
            return f": it waits ({reason})"
    return ""
