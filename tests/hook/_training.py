"""Training jobs for _ranks.py: DistributedDataParallel and FSDP, with and without the hook."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import skewscope.hook as hook


def world() -> int:
    return dist.get_world_size()


def installed() -> hook.Handle:
    return hook.install(job="test")


class Net(nn.Module):
    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(10, 7, sparse=sparse)
        self.inner = nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.table(x))


def train(rank: int, steps: int = 3, register=None, late=None, none: bool = True, sparse: bool = False, **settings):
    model = DistributedDataParallel(Net(sparse), bucket_cap_mb=0.0005, **settings)
    if register is not None:
        register(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(100 + rank)
    for step in range(steps):
        loss = model(torch.randint(0, 10, (5,))).square().mean()
        if step == 1 and late is not None:
            late(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=none)
    return [parameter.detach().flatten().tolist() for parameter in model.parameters()]


def user_hook(state, bucket):  # without annotations: DDP would compare them by identity
    state.append(bucket.index())
    half = bucket.buffer().div_(2 * world())
    return dist.all_reduce(half, async_op=True).get_future().then(lambda future: future.value()[0])


def mean_hook(state, bucket):
    state.append(bucket.index())
    work = dist.all_reduce(bucket.buffer().div_(world()), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def nearly(one: list[list[float]], other: list[list[float]]) -> bool:
    return all(torch.allclose(torch.tensor(a), torch.tensor(b)) for a, b in zip(one, other, strict=True))


def is_attached(name: str) -> bool:
    settings = {key: value for key, value in VARIANTS[name].items() if key != "none"}
    model = DistributedDataParallel(Net(), **settings)
    model(torch.tensor([1])).sum().backward()
    return hook._active.ddp_hooks[model].is_ours


def built_in(model: DistributedDataParallel) -> None:
    model._register_builtin_comm_hook(dist.BuiltinCommHookType.ALLREDUCE)


def joined(rank: int) -> list[list[float]]:
    """Train with uneven inputs: rank 0 ends first, and the mean goes over those that still have input."""
    model = DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        model(torch.randint(0, 10, (5,))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    torch.manual_seed(100 + rank)
    step()
    with model.join(divide_by_initial_world_size=False):
        for _ in range(1 + rank):
            step()
    return [parameter.detach().flatten().tolist() for parameter in model.parameters()]


VARIANTS = {
    "plain": {},
    "bucket-view": {"gradient_as_bucket_view": True},
    "bucket-view-kept": {"gradient_as_bucket_view": True, "none": False},
    "sparse": {"sparse": True},
    "unused": {"find_unused_parameters": True},
    "static": {"static_graph": True},
}


def ddp(rank: int) -> object:
    """Train with and without the hook; the numbers must be equal bit for bit."""
    bare = {name: train(rank, **how) for name, how in VARIANTS.items()}
    bare["joined"] = joined(rank)
    seen: list[list[int]] = [[], [], []]
    bare["user"] = train(rank, register=lambda model: model.register_comm_hook(seen[0], user_hook))
    with installed():
        timed = {name: train(rank, **how) for name, how in VARIANTS.items()}
        timed["joined"] = joined(rank)
        timed["user"] = train(rank, register=lambda model: model.register_comm_hook(seen[1], user_hook))
        kept = DistributedDataParallel(Net())
        kept(torch.tensor([1])).sum().backward()
        late = train(rank, late=lambda model: model.register_comm_hook(seen[2], mean_hook))
        late_built_in = train(rank, late=built_in)
        attached = {name: is_attached(name) for name in ("plain", "bucket-view")}
        twice = DistributedDataParallel(Net())
        twice(torch.tensor([1])).sum().backward()
        registered_twice = [_raises(lambda: twice.register_comm_hook([], user_hook)) for _ in range(2)]
        on = hook._active.on
    kept(torch.tensor([1])).sum().backward()  # our hook is in its reducer still, and records nothing
    return {
        "on": on,
        "equal": {name: bare[name] == timed[name] for name in bare},
        "seen": [len(one) for one in seen],
        "late": nearly(late, bare["plain"]),
        "built_in": nearly(late_built_in, bare["plain"]),
        "attached": attached,
        "registered_twice": registered_twice,
    }  # fmt: skip


def _raises(action) -> str:
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return ""


def sharded(rank: int) -> object:
    """FSDP by `fully_shard` and by FullyShardedDataParallel, with and without the hook."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    def shard(wrapped: bool) -> list[float]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        if wrapped:
            model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        else:
            fully_shard(model[0])
            fully_shard(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        torch.manual_seed(rank)
        for _ in range(3):
            loss = model(torch.randn(4, 8)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    bare = [_or_error(lambda: shard(False)), _or_error(lambda: shard(True))]
    with installed():
        timed = [_or_error(lambda: shard(False)), _or_error(lambda: shard(True))]
    return {"equal": bare == timed, "losses": timed}


def _or_error(action):
    try:
        return action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
