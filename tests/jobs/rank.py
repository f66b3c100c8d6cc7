"""One rank of a job: `rank.py FOLDER SCENARIO.json RANK STORE`, started by run.py."""

from __future__ import annotations

import ctypes
import gc
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import net
import record
import torch
import torch.distributed as dist
from data import loader
from models import Block, Clock, SplitMlp, Transformer
from scenario import (
    BACKWARD_MS,
    FORWARD_MS,
    LAYERS,
    SEQUENCE_TOKENS,
    STAGE_BACKWARD_MS,
    STAGE_FORWARD_MS,
    Scenario,
)
from shares import train_shares
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn.parallel import DistributedDataParallel

NEW_HOST_NAME = 0x04000000  # CLONE_NEWUTS


class Rank:
    """What every kind of job needs: scenario, clock, input, log, profiler."""

    def __init__(self, folder: Path, scenario: Scenario, rank: int) -> None:
        self.folder, self.scenario, self.rank = folder, scenario, rank
        self.clock = Clock(17 * scenario.seed + rank)
        self.log = record.StepLog(folder, scenario, rank)
        self.counters = net.Counters() if scenario.kind == "slow-link" else None

    def steps(self, batch: int):
        """Yield (step, tokens, targets) with the log open, the profiler on, and device time set."""
        source = iter(loader(self.scenario, self.rank, batch))
        with record.profiler(self.folder, self.scenario, self.rank) as traced:
            for step in range(self.scenario.steps):
                self.log.begin(step)
                self.clock.ratio = self.scenario.device_ratio(self.rank, step)
                self.pause(step)
                with self.log.phase("data_loading"):
                    tokens, targets = next(source)
                if self.scenario.kind == "seqlen-rotating":
                    self.clock.ratio *= tokens.shape[1] / SEQUENCE_TOKENS
                yield step, tokens, targets
                traced.step()

    def pause(self, step: int) -> None:
        """Collect garbage for a while, where the scenario says so."""
        if self.scenario.kind == "gc-pause" and self.scenario.is_hit(self.rank, step):
            with self.log.phase("gc"):
                gc.collect()
                time.sleep(self.scenario.amount / 1e3)

    def end(self, tokens: torch.Tensor, loss: torch.Tensor | None) -> None:
        """Close the step's row."""
        more = self.counters.delta() if self.counters else {}
        self.log.end(tokens.numel(), None if loss is None else float(loss.detach()), more)


def train_ddp(rank: Rank) -> None:
    """Data parallel transformer, about six gradient buckets a step."""
    torch.manual_seed(rank.scenario.seed)
    model = DistributedDataParallel(Transformer(rank.clock, LAYERS, FORWARD_MS, BACKWARD_MS), bucket_cap_mb=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _, tokens, targets in rank.steps(batch=2):
        with rank.log.phase("forward"):
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        with rank.log.phase("backward"):
            loss.backward()
        with rank.log.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rank.end(tokens, loss)


def load_shard_from_remote_storage(length_s: float) -> None:
    """Stand for a storage read that does not come back."""
    time.sleep(length_s)


def train_hybrid(rank: Rank) -> None:
    """Tensor parallel pairs under data parallelism; one rank stops before a tensor-parallel all-reduce."""
    scenario = rank.scenario
    mesh = init_device_mesh("cpu", (scenario.world // 2, 2), mesh_dim_names=("dp", "tp"))
    torch.manual_seed(scenario.seed)
    inner = SplitMlp(rank.clock, mesh.get_group("tp"), LAYERS, FORWARD_MS / 2, BACKWARD_MS / 2)
    model = DistributedDataParallel(inner, process_group=mesh.get_group("dp"), bucket_cap_mb=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    record.watch(rank.folder, rank.rank, rank.log)
    for step, tokens, targets in rank.steps(batch=2):
        if scenario.is_hit(rank.rank, step):
            inner.layers[-1].before_reduce = lambda: load_shard_from_remote_storage(600.0)
        with rank.log.phase("forward"):
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        with rank.log.phase("backward"):
            loss.backward()
        with rank.log.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with rank.log.phase("metrics"):
            dist.all_reduce(torch.tensor([float(loss.detach()), tokens.numel(), step, 1.0]))
        rank.end(tokens, loss)


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


def train_pipeline(rank: Rank) -> None:
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


def main() -> None:
    """Run one rank."""
    folder, scenario = Path(sys.argv[1]), Scenario.read(Path(sys.argv[2]))
    number, store = int(sys.argv[3]), sys.argv[4]
    with suppress(OSError):  # without the right, all ranks keep the machine's host name
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_HOST_NAME) == 0:
            socket.sethostname(scenario.host(number))
    record.quiet()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=scenario.world)
    rank = Rank(folder, scenario, number)
    if scenario.kind == "slow-link":
        net.probe(folder, number, scenario.world)
    train = train_hybrid if scenario.kind == "hang" else train_pipeline if scenario.is_pipeline() else train_ddp
    train = train_shares if scenario.kind == "compute-twice" else train
    train(rank)
    dist.barrier()
    record.dump_flight(folder, number, as_pickle=False)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
