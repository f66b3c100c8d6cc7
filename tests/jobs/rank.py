"""One rank of a job: `rank.py FOLDER SCENARIO.json RANK STORE`, started by run.py."""

from __future__ import annotations

import ctypes
import gc
import json
import socket
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import net
import record
import torch
import torch.distributed as dist
from data import loader
from models import Clock, SplitMlp, Transformer
from scenario import (
    BACKWARD_MS,
    FORWARD_MS,
    LAYERS,
    SEQUENCE_TOKENS,
    Scenario,
)
from shares import train_shares
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

NEW_HOST_NAME = 0x04000000  # CLONE_NEWUTS


def kept_waiting_s() -> float:
    """Return how long this process was ready to run while others had the cores; 0 where the kernel does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Rank:
    """What every kind of job needs: scenario, clock, input, log, profiler."""

    def __init__(self, folder: Path, scenario: Scenario, rank: int) -> None:
        self.folder, self.scenario, self.rank = folder, scenario, rank
        self.clock = Clock(17 * scenario.seed + rank)
        self.log = record.StepLog(folder, scenario, rank)
        self.counters = net.Counters() if scenario.kind == "slow-link" else None
        self.kept_waiting_s: list[float] = []  # until the end of each step

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
                self.kept_waiting_s.append(kept_waiting_s())

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
    if scenario.is_pipeline():
        from stages import train_pipeline as train  # imports as much as all else together
    else:
        train = {"hang": train_hybrid, "compute-twice": train_shares}.get(scenario.kind, train_ddp)
    train(rank)
    waits_s = [after - before for before, after in pairwise(rank.kept_waiting_s)]
    Path(store).with_name(f"kept_waiting_rank{number}.json").write_text(json.dumps(waits_s))
    dist.barrier()
    record.dump_flight(folder, number, as_pickle=False)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
