"""Times the phases of a step: where torch offers a hook by that, else by a wrapper that counts nested calls once."""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any
from weakref import ref

from ._patches import Patches
from ._recorder import FAILED, PHASE, PHASE_OF, Recorder, clock

SHORT_COLLECTION_NS = 1_000_000  # Python collects young objects all the time: only pauses worth a record get one
OPTIMIZER, GC = PHASE_OF["optimizer"], PHASE_OF["gc"]


class Phase:
    """A phase while it runs, as a context manager; within itself it is not counted again."""

    __slots__ = ("_depth", "_extra", "_phase", "_recorder", "_start_ns")

    def __init__(self, recorder: Recorder, phase: int, extra: int = 0) -> None:
        self._recorder, self._phase, self._extra = recorder, phase, extra

    def __enter__(self) -> Phase:
        self._depth = depth = self._recorder.opened.depth
        depth[self._phase] += 1
        self._start_ns = clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_ns = clock()
        phase = self._phase
        self._depth[phase] -= 1
        if not self._depth[phase]:
            flags = 0 if kind is None or kind is StopIteration else FAILED
            record(self._recorder, phase, self._start_ns, end_ns, flags, self._extra)


class Nothing:
    """Stands for a phase where nothing is recorded."""

    __slots__ = ()

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        return None


NOTHING = Nothing()


def record(recorder: Recorder, phase: int, start_ns: int, end_ns: int, flags: int = 0, extra: int = 0) -> None:
    """Write one phase, if there is a ring by now; never raises."""
    try:
        if recorder.on and (recorder.ring or recorder.ready()):
            recorder.write(PHASE, phase, 0, flags, recorder.step, 0, start_ns, end_ns, -1, 0, extra)
    except Exception as error:
        recorder.fault(error)


def timed(
    recorder: Recorder, name: str, original: Callable[..., Any], microbatch: Callable[..., int] | None = None
) -> Callable[..., Any]:
    """Return a function timed as a phase; `microbatch(*args)` tells which one it works on.

    While torch's compiler traces, the call goes straight through, and so no trace of the timing stays in the graph.
    """
    phase, opened, is_compiling = PHASE_OF[name], recorder.opened, _compiling()

    def call(*args: Any, **kwargs: Any) -> Any:
        if is_compiling() or not recorder.on or opened.depth[phase]:
            return original(*args, **kwargs)
        flags, depth = FAILED, opened.depth
        depth[phase] = 1
        start_ns = clock()
        try:
            answer = original(*args, **kwargs)
            flags = 0
            return answer
        except StopIteration:  # the end of the data
            flags = 0
            raise
        finally:
            end_ns = clock()
            depth[phase] = 0
            record(recorder, phase, start_ns, end_ns, flags, 0 if microbatch is None else microbatch(*args, **kwargs))

    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(call, attribute, getattr(original, attribute, None) or "")
    call.__dict__["__wrapped__"] = original
    return call


def patch_torch(recorder: Recorder, patches: Patches, torch: ModuleType) -> None:
    """Time `backward` (of tensors too, which call the same function) and `torch.save`; watch the garbage collector."""
    patches.put(torch.autograd, "backward", timed(recorder, "backward", torch.autograd.backward))
    save = timed(recorder, "checkpoint", torch.save)
    patches.put(torch, "save", save)
    patches.put(torch.serialization, "save", save)
    watch_collections(recorder, patches)


def patch_data(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the wait for the next batch."""
    owner = module._BaseDataLoaderIter
    patches.put(owner, "__next__", timed(recorder, "data", owner.__next__))


def patch_fsdp(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the outermost forward of modules sharded by FullyShardedDataParallel."""
    owner = module.FullyShardedDataParallel
    patches.put(owner, "forward", timed(recorder, "forward", owner.forward))


def patch_fully_shard(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the outermost forward of modules sharded by `fully_shard`, whose classes come before the user's own."""
    owner = module.FSDPModule

    def through(self: Any, *args: Any, **kwargs: Any) -> Any:
        return super(owner, self).__call__(*args, **kwargs)

    patches.put(owner, "__call__", timed(recorder, "forward", through))


def patch_compiled(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the forward of compiled modules from outside: within, nothing of ours is left."""
    owner = module.OptimizedModule
    if "__call__" in vars(owner):
        patches.put(owner, "__call__", timed(recorder, "forward", owner.__call__))


def patch_checkpoint(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time distributed checkpoints."""
    patches.put(module, "save", timed(recorder, "checkpoint", module.save))


def patch_pipeline(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the microbatches of a pipeline stage."""
    owner = module._PipelineStageBase

    def number(_: Any, chunk: int = -1, *args: Any, **kwargs: Any) -> int:
        return int(kwargs.get("fwd_chunk_id", kwargs.get("bwd_chunk_id", chunk))) + 1

    for method, phase in (("forward_one_chunk", "forward"), ("backward_one_chunk", "backward"),
                          ("backward_weight_one_chunk", "backward")):  # fmt: skip
        if hasattr(owner, method):
            patches.put(owner, method, timed(recorder, phase, getattr(owner, method), number))


def patch_optimizer(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time `Optimizer.step` of all optimizers, and count steps by it until the program counts them itself."""
    opened, is_compiling = recorder.opened, _compiling()

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if is_compiling() or not recorder.on:
            return
        # An optimizer within another is part of it; the same one again means that its last step raised.
        if opened.optimizer in (0, id(optimizer)):
            opened.optimizer, opened.optimizer_ns = id(optimizer), clock()

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        if is_compiling() or opened.optimizer != id(optimizer):
            return
        end_ns = clock()
        opened.optimizer = 0
        record(recorder, OPTIMIZER, opened.optimizer_ns, end_ns)
        if not recorder.steps_by_hand and recorder.ring is not None:
            count_step(recorder, optimizer, end_ns)

    patches.later(module.register_optimizer_step_pre_hook(before).remove)
    patches.later(module.register_optimizer_step_post_hook(after).remove)


def count_step(recorder: Recorder, optimizer: Any, end_ns: int) -> None:
    """End the step, if this is the optimizer that steps are counted by: where there are several, the first."""
    try:
        leader = None if recorder.leader is None else recorder.leader()
        if leader is None:
            recorder.leader = ref(optimizer)
        elif leader is not optimizer:
            return
        recorder.end_step(end_ns)
    except Exception as error:
        recorder.fault(error)


def watch_collections(recorder: Recorder, patches: Patches) -> None:
    """Record the longer pauses of Python's garbage collector."""
    opened = recorder.opened

    def seen(moment: str, info: Mapping[str, int]) -> None:
        if moment == "start":
            opened.collection_ns = clock()
        elif recorder.ring is not None:  # a pause makes none: it may come before the device is known
            end_ns, start_ns = clock(), opened.collection_ns
            if start_ns and end_ns - start_ns >= SHORT_COLLECTION_NS:
                record(recorder, GC, start_ns, end_ns)

    gc.callbacks.append(seen)
    patches.later(lambda: gc.callbacks.remove(seen))


def _compiling() -> Callable[[], bool]:
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    found: Callable[[], bool] = getattr(compiler, "is_compiling", bool)  # bool() is False
    return found
