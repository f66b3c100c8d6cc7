"""What to train and what to slow on purpose: one Scenario is one job, written to disk as JSON for its ranks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FORWARD_MS = 20.0
BACKWARD_MS = 36.0
LAYERS = 2
STAGE_FORWARD_MS = 4.0
STAGE_BACKWARD_MS = 8.0
READ_MS = 4.0
SEQUENCE_TOKENS = 32
WATCHDOG_S = 8.0

SAMPLE_FORWARD_MS = 12.0
SAMPLE_BACKWARD_MS = 24.0
DDP_KINDS = ("healthy", "compute-slow", "compute-twice", "dataloader-stall", "seqlen-rotating", "gc-pause", "slow-link")
KINDS = (*DDP_KINDS, "healthy-pipeline", "pipeline-imbalance", "hang")


@dataclass(frozen=True)
class Scenario:
    """One job. `amount` is a ratio (compute-slow, compute-twice, seqlen-rotating, pipeline-imbalance), milliseconds
    (dataloader-stall, gc-pause) or Mbit/s (slow-link); `to_step` -1 means to the end. `samples` of each rank (with
    compute-twice): whole numbers separated by commas."""

    kind: str
    world: int = 4
    culprit: int = -1
    amount: float = 1.0
    from_step: int = 0
    steps: int = 30
    wait: int = 18
    warmup: int = 2
    active: int = 9
    seed: int = 0
    microbatches: int = 8
    ranks_per_node: int = 2
    named_by_board: bool = False  # file names of tensorboard_trace_handler: the rank is only inside
    loader_workers: int = 0
    with_stack: bool = False
    samples: str = ""

    @property
    def first_profiled(self) -> int:
        """Return the number of the first profiled step."""
        return self.wait + self.warmup

    @property
    def last_profiled(self) -> int:
        """Return the number of the last profiled step."""
        return self.first_profiled + self.active - 1

    def host(self, rank: int) -> str:
        """Return the host name of a rank."""
        return f"node{rank // self.ranks_per_node}"

    def is_pipeline(self) -> bool:
        """Return whether every rank is one stage."""
        return self.kind in ("healthy-pipeline", "pipeline-imbalance")

    def is_hit(self, rank: int, step: int) -> bool:
        """Return whether this rank suffers in this step; the rotating kinds take another rank each step."""
        if step < self.from_step:
            return False
        if self.kind in ("seqlen-rotating", "gc-pause"):
            return rank == (step * 5 + self.seed) % self.world
        return rank == self.culprit

    def device_ratio(self, rank: int, step: int) -> float:
        """Return by how much this rank's device time is stretched in this step."""
        slows = self.kind in ("compute-slow", "pipeline-imbalance")
        return self.amount if slows and self.is_hit(rank, step) else 1.0

    def write(self, path: Path) -> None:
        """Write it for the ranks."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Scenario:
        """Read what `write` wrote."""
        return Scenario(**json.loads(path.read_text()))
