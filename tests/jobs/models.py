"""Small models whose device time is a sleep inside an autograd function, beside real matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn

HIDDEN = 96
HEADS = 4
VOCABULARY = 1200


class Clock:
    """Tells the device time of the step that runs: `ratio` stretches it, 2 % jitter is drawn per call."""

    def __init__(self, seed: int) -> None:
        self.ratio = 1.0
        self.draw = torch.Generator().manual_seed(seed)

    def sleep(self, length_ms: float) -> None:
        """Sleep as long as the device would have worked."""
        jitter = 1.0 + 0.02 * float(torch.randn((), generator=self.draw))
        time.sleep(max(0.0, length_ms * self.ratio * jitter) / 1e3)


class DeviceTime(torch.autograd.Function):
    """Stands for the device: sleeps forward and backward, passes values through."""

    @staticmethod
    def forward(ctx, x, clock, forward_ms, backward_ms):
        ctx.clock, ctx.backward_ms = clock, backward_ms
        clock.sleep(forward_ms)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.clock.sleep(ctx.backward_ms)
        return grad, None, None, None


class Block(nn.Module):
    """A transformer block with its device time."""

    def __init__(self, clock: Clock, forward_ms: float, backward_ms: float) -> None:
        super().__init__()
        self.clock, self.forward_ms, self.backward_ms = clock, forward_ms, backward_ms
        self.before, self.after = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.qkv, self.out = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        parts = self.qkv(self.before(x)).reshape(batch, length, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)
        weights = (parts[0] @ parts[1].transpose(-2, -1) / (HIDDEN // HEADS) ** 0.5).softmax(-1)
        x = x + self.out((weights @ parts[2]).transpose(1, 2).reshape(batch, length, HIDDEN))
        x = x + self.down(torch.relu(self.up(self.after(x))))
        return DeviceTime.apply(x, self.clock, self.forward_ms, self.backward_ms)


class Transformer(nn.Module):
    """Embedding, blocks and a head over the vocabulary."""

    def __init__(self, clock: Clock, layers: int, forward_ms: float, backward_ms: float) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCABULARY, HIDDEN), nn.Linear(HIDDEN, VOCABULARY)
        self.blocks = nn.ModuleList(Block(clock, forward_ms, backward_ms) for _ in range(layers))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Copy(torch.autograd.Function):
    """Into a tensor-parallel layer: identity forward, all-reduce backward."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


class Reduce(torch.autograd.Function):
    """Out of a tensor-parallel layer: all-reduce forward, identity backward."""

    @staticmethod
    def forward(ctx, x, group):
        x = x.contiguous()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class SplitLayer(nn.Module):
    """An MLP layer split over a tensor-parallel group; `before_reduce` runs just before its all-reduce."""

    def __init__(self, clock: Clock, group, forward_ms: float, backward_ms: float, parts: int) -> None:
        super().__init__()
        self.clock, self.group, self.forward_ms, self.backward_ms = clock, group, forward_ms, backward_ms
        self.up, self.down = nn.Linear(HIDDEN, 4 * HIDDEN // parts), nn.Linear(4 * HIDDEN // parts, HIDDEN)
        self.before_reduce: Callable[[], None] = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.up(Copy.apply(x, self.group)))
        inner = DeviceTime.apply(inner, self.clock, self.forward_ms, self.backward_ms)
        self.before_reduce()
        return x + Reduce.apply(self.down(inner), self.group)


class SplitMlp(nn.Module):
    """Embedding, tensor-parallel layers and a head."""

    def __init__(self, clock: Clock, group, layers: int, forward_ms: float, backward_ms: float) -> None:
        super().__init__()
        parts = dist.get_world_size(group)
        self.embed, self.head = nn.Embedding(VOCABULARY // 4, HIDDEN), nn.Linear(HIDDEN, VOCABULARY)
        self.layers = nn.ModuleList(SplitLayer(clock, group, forward_ms, backward_ms, parts) for _ in range(layers))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens % (VOCABULARY // 4))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
