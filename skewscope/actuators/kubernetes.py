"""Kubernetes: marks, cordons and taints nodes, moves pods away, starts jobs anew, fences single GPUs; over plain REST.

What is sent for each verb, always with the version of the object that was read (an older one is refused, 409):

- `note`: an annotation, the node condition `SkewscopeSlow`, an event.
- `avoid`: a label and a `PreferNoSchedule` taint: the scheduler takes other nodes first.
- `exclude`, `drain`: cordon and a `NoSchedule` taint; running pods stay. With `evict`, pods that a controller makes
  anew are evicted, under their disruption budgets: one that has no room (429) makes the act wait. With `requeue`, the
  job is started anew. For one GPU, a `DeviceTaintRule` instead, where the server has them.
- `quarantine`: a label and a `NoSchedule` taint; only our test pods tolerate it.
- `requeue`: suspends a Job, JobSet or PyTorchJob, and lets it go on as soon as its controller has ended the pods. Its
  owner must have annotated it `skewscope.io/may-restart: "true"`; jobs of Kueue are left alone.

All our keys begin with `skewscope.io/`; what others left there, or a fence of theirs, refuses the act. A node annotated
or labelled `skewscope.io/pause: "true"` and nodes of the control plane are not fenced. Pods that are annotated against
disruption (Karpenter's, the autoscaler's or `skewscope.io/do-not-disrupt`) are not evicted.

Rights: `Kubernetes().rbac()` is the manifest. By hand, all is undone by

    kubectl uncordon NODE
    kubectl taint node NODE skewscope.io/drain- skewscope.io/exclude- skewscope.io/quarantine- skewscope.io/avoid-
    kubectl annotate node NODE skewscope.io/drain- skewscope.io/drain-act- skewscope.io/cordon-   # and so for each verb
    kubectl label node NODE skewscope.io/avoid- skewscope.io/quarantine-
    kubectl delete devicetaintrules skewscope-...      # see: kubectl get devicetaintrules

Tried on a real API server of version 1.20; JobSets, PyTorchJobs and single GPUs on the server of the tests only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

from ..acts import OWNER, Command, Fleet, Outcome, Request, Values
from ..errors import SkewscopeError
from . import _kubernetes_command as commands
from . import _kubernetes_fleet as fleets
from ._kubernetes_client import Client
from ._kubernetes_config import login
from ._kubernetes_lease import LeaseObject
from ._kubernetes_rights import manifest
from ._kubernetes_sending import Sending
from ._kubernetes_settings import Settings
from ._kubernetes_trial import Trial


@dataclass(frozen=True)
class Kubernetes(Settings):
    """One cluster; `Settings` says what may be set.

    >>> Kubernetes().verbs
    ('note', 'avoid', 'exclude', 'drain', 'quarantine', 'requeue')
    """

    name: ClassVar[str] = fleets.NAME
    verbs: ClassVar[tuple[str, ...]] = commands.VERBS

    @cached_property
    def client(self) -> Client:
        """The API server; raises UsageError where the settings lead to none."""
        return Client(login(self.kubeconfig, self.context), self.timeout_s)

    def look(self) -> Fleet:
        """Return all nodes and jobs; raises SkewscopeError where the server does not answer."""
        return fleets.fleet(self.client, self)

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return what would be sent for a request."""
        return commands.command(request, fleet)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Send a command, or let the server check it; "waiting" where a disruption budget wants another try."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        try:
            again = partial(self._again, command.request)
            return Sending(self.client, command, again, dry_run, self.evict_again_s, self.restart_s).outcome()
        except SkewscopeError as error:  # the login cannot be read just now
            return Outcome("failed", str(error))

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return what takes an act back; refused where what stands there is not ours any more."""
        request = _undoing(record)
        return commands.undo(request, request.params["undo"], fleet)

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether all that an act left stands, None where that cannot be seen."""
        return commands.holds(_parts(record), str(record["act"]), fleet)

    def test(self, record: Values, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what a program wrote on the node of an act that stands; raises SkewscopeError where it cannot."""
        name = str(record["target"])
        fleet = fleets.one_node(self.client, self, name, jobs=False, devices=_has(_parts(record), "device"))
        if self.holds(record, fleet) is not True:
            raise SkewscopeError(f"{name}: act {record['act']} does not stand there any more: no test")
        if not fleet.nodes[name].idle:
            raise SkewscopeError(f"{name}: pods are still there: no test yet")
        return Trial(self.client, self, fleet.nodes[name], str(record["act"])).run(words, timeout_s)

    def lease(self, owner: str, name: str = OWNER, lease_s: float = 60.0) -> LeaseObject:
        """Return the lease by which several watchers agree on who acts; `owner` is a name of our own."""
        return LeaseObject(self.client, self.namespace, name, owner, lease_s)

    def rbac(self, verbs: tuple[str, ...] = commands.VERBS, *, evict: bool = True) -> str:
        """Return the manifest of the rights that the verbs need.

        >>> "nodes/status" in Kubernetes().rbac(("note",)), "eviction" in Kubernetes().rbac(("drain",), evict=False)
        (True, False)
        """
        return manifest(self, verbs, evict=evict)

    def _again(self, request: Request) -> Command:
        """Return the command of a request, or its undoing, as of now."""
        undone = request.params.get("undo")
        restarts = request.verb == "requeue" or bool(request.params.get("requeue")) or _has(undone, "job")
        node = "" if request.verb == "requeue" else request.target
        devices = request.gpu >= 0 or _has(undone, "device")
        fleet = fleets.one_node(self.client, self, node, jobs=restarts, devices=devices)
        if undone is not None:
            return commands.undo(request, undone, fleet)
        return commands.command(request, fleet)


def _parts(record: Values) -> list[Values]:
    return list((record.get("undo") or {}).get("parts") or ())


def _has(parts: list[Values] | None, kind: str) -> bool:
    return any(part["kind"] == kind for part in parts or ())


def _undoing(record: Values) -> Request:
    return Request(str(record["act"]), str(record["verb"]), str(record["target"]), str(record.get("incident") or ""),
                   "is taken back", str(record.get("job") or ""), params={"undo": _parts(record)})  # fmt: skip
