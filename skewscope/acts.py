"""What may be done to a cluster, and what an actuator is: it looks, says what it would send, sends it, takes it back.

A request says what is wanted of one node; a command is what an actuator would send for it, with the state before and
after. Policy, audit and people see commands, never a scheduler's own words. What an act leaves on a cluster begins with
`skewscope:INCIDENT`, and nothing else there is ever undone or overwritten.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

OWNER = "skewscope"
LADDER = ("note", "avoid", "exclude", "drain", "quarantine", "ticket")  # the gentlest first
VERBS = (*LADDER, "requeue", "advise")  # a job started anew, hints to the training script or router
FENCES = ("exclude", "drain", "quarantine")  # they take capacity away
LONGEST_REASON = 160
ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;_-+/%()<>=@#[]")
RESULTS = ("done", "nothing", "refused", "conflict", "waiting", "failed")
Values = Mapping[str, Any]


def plain_text(text: str, longest: int = LONGEST_REASON) -> str:
    r"""Return text that is safe in a reason: ASCII without quotes, backslashes, dollars or line ends, not too long.

    >>> plain_text('rank "7"; rm -rf $HOME\nis slow')
    'rank _7_; rm -rf _HOME is slow'
    """
    flat = " ".join(unicodedata.normalize("NFKD", text).split())
    clean = "".join(letter if letter in ALLOWED else "_" for letter in flat)
    return clean if len(clean) <= longest else clean[: longest - 3] + "..."


@dataclass(frozen=True)
class Request:
    """What is wanted of one node (or job, for "requeue"): made by the policy, carried out by an actuator.

    `act` is the id of this act, `incident` of what it answers; `why` may be any text; `gpu` is a local number, -1 the
    whole node. `params` are of the verb: {"requeue": True} with "exclude" restarts the job at once, {"evict": True}
    with "drain" moves pods away, {"hint": {...}} with "advise".
    """

    act: str
    verb: str
    target: str
    incident: str
    why: str
    job: str = ""
    gpu: int = -1
    params: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"{self.act}: no verb is called {self.verb!r}; there are {', '.join(VERBS)}")

    @property
    def reason(self) -> str:
        """What is left on the cluster: who, for which incident, why.

        >>> Request("a1", "drain", "n3", "c0ffee", "rank 7 is slow").reason
        'skewscope:c0ffee rank 7 is slow'
        """
        return plain_text(f"{OWNER}:{plain_text(self.incident, 40)} {self.why}")


@dataclass(frozen=True)
class Step:
    """One thing that is sent. `kind`: "run" (words of a program), "http" (method, path), "file" (path); `body` JSON."""

    kind: str
    words: tuple[str, ...]
    body: Any = None


@dataclass(frozen=True)
class Command:
    """What an actuator would send for a request: shown in a dry run, written down before it is sent.

    `before` and `after` hold the same fields of the scheduler's own state: their difference is what changes. `undo` is
    plain JSON, all that `Actuator.undo` needs. `refused` says why it must not be sent; `nothing` that it is so already.
    """

    request: Request
    scheduler: str
    steps: tuple[Step, ...] = ()
    before: Values = field(default_factory=dict)
    after: Values = field(default_factory=dict)
    undo: Values = field(default_factory=dict)
    refused: str = ""
    nothing: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a command: `result` is one of RESULTS; "waiting" asks for another try, `after_s` from now."""

    result: str
    detail: str = ""
    after_s: float = 0.0

    def __post_init__(self) -> None:
        if self.result not in RESULTS:
            raise ValueError(f"no result is called {self.result!r}; there are {', '.join(RESULTS)}")


@dataclass(frozen=True)
class NodeState:
    """One node as a scheduler sees it.

    `schedulable`: new work may come; `owner`: whose fence or mark it bears ("" nobody's, `skewscope` ours, else the
    name or reason of somebody else); `reason` as it stands there; `idle`: nothing runs and nothing ends there.
    `native` holds the fields that an actuator touches, and what guards against stale writes.
    """

    name: str
    schedulable: bool = True
    owner: str = ""
    reason: str = ""
    idle: bool = True
    jobs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()  # partitions, node pools
    rack: str = ""
    reservation: str = ""
    native: Values = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether we fenced or marked it."""
        return self.owner == OWNER


@dataclass(frozen=True)
class JobState:
    """One job as a scheduler sees it; `state`: pending, running, ending, over. `may_restart`: it can be requeued."""

    id: str
    name: str = ""
    user: str = ""
    state: str = "running"
    nodes: tuple[str, ...] = ()
    wants_nodes: int = 0
    may_restart: bool = False
    native: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Fleet:
    """What a scheduler says of its nodes and jobs at `read_ns`. `complete`: it could tell all that there are."""

    scheduler: str
    nodes: Mapping[str, NodeState]
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    read_ns: int = -1
    complete: bool = True


class Actuator(Protocol):
    """One scheduler. Only `look` and `apply` touch the world; each call ends within its timeout or gives "failed"."""

    name: ClassVar[str]
    verbs: ClassVar[tuple[str, ...]]

    def look(self) -> Fleet:
        """Return the nodes and jobs of now; raises SkewscopeError where the scheduler does not answer."""

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return what would be sent; pure. Refused where a fence or field is somebody else's, or the verb not known."""

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Send a command: look again just before, and refuse or report a conflict where the state is another.

        With `dry_run` nothing changes, but the scheduler checks it where it can (server-side dry run). Sending a
        command twice does no more than sending it once.
        """

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return what takes the act of an audit record back, from its `undo`; refused where it is no longer ours."""

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether what an act did stands now, None where that cannot be seen: after a crash, or a restart."""


class Lapsing(Protocol):
    """An actuator whose acts end by themselves unless they are set anew, so that none outlives us."""

    def is_ending(self, record: Values, fleet: Fleet) -> bool:
        """Return whether an act wants to be set anew: it ends soon, or ended without anybody taking it back."""


class NodeTester(Protocol):
    """An actuator that can run a program on a node that is fenced off, without letting other work in."""

    def test(self, record: Values, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what the program wrote on the node of an act; raises SkewscopeError where it could not be run."""
