"""What the ranks train, one function a task: their device's time is a sleep, what a fault meets is real work."""

from __future__ import annotations

import gc
import os
import time
import zlib
from pathlib import Path

import torch
import torch.distributed as dist
from _kinds import EXPERTS, Order
from models import Clock, Transformer
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import skewscope.hook as hook

LAYERS, FORWARD_MS, BACKWARD_MS = 2, 15.0, 25.0
LENGTH, LONG_LENGTH = 16, 160  # tokens
VOCABULARY = 300
HOST_ROUNDS = 40
BLOCK_BYTES = 1 << 20
READ_BYTES = 256 << 10
SHARD_BYTES = 200_000
OBJECTS = 300_000
GONE_S = 600.0
EXPERT_TOKENS, HOT_SHARE, WIDTH = 64, 0.6, 96


class Files(Dataset):
    """Batches that are unpacked, and where the disk is the matter read from it before."""

    def __init__(self, order: Order, rank: int) -> None:
        self.order, self.rank = order, rank
        self.path = Path(order.folder) / f"input{rank}.bin"
        self.draw = torch.Generator().manual_seed(1009 * order.seed + rank)
        self.shard = zlib.compress(bytes(torch.randint(97, 123, (SHARD_BYTES,), generator=self.draw).tolist()))
        self.shards = 40 if order.kind == "slow-loader" and order.faulty and rank == order.culprit else 1
        if order.kind == "slow-disk":
            _fill(self.path, order.steps * READ_BYTES)

    def __len__(self) -> int:
        return self.order.steps

    def __getitem__(self, step: int) -> torch.Tensor:
        if self.order.kind == "slow-disk":
            _read(self.path, step * READ_BYTES)
        for _ in range(self.shards):
            zlib.decompress(self.shard)
        return torch.randint(0, VOCABULARY, (2, self._length(step) + 1), generator=self.draw)

    def _length(self, step: int) -> int:
        uneven = self.order.kind == "sequences" and self.order.faulty
        return LONG_LENGTH if uneven and self.rank == (5 * step + self.order.seed) % self.order.what.world else LENGTH


def _fill(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.write(os.urandom(size_bytes))
        os.fsync(file.fileno())


def _read(path: Path, offset: int) -> None:
    """Read a piece from the disk itself: what the system keeps of it is dropped before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for begin in range(offset, offset + READ_BYTES, READ_BYTES // 8):
            os.pread(descriptor, READ_BYTES // 8, begin)
    finally:
        os.close(descriptor)


class Work:
    """What a rank does in a step beside its model, on its own processor."""

    def __init__(self, order: Order, rank: int) -> None:
        self.order, self.rank = order, rank
        self.rows = torch.randn(64, WIDTH * 4)
        self.weight = torch.randn(WIDTH * 4, WIDTH * 4)
        self.heap = [{"at": number} for number in range(OBJECTS)] if order.kind == "collector" else []
        if order.kind == "collector":
            gc.disable()
            if not order.faulty:  # as the runbook says
                gc.collect()
                gc.freeze()

    def host(self, step: int) -> None:
        """Do the work of the host: products, and every few steps a collection, on another rank each time."""
        for _ in range(HOST_ROUNDS):
            torch.relu(self.rows @ self.weight)
        if self.order.kind == "collector" and self.rank == (5 * step + self.order.seed) % self.order.what.world:
            gc.collect()


def transformer(order: Order, rank: int) -> None:
    """Train data parallel."""
    clock, work = Clock(17 * order.seed + rank), Work(order, rank)
    torch.manual_seed(order.seed)
    model = DistributedDataParallel(Transformer(clock, LAYERS, FORWARD_MS, BACKWARD_MS), bucket_cap_mb=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(DataLoader(Files(order, rank), batch_size=None)):
        clock.ratio = (1 + batch.shape[1] / LENGTH) / 2 if order.kind == "sequences" else 1.0
        work.host(step)
        output = model(batch[:, :-1])
        nn.functional.cross_entropy(output.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        hook.step({"tokens": batch[:, 1:].numel()})


def exchange(order: Order, rank: int) -> None:
    """Train with blocks that go from every rank to every other, as a split sequence wants it."""
    clock, work, world = Clock(17 * order.seed + rank), Work(order, rank), order.what.world
    torch.manual_seed(order.seed)
    model = DistributedDataParallel(Transformer(clock, LAYERS, FORWARD_MS, BACKWARD_MS), bucket_cap_mb=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    block, other = torch.zeros(BLOCK_BYTES // 4), torch.zeros(BLOCK_BYTES // 4)
    for step, batch in enumerate(DataLoader(Files(order, rank), batch_size=None)):
        work.host(step)
        for distance in range(1, world):
            both = [dist.P2POp(dist.isend, block, (rank + distance) % world),
                    dist.P2POp(dist.irecv, other, (rank - distance) % world)]  # fmt: skip
            for one in dist.batch_isend_irecv(both):
                one.wait()
        output = model(batch[:, :-1])
        nn.functional.cross_entropy(output.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


class Router(nn.Module):
    """Sends each token to one expert; a hot one gets more than its share."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(31 * order.seed + dist.get_rank())
        self.chances = torch.ones(EXPERTS)
        if order.faulty:
            self.chances *= (1 - HOT_SHARE) / (EXPERTS - 1)
            self.chances[order.hot] = HOT_SHARE

    def forward(self) -> torch.Tensor:
        """Return the expert of each token, sorted."""
        return torch.multinomial(self.chances, EXPERT_TOKENS, replacement=True, generator=self.draw).sort().values


def experts(order: Order, rank: int) -> None:
    """Train a mixture of experts: tokens go to the rank of their expert, are worked on there, and come back."""
    clock, world = Clock(17 * order.seed + rank), order.what.world
    torch.manual_seed(order.seed)
    model = DistributedDataParallel(Transformer(clock, 1, FORWARD_MS, BACKWARD_MS), bucket_cap_mb=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weight, router = torch.randn(WIDTH, 4 * WIDTH), Router(order)
    for batch in DataLoader(Files(order, rank), batch_size=None):
        output = model(batch[:, :-1])
        counts = torch.bincount(router(), minlength=EXPERTS)
        hook.experts(0, counts)
        _experts_work(counts, torch.randn(EXPERT_TOKENS, WIDTH), weight, world)
        nn.functional.cross_entropy(output.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        hook.step({"tokens": EXPERT_TOKENS})


def _experts_work(counts: torch.Tensor, tokens: torch.Tensor, weight: torch.Tensor, world: int) -> None:
    everybody = [torch.empty_like(counts) for _ in range(world)]
    dist.all_gather(everybody, counts)
    out = counts.reshape(world, -1).sum(1)
    arriving = torch.cat(everybody).reshape(world, world, -1)[:, dist.get_rank()].sum(1)
    mine = torch.empty(int(arriving.sum()), WIDTH)
    dist.all_to_all_single(mine, tokens, arriving.tolist(), out.tolist())
    for token in mine:  # one after another, as a small device would
        for _ in range(6):
            torch.relu(token @ weight)
    time.sleep(len(mine) * 1e-4)
    back = torch.empty_like(tokens)
    dist.all_to_all_single(back, mine, out.tolist(), arriving.tolist())


class Stage(nn.Module):
    """A pipeline stage of some blocks; the first embeds, the last has the head."""

    def __init__(self, clock: Clock, place: int, stages: int, blocks: int) -> None:
        super().__init__()
        whole = Transformer(clock, blocks, 4.0, 8.0)
        self.embed = whole.embed if place == 0 else None
        self.blocks = whole.blocks
        self.head = whole.head if place == stages - 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.embed is None else self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x if self.head is None else self.head(x)


def pipeline(order: Order, rank: int) -> None:
    """Train one stage a rank, 1F1B; the uneven one holds two blocks where the others hold one."""
    world, microbatches = order.what.world, 6
    torch.manual_seed(order.seed)
    heavy = order.faulty and rank == order.culprit
    module = Stage(Clock(17 * order.seed + rank), rank, world, 2 if heavy else 1)
    plan = Schedule1F1B(PipelineStage(module, rank, world, torch.device("cpu")), microbatches, loss_fn=_loss)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    draw = torch.Generator().manual_seed(order.seed)
    for _ in range(order.steps):
        batch = torch.randint(0, VOCABULARY, (microbatches, LENGTH + 1), generator=draw)
        if rank == 0:
            plan.step(batch[:, :-1])
        elif rank == world - 1:
            plan.step(target=batch[:, 1:])
        else:
            plan.step()
        optimizer.step()
        optimizer.zero_grad()


def _loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def leaving(order: Order, rank: int) -> None:
    """Train data parallel; one rank ends its loop early, as with less input, and the others wait for it."""
    clock = Clock(17 * order.seed + rank)
    torch.manual_seed(order.seed)
    model = DistributedDataParallel(Transformer(clock, 1, FORWARD_MS, BACKWARD_MS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(DataLoader(Files(order, rank), batch_size=None)):
        if order.faulty and rank == order.culprit and step == order.steps // 2:
            (Path(order.folder) / "leaving").touch()
            time.sleep(GONE_S)  # what comes after its training, or the end that comes from outside
        output = model(batch[:, :-1])
        nn.functional.cross_entropy(output.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


TASKS = {"slow-link": exchange, "experts": experts, "stage": pipeline, "leaves": leaving}


def train(order: Order, rank: int) -> None:
    """Train what the kind of fault wants."""
    TASKS.get(order.kind, transformer)(order, rank)
