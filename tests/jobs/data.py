"""The input: one item is one batch; storage reads are sleeps, longer where a scenario says so."""

from __future__ import annotations

import time

import torch
from models import VOCABULARY
from scenario import READ_MS, SEQUENCE_TOKENS, Scenario
from torch.utils.data import DataLoader, Dataset


class Batches(Dataset):
    """Batch number `step` of one rank: (tokens, targets), [batch, length] int64."""

    def __init__(self, scenario: Scenario, rank: int, batch: int) -> None:
        self.scenario, self.rank, self.batch = scenario, rank, batch

    def __len__(self) -> int:
        return self.scenario.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch.Generator().manual_seed(1000003 * self.scenario.seed + 1009 * self.rank + step)
        scenario, length, read_ms = self.scenario, SEQUENCE_TOKENS, READ_MS
        hit = scenario.is_hit(self.rank, step)
        if scenario.kind == "dataloader-stall" and hit:
            read_ms += scenario.amount * (0.85 + 0.3 * float(torch.rand((), generator=draw)))
        if scenario.kind == "seqlen-rotating":
            length += int(torch.randint(-2, 3, (), generator=draw))
            length = round(length * scenario.amount) if hit else length
        time.sleep(read_ms / 1e3)
        tokens = torch.randint(0, VOCABULARY, (self.batch, length + 1), generator=draw)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def loader(scenario: Scenario, rank: int, batch: int) -> DataLoader:
    """Return the loader of a rank; with workers, one process reads two batches ahead."""
    workers = scenario.loader_workers
    extra = {"prefetch_factor": 2, "multiprocessing_context": "fork"} if workers else {}
    return DataLoader(Batches(scenario, rank, batch), batch_size=None, num_workers=workers, **extra)
