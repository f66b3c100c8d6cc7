"""Which modules of torch are timed, and by what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import _collectives, _cuda, _ddp, _functional, _phases
from ._imports import Watch
from ._patches import Patches
from ._recorder import Recorder

ACTIONS = {
    "torch": _phases.patch_torch,
    "torch.cuda": _cuda.patch,
    "torch.optim.optimizer": _phases.patch_optimizer,
    "torch.utils.data.dataloader": _phases.patch_data,
    "torch.distributed.distributed_c10d": _collectives.patch,
    "torch.distributed._functional_collectives": _functional.patch,
    "torch.distributed.algorithms.join": _ddp.patch_join,
    "torch.nn.parallel.distributed": _ddp.patch,
    "torch._dynamo.eval_frame": _phases.patch_compiled,
    "torch.distributed.fsdp.fully_sharded_data_parallel": _phases.patch_fsdp,
    "torch.distributed.fsdp._fully_shard._fully_shard": _phases.patch_fully_shard,
    "torch.distributed.checkpoint": _phases.patch_checkpoint,
    "torch.distributed.pipelining.stage": _phases.patch_pipeline,
}


def watch(recorder: Recorder) -> tuple[Callable[[], None], ...]:
    """Patch what is imported and whatever will be; return what takes it back."""
    patches = Patches()
    actions = {name: partial(action, recorder, patches) for name, action in ACTIONS.items()}
    watching = Watch(actions, recorder.fault)
    watching.start()
    return watching.stop, patches.undo
