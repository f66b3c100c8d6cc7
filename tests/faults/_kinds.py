"""The kinds of faults: what is done to a job of how many ranks, and what a right answer says."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    `right` are the conditions one of which must be a culprit, and `named` how its subject is called ("{}" stands for
    the culprit): "" where no rank may be named. `tolerated` says what else may be blamed, `on_culprit` what else the
    culprit's rank may be blamed for. `says` must stand in what is told of it ("{}" for the hot expert).
    """

    name: str
    world: int
    right: tuple[str, ...]
    named: str = "job/rank{}"
    tolerated: tuple[str, ...] = ("comm-exposed",)
    on_culprit: tuple[str, ...] = ()
    says: str = ""
    steps: int = 24


EXPERTS = 8
KINDS = {
    one.name: one
    for one in (
        Kind("cpu-quota", 4, ("coll-late-rank", "host-cpu-contention"), on_culprit=("data-loader-stall",)),
        Kind("cpu-hog", 4, ("coll-late-rank", "host-cpu-contention"), on_culprit=("data-loader-stall",)),
        Kind("stopped", 6, ("coll-late-rank",), steps=30),
        Kind("slow-link", 4, ("coll-slow-endpoint",), tolerated=("comm-exposed", "coll-slow-link")),
        Kind("slow-loader", 5, ("data-loader-stall",)),
        Kind("slow-disk", 5, ("data-loader-stall",)),
        Kind("collector", 4, ("host-gc-pause",), named="job"),
        Kind("sequences", 4, ("data-sequence-skew",), named="job"),
        Kind("experts", 4, ("moe-hot-expert",), named="job", tolerated=("comm-exposed", "moe-a2a-skew"),
             on_culprit=("coll-late-rank",), says="layer 0 expert {} "),
        Kind("stage", 4, ("pp-stage-imbalance",), named="job/stage{}", tolerated=("comm-exposed", "pp-bubble-stall"),
             steps=16),
        Kind("leaves", 8, ("coll-missing-rank",)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Order:
    """One job to run: its kind, whether the fault is there, who suffers it, and where it keeps its files."""

    kind: str
    seed: int
    culprit: int
    faulty: bool
    folder: str
    steps: int
    namespaces: bool = False  # can be had

    @property
    def what(self) -> Kind:
        """The kind."""
        return KINDS[self.kind]

    @property
    def hot(self) -> int:
        """The expert that gets most tokens, one of those that lie on the culprit."""
        return self.culprit * EXPERTS // self.what.world + self.seed % 2

    @property
    def loses_host(self) -> bool:
        """Whether the rank that leaves does so with its host: every other seed, where namespaces can be had."""
        return self.kind == "leaves" and self.seed % 2 == 1 and self.namespaces

    def write(self, path: Path) -> None:
        """Write it for the job."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Order:
        """Read what `write` wrote."""
        return Order(**json.loads(path.read_text()))


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))
