"""Ranks that take unequal shares of one global batch, and one that does all its work several times over.

Each pass does real products of the size of the rank's share, and lasts at least the time that its own device would
need for them: a pace per sample. So ranks do not slow each other down, although they share few cores. Steps run at the
highest ordinary priority where that is allowed: machines of their own would not be slowed by what else runs here.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

import torch
from models import HIDDEN, VOCABULARY, Clock, Transformer
from scenario import LAYERS, READ_MS, SAMPLE_BACKWARD_MS, SAMPLE_FORWARD_MS, SEQUENCE_TOKENS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

URGENT = -20  # niceness


class PacedClock(Clock):
    """A device that works on so many samples, every pass `repeats` times."""

    def __init__(self, seed: int, samples: int, repeats: int) -> None:
        super().__init__(seed)
        self.samples, self.repeats = samples, repeats
        self.rows = torch.randn(samples * SEQUENCE_TOKENS, HIDDEN, generator=self.draw)
        self.weight = torch.randn(HIDDEN, 4 * HIDDEN, generator=self.draw)

    def sleep(self, length_ms: float) -> None:
        """Work `repeats` times: the products, and what is left of the device's time for these samples."""
        for _ in range(self.repeats):
            began = time.perf_counter()
            torch.relu(self.rows @ self.weight).sum()
            jitter = 1.0 + 0.02 * float(torch.randn((), generator=self.draw))
            time.sleep(max(0.0, self.samples * length_ms * jitter / 1e3 - (time.perf_counter() - began)))


def batch(seed: int, step: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the global batch of a step, the same on every rank: (tokens, targets), [samples, length]."""
    draw = torch.Generator().manual_seed(1000003 * seed + step)
    tokens = torch.randint(0, VOCABULARY, (samples, SEQUENCE_TOKENS + 1), generator=draw)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def hurry(*, urgent: bool, everything: bool = False) -> None:
    """Set the priority of this thread, or of all threads of the process, where the machine lets us."""
    for thread in map(int, os.listdir("/proc/self/task")) if everything else (0,):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, URGENT if urgent else 0)


def train_shares(rank) -> None:
    """Train data parallel with the scenario's split; the loss is weighed so that the split does not change the model.

    The all-reduce averages with 1 / world, so each rank's mean loss counts samples x world / batch.
    """
    scenario = rank.scenario
    parts = [int(part) for part in scenario.samples.split(",")]
    mine, first, whole = parts[rank.rank], sum(parts[: rank.rank]), sum(parts)
    repeats = round(scenario.amount) if rank.rank == scenario.culprit else 1
    clock = PacedClock(17 * scenario.seed + rank.rank, mine, repeats)
    torch.manual_seed(scenario.seed)
    inner = Transformer(clock, LAYERS, SAMPLE_FORWARD_MS, SAMPLE_BACKWARD_MS)
    model = DistributedDataParallel(inner, bucket_cap_mb=0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    hurry(urgent=True, everything=True)  # the threads that communicate, too
    for step, _, _ in rank.steps(batch=1):
        hurry(urgent=True)
        with rank.log.phase("data_loading"):
            time.sleep(READ_MS / 1e3)
            tokens, targets = (part[first : first + mine] for part in batch(scenario.seed, step, whole))
        with rank.log.phase("forward"):
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        with rank.log.phase("backward"):
            (loss * (mine * scenario.world / whole)).backward()
        with rank.log.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rank.end(tokens, loss)
        hurry(urgent=False)  # what follows a step, as writing traces, is not measured
    if rank.rank == 0:
        _remember(rank.folder, inner)


def _remember(folder, model: nn.Module) -> None:
    """Write what the model has become, beside the recording: the norm of every parameter."""
    norms = {name: float(part.detach().norm()) for name, part in model.named_parameters()}
    (folder.parent / f"{folder.name}-model.json").write_text(json.dumps(norms, indent=1))
