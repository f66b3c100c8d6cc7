"""Real jobs on gloo: `_ranks.py OUT NAME:WORLD...`. Torch is imported once; the ranks of each job are forked.

Each job is a function of its rank; what it returns is written to OUT/NAME/rank<R>.json, its rings lie in
OUT/NAME/spool.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import weakref
from importlib import import_module
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from _training import ddp, installed, sharded, world
from torch import nn
from torch.distributed import all_reduce as imported_by_name
from torch.nn.parallel import DistributedDataParallel

import skewscope.hook as hook

LATE_S = 0.2


def collectives(rank: int) -> object:
    """Every blocking collective that gloo has, by every way to call one; rank 1 comes late to the last."""
    one, many = torch.ones(4), [torch.ones(4) for _ in range(world())]
    dist.all_reduce(one)
    imported_by_name(one)
    dist.group.WORLD.allreduce([one]).wait()
    dist.all_gather(many, one)
    dist.all_gather_into_tensor(torch.ones(4 * world()), one)
    dist.reduce_scatter_tensor(torch.ones(4), torch.ones(4 * world()))
    dist.all_to_all_single(torch.ones(2 * world()), torch.ones(2 * world()))
    dist.broadcast(one, 0)
    dist.reduce(one, 0)
    dist.gather(one, many if rank == 0 else None, 0)
    dist.scatter(one, many if rank == 0 else None, 0)
    dist.all_gather_object([None] * world(), {"rank": rank})
    with dist._coalescing_manager():
        dist.all_reduce(one)
        dist.all_reduce(one)
    half = dist.new_group([0], group_desc="mesh_tp")
    if rank == 0:
        dist.all_reduce(one, group=half)
    dist.barrier()
    time.sleep(LATE_S if rank == 1 else 0)
    dist.all_reduce(torch.ones(1000))
    return None


def messages(rank: int) -> object:
    """Blocking and batched messages around a ring of ranks, by position and by keyword."""
    after, before = (rank + 1) % world(), (rank - 1) % world()
    tensor, other = torch.ones(8), torch.ones(8)
    for _ in range(3):
        batch = [dist.P2POp(dist.isend, tensor, after), dist.P2POp(dist.irecv, other, before)]
        for work in dist.batch_isend_irecv(batch):
            work.wait()
    if rank == 0:
        dist.send(tensor, dst=1)
        dist.group.WORLD.send(tensors=[tensor], dstRank=1, tag=0).wait()
    elif rank == 1:
        dist.recv(other, src=0)
        dist.recv(other)
    return None


def late_waits(rank: int) -> object:
    """Asynchronous calls: waited for late, polled, by future, dropped, and kept but never waited for."""
    one = torch.ones(4)
    dist.all_reduce(one)
    work = dist.all_reduce(one, async_op=True)
    time.sleep(0.02)
    work.wait()
    polled = dist.all_reduce(one, async_op=True)
    while not polled.is_completed():
        time.sleep(0.001)
    dist.all_reduce(one, async_op=True).get_future().wait()
    kept = dist.all_reduce(one, async_op=True)
    dropped = dist.all_reduce(one, async_op=True)
    gone = weakref.ref(dropped)
    dist.barrier()
    del dropped
    heart = hook._active._heart
    pending = len(hook._active.pending)
    heart.beat()
    after = len(hook._active.pending)
    last = dist.all_reduce(one, async_op=True)
    while not _recorder_is_over(last):
        time.sleep(0.001)
    del last
    heart.beat()
    kept.wait()
    return {"gone": gone() is None, "pending": [pending, after]}


def _recorder_is_over(work: object) -> bool:
    return hook._active.is_over(work)


def functionals(rank: int) -> object:
    """Functional collectives, eager and compiled, and a DTensor that changes its placement."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    one, group = torch.arange(4.0), dist.group.WORLD
    mesh = init_device_mesh("cpu", (world(),), mesh_dim_names=("tp",))
    summed = functional.all_reduce(one, "sum", group) + 0
    gathered = functional.all_gather_tensor(one, 0, (mesh, 0)) + 0
    functional.wait_tensor(functional.reduce_scatter_tensor(torch.ones(4 * world()), "sum", 0, group.group_name))
    whole = distribute_tensor(torch.ones(8, 2), mesh, [Shard(0)]).redistribute(mesh, [Replicate()]).to_local()

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: torch.Tensor) -> torch.Tensor:
        y = functional.wait_tensor(functional.all_reduce(x, "sum", group)) + 1
        dist.all_reduce(y)
        return y

    before = hook._active.ring.last_number
    model = torch.compile(nn.Linear(4, 4), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(one).sum().backward()
    torch.compile(optimizer.step, backend="eager")()
    wrapped = DistributedDataParallel(nn.Linear(4, 4))
    torch.compile(wrapped, backend="eager")(one).sum().backward()
    return {
        "summed": summed.tolist(), "gathered": gathered.tolist(), "whole": list(whole.shape),
        "compiled": compiled(one).tolist(), "records": hook._active.ring.last_number - before,
    }  # fmt: skip


class Numbers(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        with hook.phase("other"):
            return index + (1000 if hook._active.ring is None else 0)  # a worker has no ring


def phases(rank: int) -> object:
    """Phases and steps, of torch's own doing and by name, with forked workers of a data loader."""
    out = Path(os.environ["SKEWSCOPE_SPOOL"]).parent
    model = DistributedDataParallel(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = []
    for batch in torch.utils.data.DataLoader(Numbers(), batch_size=2, num_workers=1):
        batches.append(batch.tolist())
        with hook.phase("forward"):
            loss = model(torch.ones(1, 2)).sum()
        with hook.phase("backward", microbatch=3):
            loss.backward()
        optimizer.step()
        other.step()
    torch.save(model.state_dict(), out / f"model{rank}.pt")
    with hook.phase("no such phase"):
        pass
    hook.step({"tokens": 10, "parsecs": 2})  # the optimizer has ended this step already
    time.sleep(0.01)
    hook.step({"samples": 5})
    optimizer.step()
    hook.experts(3, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    hook.experts(4, torch.tensor([7, 8]))
    hook.mark("rewarm")
    return {"batches": batches}


def pipeline(rank: int) -> object:
    """Two stages, one forward and one backward at a time, four microbatches."""
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    stage = PipelineStage(nn.Linear(8, 8), rank, world(), torch.device("cpu"))
    plan = Schedule1F1B(stage, 4, loss_fn=lambda output, target: (output - target).square().mean())
    plan.step(torch.ones(8, 8)) if rank == 0 else plan.step(target=torch.ones(8, 8))
    return None


def errors(rank: int) -> object:
    """Errors of the program pass through as they are, with a flagged record; three of ours end the recording."""
    told = {}
    try:
        dist.group.WORLD.allreduce(["no tensor"])
    except TypeError as error:
        told["collective"] = [type(error).__name__, error.__context__ is None]
    try:
        with hook.phase("eval"):
            raise KeyError("mine")
    except KeyError as error:
        told["phase"] = str(error)
    recorder = hook._active
    good = recorder.write

    def bad(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    recorder.write = bad
    one = torch.ones(2)
    for _ in range(3):
        dist.all_reduce(one)
        told.setdefault("on", []).append(recorder.on)
    recorder.write = good
    dist.all_reduce(one)
    told["sum"] = one.tolist()
    told["file"] = str(recorder.ring.path)
    return told


def restored(rank: int) -> object:
    """After `close` every attribute is what it was."""
    owners = {
        "ProcessGroup": dist.ProcessGroup, "Work": dist.Work, "c10d": dist.distributed_c10d, "torch": torch,
        "autograd": torch.autograd, "functional": functional, "DDP": DistributedDataParallel,
        "loader": torch.utils.data.dataloader._BaseDataLoaderIter, "serialization": torch.serialization,
    }  # fmt: skip
    import gc

    before = {name: dict(vars(owner)) for name, owner in owners.items()}
    watchers, finders = list(gc.callbacks), list(sys.meta_path)
    patched = {}
    for _ in range(2):
        with installed() as handle:
            again = hook.install() is handle
            dist.all_reduce(torch.ones(1))
            for name, owner in owners.items():
                patched[name] = [key for key, value in before[name].items() if vars(owner).get(key) is not value]
    ours = dist.all_reduce
    left = {
        name: [key for key, value in before[name].items() if vars(owner).get(key) is not value]
        + [key for key in vars(owner) if key not in before[name]]
        for name, owner in owners.items()
    }
    dist.all_reduce(torch.ones(1))
    return {
        "patched": {name: len(keys) for name, keys in patched.items()}, "left": left, "again": again,
        "callbacks": gc.callbacks == watchers, "finders": sys.meta_path == finders, "same": ours is dist.all_reduce,
    }  # fmt: skip


def forked(rank: int) -> object:
    """A forked child leaves the parent's ring alone, and may install again for a ring of its own."""
    dist.all_reduce(torch.ones(1))
    ring = hook._active.ring
    before = ring.last_number
    child = os.fork()
    if child == 0:
        with hook.phase("eval"):
            hook.step()
        untouched = hook._active.ring is None
        hook.install()
        hook.step()
        own = hook._active.ring
        os._exit(0 if untouched and own is not None and own.path != ring.path else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"child": code, "untouched": ring.last_number == before, "on": hook._active.on}


def flight(rank: int) -> object:
    """A request in the spool makes every rank write its flight record."""
    spool = Path(os.environ["SKEWSCOPE_SPOOL"])
    dist.all_reduce(torch.ones(1))
    (spool / ".dump-request").touch()
    hook._active._heart.beat()
    hook._active._heart.beat()
    return sorted(path.name for path in (spool / "flight").iterdir())


WITHOUT = (ddp, sharded, restored)  # these install by themselves
JOBS = (
    collectives,
    messages,
    late_waits,
    ddp,
    sharded,
    functionals,
    phases,
    pipeline,
    errors,
    restored,
    forked,
    flight,
)


def run(job, rank: int, size: int, out: Path) -> None:
    os.environ.update(SKEWSCOPE_SPOOL=str(out / "spool"), LOCAL_RANK=str(rank))
    if job not in WITHOUT:
        installed()
    dist.init_process_group("gloo", init_method=f"file://{out / 'store'}", rank=rank, world_size=size)
    told = job(rank)
    (out / f"rank{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()
    hook.install().close()


def main() -> None:
    torch.set_num_threads(1)
    for name in ("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed.pipelining"):
        import_module(name)  # once, rather than in every rank
    for word in sys.argv[2:]:
        name, size = word.split(":")
        job = next(one for one in JOBS if one.__name__ == name)
        out = Path(sys.argv[1]) / word.replace(":", "-")
        (out / "spool").mkdir(parents=True)
        children = []
        for rank in range(int(size)):
            child = os.fork()
            if child == 0:
                try:
                    run(job, rank, int(size), out)
                    os._exit(0)
                except BaseException:
                    (out / f"error{rank}.txt").write_text(traceback.format_exc())
                    os._exit(1)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
