"""What is known to be wrong in a simulated run: the document `skewscope.truth/1` as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError

SCHEMA = "skewscope.truth/1"
HARMLESS_SHARE = 0.005  # of the step: less is not told from nothing


@dataclass(frozen=True)
class Fault:
    """One fault: where it is, when, how large, and what it costs.

    `subject` is where it is, `devices` all that it strikes (GPUs or adapters), `ranks` who runs there, `job` and `rack`
    (may be "") theirs, `victims` (subject ids or ranks) who waits. `severity` is its size as the simulator counts it;
    `lost_s_per_step` what repairing only it would save, over the steps that it touched; `stops` tells whether the job
    stands still because of it, which has no price per step.
    """

    condition: str
    subject: str
    node: str = ""
    ranks: tuple[int, ...] = ()
    onset_ns: int = -1
    end_ns: int = -1
    onset_step: int = -1
    severity: float = float("nan")
    lost_s_per_step: float = 0.0
    lost_share: float = 0.0
    victims: frozenset[str] = frozenset()
    devices: tuple[str, ...] = ()
    job: str = ""
    rack: str = ""
    stops: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether it costs its job next to nothing, so that whoever says "context" is right."""
        return not self.stops and self.lost_share < HARMLESS_SHARE


@dataclass(frozen=True)
class Truth:
    """All faults of one run; `healthy` where there are none."""

    scenario: str
    seed: int
    faults: tuple[Fault, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def until(self, t_ns: int) -> Truth:
        """Return the truth as it was at a time: without the faults that had not begun."""
        return replace(self, faults=tuple(fault for fault in self.faults if fault.onset_ns <= t_ns))


def truth(document: Mapping[str, Any]) -> Truth:
    """Return what a `skewscope.truth/1` document says; raises UsageError for what is none.

    >>> truth({"schema": "skewscope.truth/1", "scenario": "s", "seed": 1, "healthy": True, "faults": []}).healthy
    True
    """
    if document.get("schema") != SCHEMA:
        raise UsageError(f"wanted a document {SCHEMA}, got {document.get('schema')!r}")
    faults = tuple(_fault(one) for one in document["faults"])
    return Truth(str(document["scenario"]), int(document["seed"]), faults)


def _fault(said: Mapping[str, Any]) -> Fault:
    return Fault(
        condition=str(said["condition"]), subject=str(said["subject"]), node=str(said.get("node") or ""),
        ranks=tuple(int(rank) for rank in said.get("ranks") or ()),
        onset_ns=_whole(said.get("onset_ns")), end_ns=_whole(said.get("end_ns")),
        onset_step=_whole(said.get("onset_step")), severity=_number(said.get("severity"), float("nan")),
        lost_s_per_step=_number(said.get("lost_s_per_step"), 0.0), lost_share=_number(said.get("lost_share"), 0.0),
        victims=frozenset(str(victim) for victim in said.get("victims") or ()),
        devices=tuple(str(device) for device in said.get("devices") or ()),
        job=str(said.get("job") or ""), rack=str(said.get("rack") or ""), stops=bool(said.get("stops")),
    )  # fmt: skip


def _whole(value: float | None) -> int:
    return -1 if value is None else int(value)


def _number(value: float | None, unknown: float) -> float:
    return unknown if value is None else float(value)
