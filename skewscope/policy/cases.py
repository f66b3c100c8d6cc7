"""What the policy decides upon: one case an incident, the world around it, and the decision with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..acts import Request

VERDICTS = ("act", "ask", "observe", "hold", "leave")


@dataclass(frozen=True)
class Case:
    """An incident as the policy sees it: whom it blames, what it costs, how well it is known. Times in ns.

    `node` "" means that no single node is at fault. `ranks` is the size of the job; `lost_gpus` GPU-hours lost an hour;
    `share` of the step now; `seen_count` of the last `of_count` windows showed it; `steps` and `peers` were compared.
    `healthy` says that nothing is seen any more. `doubt` is why the data cannot be trusted now ("" they can).
    """

    incident: str
    condition: str
    subject: str
    node: str = ""
    gpu: int = -1
    rack: str = ""
    job: str = ""
    ranks: int = 0
    severity: str = "S3"
    role: str = "culprit"
    confidence: float = 0.0
    share: float = 0.0
    lost_gpus: float = 0.0
    opened_ns: int = -1
    seen_ns: int = -1
    seen_count: int = 0
    of_count: int = 0
    steps: int = -1
    peers: int = -1
    healthy: bool = False
    doubt: str = ""
    summary: str = ""
    hint: Mapping[str, object] = field(default_factory=dict)  # for "advise": weights of micro-batches, limits


@dataclass(frozen=True)
class Around:
    """What else matters now: alarms that burn elsewhere, who stops everything, what a checkpoint ago was."""

    now_ns: int
    stopped: str = ""  # the kill switch: why, "" not thrown
    alarms: tuple[Mapping[str, str], ...] = ()  # labels of alerts that are firing
    doubt: str = ""  # why no telemetry can be trusted now
    since_checkpoint_s: Mapping[str, float] = field(default_factory=dict)  # by job
    remaining_s: Mapping[str, float] = field(default_factory=dict)  # by job, until its end
    trust: Mapping[str, float] = field(default_factory=dict)  # by condition: share of acts that brought what they said


@dataclass(frozen=True)
class Said:
    """What one safe-guard says: its name (as in the policy file) and a sentence with the numbers."""

    guard: str
    text: str


@dataclass(frozen=True)
class Decision:
    """What is to be done about a case on one scheduler.

    `verdict`: "act" now; "ask" a person first; "observe" (it would be done, but the mode is to look on); "hold" (safe-
    guards speak against it now: `why` lists all of them); "leave" (nothing should be done to a node at all).
    """

    case: Case
    scheduler: str
    verdict: str
    request: Request | None = None
    why: tuple[Said, ...] = ()
    gain_gpu_hours: float = 0.0  # what acting is expected to save, over the horizon
    cost_gpu_hours: float = 0.0  # what acting costs: restart and lost work

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"no verdict is called {self.verdict!r}; there are {', '.join(VERDICTS)}")
