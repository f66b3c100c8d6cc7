"""A Lease object of Kubernetes: of several watchers only one acts, on however many hosts.

The holder writes its name and renews; another takes over when the object has stood still for the whole time of the
lease, as seen by its own clock: clocks of two hosts are never compared. Every write carries the version that was read,
so of two that write at once the server takes one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..acts import plain_text
from ._kubernetes_client import Client, Object, Refusal, path

CONFLICT = 409


@dataclass(frozen=True)
class Holder:
    """Whether we may act. `owner` holds the lease now ("" nobody); `taken_from` held it and is gone."""

    mine: bool
    owner: str = ""
    taken_from: str = ""


@dataclass
class LeaseObject:
    """The lease NAMESPACE/NAME; `owner` is a name that no other watcher has; times are of our clock, in seconds."""

    client: Client
    namespace: str
    name: str
    owner: str
    lease_s: float = 60.0
    clock_s: Callable[[], float] = time.monotonic
    _seen: tuple[str, str] = field(default=("", ""), init=False)
    _seen_s: float = field(default=0.0, init=False)

    def take(self) -> Holder:
        """Take or renew the lease, without waiting; raises Refusal and NoAnswer where the server cannot be asked."""
        found = self.client.found(self._path(self.name))
        holder = str((found.get("spec") or {}).get("holderIdentity") or "") if found else ""
        if found and holder not in ("", self._me) and not self._stands_still(found, holder):
            return Holder(False, holder)
        try:
            self._write(found, self._me)
        except Refusal as error:
            if error.status != CONFLICT:
                raise
            return Holder(False, holder if holder != self._me else "")  # another wrote at the same time
        return Holder(True, self._me, holder if holder != self._me else "")

    def release(self) -> None:
        """Give the lease back, so that another takes it at once; nothing where it is not ours."""
        found = self.client.found(self._path(self.name))
        if found and (found.get("spec") or {}).get("holderIdentity") == self._me:
            try:
                self._write(found, "")
            except Refusal as error:
                if error.status != CONFLICT:
                    raise

    @property
    def _me(self) -> str:
        return plain_text(self.owner, 128)

    def _stands_still(self, found: Object, holder: str) -> bool:
        now_s, seen = self.clock_s(), (holder, str(found["metadata"].get("resourceVersion", "")))
        if seen != self._seen:
            self._seen, self._seen_s = seen, now_s
        return now_s - self._seen_s >= self.lease_s

    def _write(self, found: Object | None, holder: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((found or {}).get("spec") or {})
        if spec.get("holderIdentity") != holder:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(found)}
        spec |= {"holderIdentity": holder, "renewTime": now, "leaseDurationSeconds": max(1, round(self.lease_s))}
        if found:
            self.client.send("PUT", self._path(self.name), {**found, "spec": spec})
        else:
            meta = {"name": self.name, "namespace": self.namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            self.client.send("POST", self._path(), body)

    def _path(self, *name: str) -> str:
        return path("apis", "coordination.k8s.io", "v1", "namespaces", self.namespace, "leases", *name)
