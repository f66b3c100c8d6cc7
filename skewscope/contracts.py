"""What every room owes: sources give readings, detectors findings, collectors samples, commands exit codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .subjects import Subject

if TYPE_CHECKING:
    import argparse

    import numpy as np
    import pandas as pd

    Frames = Mapping[str, pd.DataFrame]
else:
    Frames = Mapping

SEVERITIES = ("S1", "S2", "S3", "S4")
ROLES = ("culprit", "victim", "context")


@dataclass(frozen=True)
class Coded:
    """A column of repeated strings: `codes` (int array, -1 = unknown) into `values`."""

    codes: np.ndarray[Any, Any]
    values: Sequence[str]


Columns = Mapping[str, Any]  # column name -> array, list, Coded, or one value for all rows


@dataclass
class Reading:
    """What one file holds: who wrote it and its rows, as batches of (table, columns)."""

    path: str
    format: str
    rank: int = -1
    node: str = ""
    world_size: int = -1
    events: int = 0
    status: str = "ok"  # ok, partial, unreadable
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    batches: list[tuple[str, Columns]] = field(default_factory=list)
    job: dict[str, Any] = field(default_factory=dict)  # parallelism {dp, pp, tp, ep, cp}, hosts {rank: node}
    fingerprint: str = ""  # equal fingerprints mean the same recording twice


class Source(Protocol):
    """Reads one format. The class lives in the file of its name; `format` is what reports show."""

    format: ClassVar[str]

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely the first (decompressed) bytes are of this format; `name` breaks ties only."""

    def read(self, path: Path) -> Reading:
        """Read the file; a damaged end gives status 'partial', nothing usable raises Unreadable."""


class DetailedSource(Source, Protocol):
    """A source of traces that can also fill the tables of a detailed reading."""

    def read_detail(self, path: Path) -> Reading:
        """Read the file as `read` does, with `operators`, `device_work` and `allocations` as far as it has them."""


@dataclass(frozen=True)
class Evidence:
    """One number that speaks for a finding, beside what is usual and where the line is drawn."""

    signal: str
    value: float
    baseline: float | None
    threshold: float | None
    unit: str


@dataclass(frozen=True)
class Window:
    """When: nanoseconds since the Unix epoch and step numbers, both inclusive; -1 is unknown."""

    start_ns: int = -1
    end_ns: int = -1
    first_step: int = -1
    last_step: int = -1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, whom it concerns, its price and its proof."""

    condition: str
    subject: Subject
    role: str
    severity: str
    confidence: float
    window: Window
    lost_s: float  # seconds per step that repairing only this would save
    lost_share: float  # the same over the step time, 0..1
    evidence: tuple[Evidence, ...]
    summary: str  # one sentence with numbers
    advice: str = ""  # what to do next, one sentence
    also_seen: tuple[str, ...] = ()
    lost_once_s: float = 0.0  # seconds lost once, where the cost is not per step (a hang)

    def __post_init__(self) -> None:
        if self.role not in ROLES or self.severity not in SEVERITIES:
            raise ValueError(f"{self.condition}: role {self.role!r} or severity {self.severity!r} is unknown")


@dataclass(frozen=True)
class Rule:
    """A Prometheus alerting rule, made from a detector's thresholds."""

    alert: str
    expr: str
    for_s: int
    severity: str
    summary: str
    description: str


@dataclass(frozen=True)
class Check:
    """One step of a troubleshooting guide: data, so that it can be walked by a program as well as by a person.

    `take` of `metric` (with `labels`) is compared with `expect`, as "< 0.05"; `yes` and `no` say what follows. Checks
    that no `after` ties together are independent.
    """

    name: str
    what: str
    metric: str
    take: str  # mean, low, high, last or rate
    expect: str
    query: str  # the same question in PromQL
    yes: str
    no: str
    labels: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """A small labelled world for tests: tables, and the subjects of the findings that must come out."""

    name: str
    tables: Mapping[str, pd.DataFrame]
    expect: frozenset[str] = frozenset()  # subject ids; empty means the detector stays silent


class Detector(Protocol):
    """Finds one condition. A frozen dataclass whose fields are its thresholds, unit in the name."""

    category: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return the findings of this condition in canonical and derived tables; pure."""

    def alert(self) -> Rule | None:
        """Return the alerting rule written from the thresholds, or None where metrics cannot show it."""

    def cases(self) -> Iterable[World]:
        """Return small worlds: quiet, a near miss, the condition."""


@dataclass(frozen=True)
class Picture:
    """How a table of a view is best looked at: `kind` is bars, stacked, lines, steps, heatmap, spans or points.

    `x`, `y` and `colour` are columns of the table `of` (stacked: one bar per `x`, its parts the columns `parts`).
    """

    of: str
    kind: str
    title: str
    x: str
    y: str = ""
    colour: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What a view answers with: tables by name (units in the column names), the first one the main one.

    `said` are sentences with numbers about what stands out, `notes` say what could not be known and why.
    """

    tables: Mapping[str, pd.DataFrame]
    said: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


class View(Protocol):
    """Answers one question about a recording. A frozen dataclass whose fields are its settings, unit in the name.

    The first line of its module's docstring is the question. `needs` are the tables without which it has no answer;
    tables that only a detailed reading fills (operators, device_work, allocations) among them make it a deep view.
    """

    needs: ClassVar[tuple[str, ...]]

    def show(self, tables: Frames) -> Shown:
        """Return the answer from canonical and derived tables; pure. Raises NoData with what is missing."""


class Guided(Protocol):
    """A detector with a troubleshooting guide."""

    def guide(self) -> tuple[Check, ...]:
        """Return the checks in the order to do them."""


# One number of one metric: its sample name (a metric of `skewscope.metrics`, with _bucket, _sum or _count for
# histograms and summaries), the label values in declared order (a bucket's bound last), the value, and for a bucket
# perhaps an exemplar in OpenMetrics' own form.
Sample = tuple[str, tuple[str, ...], float] | tuple[str, tuple[str, ...], float, str]


@dataclass(frozen=True)
class Place:
    """Where a collector looks. Tests give it fake roots and a fake library; nothing else leads to the machine.

    `board` is what collectors leave for one another, each under its own name (`board["nvml-info"] = ...`): plain
    values of JSON, replaced whole, so that a reader in another thread never sees half of one.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    spool: Path = Path("/run/skewscope/spool")
    archive: Path | None = None  # where full records are kept; None keeps none
    nvml: Any = None  # the module pynvml or a fake of it
    options: Mapping[str, str] = field(default_factory=dict)  # of all collectors, as `ras.address`
    board: dict[str, Any] = field(default_factory=dict)
    now_s: Callable[[], float] = time.time  # realtime
    clock_s: Callable[[], float] = time.monotonic


class Collector(Protocol):
    """Reads one part of the node. It never loops, sleeps, logs or times itself: the node does.

    `process` is "host" (a thread of the agent) or "nvml" (a process of its own, which may be killed at any time);
    `group` is "fast" or "slow"; `exports` names all metrics that can come. Where there is no data a collector is asked
    again after a minute, or at its next turn if it declares `comes_and_goes = True`: jobs start at any time.
    """

    process: ClassVar[str]
    group: ClassVar[str]
    exports: ClassVar[tuple[str, ...]]

    def __init__(self, place: Place) -> None:
        """Remember where to look; opens nothing and raises nothing."""

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now. A file or call that fails is left out and must not hide the others.

        Raises NoData with the reason where this node has nothing of the kind, any other error where it should have.
        """


class Command(Protocol):
    """One subcommand: its help is its module docstring."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""
