"""A pipeline of which every rank is one stage."""

from __future__ import annotations

import torch
from models import Block, Clock, Transformer
from scenario import STAGE_BACKWARD_MS, STAGE_FORWARD_MS
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B


class Stage(nn.Module):
    """One pipeline stage: the first embeds, the last has the head."""

    def __init__(self, clock: Clock, stage: int, stages: int) -> None:
        super().__init__()
        whole = Transformer(clock, 1, STAGE_FORWARD_MS, STAGE_BACKWARD_MS)
        self.embed = whole.embed if stage == 0 else None
        self.block: Block = whole.blocks[0]
        self.head = whole.head if stage == stages - 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(x if self.embed is None else self.embed(x))
        return x if self.head is None else self.head(x)


def cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of one microbatch."""
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def train_pipeline(rank) -> None:
    """One stage per rank, 1F1B."""
    stages, stage = rank.scenario.world, rank.rank
    torch.manual_seed(rank.scenario.seed)
    module = Stage(rank.clock, stage, stages)
    place = PipelineStage(module, stage, stages, torch.device("cpu"))
    plan = Schedule1F1B(place, rank.scenario.microbatches, loss_fn=cross_entropy)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _, tokens, targets in rank.steps(batch=rank.scenario.microbatches):
        with rank.log.phase("forward_backward"):
            if stage == 0:
                plan.step(tokens)
            elif stage == stages - 1:
                plan.step(target=targets)
            else:
                plan.step()
        with rank.log.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rank.end(tokens, None)
