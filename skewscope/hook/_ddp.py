"""Times the gradient buckets of DistributedDataParallel, whose reducer calls C++ directly.

Where the program registers no communication hook, one is registered that does exactly what DDP does without: multiply
by one over the number of ranks, then sum over all. The results are equal bit for bit. Where that cannot be promised
(native mixed precision; gradients that are views of buckets, with a number of ranks that is no power of two, for which
DDP now divides and now multiplies; a group of unknown size) DDP is left alone and its buckets have no records. A hook
of the program's own is called as it is, and timed.
"""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import Any
from weakref import ref

from ..spool import OPS
from ._collectives import size_bytes
from ._patches import Patches
from ._phases import timed
from ._recorder import FAILED, Call, Recorder, clock

ALL_REDUCE = OPS.index("all_reduce")


class Slot:
    """What is known of one DDP module: the hook that the program registered after ours, and who has joined early."""

    def __init__(self, ddp: Any) -> None:
        self.ddp = ref(ddp)
        self.is_ours = False  # the reducer has our hook
        self.user: tuple[Any, Callable[[Any, Any], Any]] | None = None
        self.joined: Any = None  # work whose result is how many ranks still have input


def patch(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time forward and the buckets of all DistributedDataParallel modules."""
    owner = module.DistributedDataParallel
    torch = sys.modules["torch"]
    forward, make, backward = timed(recorder, "forward", owner.forward), owner.__init__, torch.autograd.backward
    is_compiling = torch.compiler.is_compiling

    @functools.wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        recorder.ddp_without_hook.add(self)

    @functools.wraps(owner.forward)
    def prepared(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_compiling() and recorder.on and self not in recorder.ddp_hooks:
            attach(recorder, self)
        return forward(self, *args, **kwargs)

    @functools.wraps(backward)
    def attached(*args: Any, **kwargs: Any) -> Any:
        # A compiled forward never came by us; the backward that starts now is the last chance.
        if not is_compiling() and recorder.on and recorder.ddp_without_hook:
            for ddp in list(recorder.ddp_without_hook):
                attach(recorder, ddp)
        return backward(*args, **kwargs)

    patches.put(owner, "__init__", __init__)
    patches.put(owner, "forward", prepared)
    patches.put(torch.autograd, "backward", attached)
    patches.put(owner, "register_comm_hook", _registering(recorder, owner.register_comm_hook))
    patches.put(owner, "_register_builtin_comm_hook", _built_in(recorder, owner._register_builtin_comm_hook))


def patch_join(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Note how many ranks still have input, which DDP divides by where it is told so."""
    original = module.Join.notify_join_context

    def notify_join_context(joinable: Any) -> Any:
        work = original(joinable)
        slot = recorder.ddp_hooks.get(joinable)
        if slot is not None:
            slot.joined = work
        return work

    patches.put(module.Join, "notify_join_context", staticmethod(notify_join_context))


def attach(recorder: Recorder, ddp: Any) -> None:
    """Register our hook with a module's reducer, where nobody has one and the numbers stay the same."""
    try:
        recorder.ddp_without_hook.discard(ddp)
        if ddp in recorder.ddp_hooks:
            return
        recorder.ddp_hooks[ddp] = slot = Slot(ddp)
        if not recorder.ready() or not may_attach(ddp):
            return
        dist = sys.modules["torch.distributed"]
        try:
            dist._register_comm_hook(ddp.reducer, slot, bucket_hook(recorder, ddp.process_group))
            slot.is_ours = True
        except RuntimeError:
            return  # a built-in hook was registered before we came
    except Exception as error:
        recorder.fault(error)


def may_attach(ddp: Any) -> bool:
    """Return whether our hook would give the numbers that DDP gives without."""
    ranks = ddp.process_group.size()
    steady = not ddp.gradient_as_bucket_view or ranks & (ranks - 1) == 0
    own_ways = ddp.mixed_precision is not None or ddp._use_python_reducer or ddp._delay_all_reduce_all_params
    return bool(ranks > 0 and steady and not own_ways and not ddp._comm_hooks)


def bucket_hook(recorder: Recorder, process_group: Any) -> Callable[[Any, Any], Any]:
    """Return the communication hook; it goes on giving the right sums when nothing is recorded any more."""
    methods = sys.modules["torch.distributed"].ProcessGroup
    take_future = sys.modules["torch.distributed.distributed_c10d"].Work.get_future

    # Without annotations: DDP compares them by identity.
    def skewscope_all_reduce(slot, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if slot.user is not None:
            state, hook = slot.user
            return timed_hook(recorder, process_group, hook)(state, bucket)
        tensor = bucket.buffer()
        if tensor.is_sparse:
            tensor.div_(divisor(slot, process_group))
        else:
            tensor.mul_(1.0 / divisor(slot, process_group))
        call = begun(recorder, process_group, tensor)
        previous, recorder.inside = recorder.inside, get_ident()
        try:
            future = take_future(methods.allreduce(process_group, [tensor]))
        finally:
            recorder.inside = previous
        return future.then(functools.partial(_reduced, recorder, call))

    return skewscope_all_reduce


def divisor(slot: Slot, process_group: Any) -> int:
    """Return how many ranks DDP averages over: all, or under `join` on demand those that still have input."""
    ddp, joined = slot.ddp(), slot.joined
    if joined is None or ddp is None or ddp._divide_by_initial_world_size:
        return int(process_group.size())
    joined.wait()
    return int(joined.result()[0].item())


def timed_hook(recorder: Recorder, process_group: Any, hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a program's hook, timed as one call from its start until its future is done."""

    @functools.wraps(hook)
    def call_hook(state, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        call = begun(recorder, process_group, bucket.buffer())
        previous, recorder.inside = recorder.inside, get_ident()
        try:
            future = hook(state, bucket)
        finally:
            recorder.inside = previous
        if call is not None:
            try:
                future.add_done_callback(lambda _: recorder.close_call(call, 0))
            except Exception as error:  # what the hook returned is DDP's to judge
                recorder.fault(error)
        return future

    return call_hook


def begun(recorder: Recorder, process_group: Any, tensor: Any) -> Call | None:
    """Note the start of a bucket's reduction; None where it cannot be recorded."""
    try:
        start_ns = clock()
        group = recorder.groups.get(id(process_group)) or recorder.meet(process_group)
        if not group:
            return None
        seq = next(group.calls)
        group.begin(seq, start_ns, ALL_REDUCE, recorder.step)
        group.newest_ns = start_ns
        event = None if recorder.timer is None else recorder.timer.started((tensor,), 0)
        return ALL_REDUCE, group.index, recorder.step, seq, start_ns, size_bytes(tensor), 0, event
    except Exception as error:
        recorder.fault(error)
        return None


def _reduced(recorder: Recorder, call: Call | None, future: Any) -> Any:
    """End a bucket on the thread that completes it and hand on its tensor."""
    flags = FAILED
    try:
        tensor = future.value()[0]
        flags = 0
        return tensor
    finally:
        if call is not None:
            recorder.close_call(call, flags)


def _registering(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def register_comm_hook(self: Any, state: object, hook: Callable[[Any, Any], Any]) -> None:
        slot = recorder.ddp_hooks.get(self)
        if slot is not None and slot.is_ours and slot.user is None:
            self._check_comm_hook(hook)
            self.logger._set_comm_hook_name(hook.__qualname__)
            self._comm_hooks.append((hook, state))
            slot.user = (state, hook)
        elif recorder.on and self.mixed_precision is None and hasattr(hook, "__qualname__"):
            original(self, state, timed_hook(recorder, self.process_group, hook))
        else:
            original(self, state, hook)

    return register_comm_hook


def _built_in(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _register_builtin_comm_hook(self: Any, kind: Any) -> None:
        slot = recorder.ddp_hooks.get(self)
        if slot is None or not slot.is_ours or slot.user is not None:
            original(self, kind)
            return
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        hooks = {"ALLREDUCE": default_hooks.allreduce_hook, "FP16_COMPRESS": default_hooks.fp16_compress_hook}
        self.logger._set_comm_hook_name(str(kind))
        slot.user = (self.process_group, hooks[kind.name])

    return _register_builtin_comm_hook
