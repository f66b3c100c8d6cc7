"""Times the calls of c10d's process groups: at the classes written in C++, so that no caller is missed.

However a program came by a function (`dist.all_reduce`, a from-import, FSDP, batched messages), it ends in a method
of `ProcessGroup` and in `Work.wait`. The functions themselves stay as they are, so torch's own checks by identity and
its compiler's table of them go on working. A call ends where somebody waits for it; what nobody waits for has no
record.
"""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import Any
from weakref import ref

from ..spool import OPS
from . import _groups
from ._patches import Patches
from ._recorder import (
    BLOCKING,
    COLLECTIVE,
    COMM_WAIT,
    FAILED,
    PENDING,
    PHASE,
    SENDS,
    SHORT_WAIT_NS,
    Call,
    Recorder,
    clock,
)  # fmt: skip

NOWHERE = 99  # no argument tells the size
OP = {name: index for index, name in enumerate(OPS)}
# method: (operation, which argument tells the size, whether it is one member's part of the size). The size is that of
# the whole vector, as bus bandwidth is counted: the output of all_gather, the input of reduce_scatter.
METHODS = {
    "allreduce": ("all_reduce", 0, False), "allreduce_coalesced": ("all_reduce", 0, False),
    "allgather": ("all_gather", 1, True), "_allgather_base": ("all_gather", 0, False),
    "all_gather_single": ("all_gather", 0, False), "allgather_coalesced": ("all_gather", 1, True),
    "allgather_into_tensor_coalesced": ("all_gather", 0, False),
    "all_gather_single_coalesced": ("all_gather", 0, False),
    "reduce_scatter": ("reduce_scatter", 0, True), "_reduce_scatter_base": ("reduce_scatter", 1, False),
    "reduce_scatter_single": ("reduce_scatter", 1, False),
    "reduce_scatter_tensor_coalesced": ("reduce_scatter", 1, False),
    "reduce_scatter_single_coalesced": ("reduce_scatter", 1, False),
    "alltoall": ("all_to_all", 1, False), "alltoall_base": ("all_to_all", 1, False),
    "all_to_all_single": ("all_to_all", 1, False),
    "broadcast": ("broadcast", 0, False), "reduce": ("reduce", 0, False),
    "gather": ("gather", 1, True), "scatter": ("scatter", 0, True),
    "send": ("send", 0, False), "recv": ("recv", 0, False), "recv_anysource": ("recv", 0, False),
    "barrier": ("barrier", NOWHERE, False), "monitored_barrier": ("barrier", NOWHERE, False),
}  # fmt: skip


Peer = Callable[[tuple[Any, ...], dict[str, Any]], Any]  # arguments -> the other end, by its place in the group


def _told_second(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else _late(args, kwargs, 1)


def _anybody(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return -1


PEERS: dict[str, Peer] = {"send": _told_second, "recv": _told_second, "recv_anysource": _anybody}


def patch(recorder: Recorder, patches: Patches, c10d: ModuleType) -> None:
    """Time all methods of `ProcessGroup` that this torch has, and the ways to wait for a `Work`."""
    group_class, work_class = c10d.ProcessGroup, c10d.Work
    recorder.work_class, recorder.work_is_completed = work_class, work_class.is_completed
    for name, (op, place, is_part) in METHODS.items():
        if hasattr(group_class, name):
            method = timed(recorder, getattr(group_class, name), OP[op], place, is_part, PEERS.get(name))
            patches.put(group_class, name, _named(method, name))
    if hasattr(group_class, "_start_coalescing"):
        start, end = coalescing(recorder, group_class._start_coalescing, group_class._end_coalescing)
        patches.put(group_class, "_start_coalescing", _named(start, "_start_coalescing"))
        patches.put(group_class, "_end_coalescing", _named(end, "_end_coalescing"))
    patches.put(work_class, "wait", _named(waited(recorder, work_class.wait, vars(c10d)), "wait"))
    patches.put(work_class, "is_completed", _named(polled(recorder, work_class.is_completed), "is_completed"))
    patches.put(work_class, "get_future", _named(promised(recorder, work_class.get_future), "get_future"))
    if hasattr(c10d, "_update_default_pg"):
        patches.put(c10d, "_update_default_pg", _begun(recorder, c10d._update_default_pg))


def timed(
    recorder: Recorder, original: Callable[..., Any], op: int, place: int, is_part: bool, peer: Peer | None = None
) -> Callable[..., Any]:
    """Return a method of a process group that notes its call; `place` is the argument that tells the size."""
    groups, meet, pending = recorder.groups, recorder.meet, recorder.pending
    place += 1  # the arguments below are those with self: to hand on the tuple as it came costs least

    def call(*args: Any, **kwargs: Any) -> Any:
        start_ns = clock()
        group = groups.get(id(args[0]))
        if group is None:
            group = meet(args[0])
        if not group or (recorder.inside and recorder.inside == get_ident()):
            return original(*args, **kwargs)
        begun = None
        try:
            lane = group if peer is None else group.lane(op, peer(args[1:], kwargs))
            seq, step = next(lane.calls), recorder.step
            group.begin(seq, start_ns, op, step)
            group.newest_ns = start_ns
            given = args[place] if len(args) > place else _late(args, kwargs, place)
            try:
                size = (given[0] if type(given) is list and len(given) == 1 else given).nbytes
            except Exception:  # several tensors, a sparse one, or none
                size = size_bytes(given)
            event = None if recorder.timer is None else recorder.timer.started(args, place)
            begun = (op, group.index, step, seq, start_ns, size * group.size if is_part else size, lane.extra, event)
        except Exception as error:
            recorder.fault(error)
        if begun is None:
            return original(*args, **kwargs)
        try:
            work = original(*args, **kwargs) if kwargs else original(*args)
        except BaseException:
            recorder.close_call(begun, FAILED)
            raise
        # Nothing more is done here than must be: what stands between a call and its wait delays the wait.
        try:
            if work is not None and group.batch is None:
                pending[ref(work)] = begun
            else:
                _not_pending(recorder, group, begun)
        except Exception as error:
            recorder.fault(error)
        return work

    return call


def _not_pending(recorder: Recorder, group: _groups.Group, begun: Call) -> None:
    if group.batch is not None:
        group.batch.append(begun)
        if len(group.batch) > PENDING:  # the bundle was left by an exception and never ended
            group.batch = None
    else:  # it was over when the method returned
        recorder.close_call(begun, BLOCKING)


def waited(recorder: Recorder, original: Callable[..., Any], c10d_names: dict[str, Any]) -> Callable[..., Any]:
    """Return `Work.wait` that ends the call; a wait inside one of c10d's own functions makes it a blocking one."""
    take, caller = recorder.pending.pop, sys._getframe

    def wait(self: Any, timeout: Any = None) -> Any:
        try:
            begun = take(ref(self), None)
        except Exception:  # no hash: never ours
            begun = None
        if begun is None:
            return original(self) if timeout is None else original(self, timeout)
        flags = BLOCKING if caller(1).f_globals is c10d_names else 0
        from_ns = 0 if flags else clock()
        try:
            answer = original(self) if timeout is None else original(self, timeout)
        except BaseException:
            recorder.close_call(begun, flags | FAILED)
            raise
        end_ns = clock()
        try:
            if type(begun) is tuple and begun[7] is None:
                op, index, step, seq, start_ns, size, extra, _ = begun
                recorder.write(COLLECTIVE, op, index, flags, step, seq, start_ns, end_ns, -1, size, extra)
            else:
                recorder.close_call(begun, flags)
            if from_ns and end_ns - from_ns > SHORT_WAIT_NS:
                recorder.write(PHASE, COMM_WAIT, 0, 0, recorder.step, 0, from_ns, end_ns)
        except Exception as error:
            recorder.fault(error)
        return answer

    return wait


def taken(recorder: Recorder, work: Any) -> Call | list[Call] | None:
    """Take what a work stands for out of the calls under way; None for a work that is not timed."""
    try:
        return recorder.pending.pop(ref(work), None)
    except Exception:  # no hash: never ours
        return None


def polled(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `Work.is_completed` that ends the call when it first says yes."""

    def is_completed(self: Any) -> Any:
        answer = original(self)
        if answer:
            begun = taken(recorder, self)
            if begun is not None:
                recorder.close_call(begun, 0)
        return answer

    return is_completed


def promised(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `Work.get_future` that ends the call when the future is done: who takes it may never wait."""

    def get_future(self: Any) -> Any:
        future = original(self)
        begun = taken(recorder, self)
        if begun is not None:
            try:
                future.add_done_callback(lambda _: recorder.close_call(begun, 0))
            except Exception as error:
                recorder.fault(error)
        return future

    return get_future


def coalescing(
    recorder: Recorder, original_start: Callable[..., Any], original_end: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return both ends of a bundle of calls: collectives in it are one record, messages one for each peer."""

    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original_start(self, *args, **kwargs)
        group = recorder.groups.get(id(self)) or recorder.meet(self)
        if group:
            group.batch = []
        return answer

    def end(self: Any, *args: Any, **kwargs: Any) -> Any:
        group = recorder.groups.get(id(self))
        batch = None
        if group:
            batch, group.batch = group.batch, None
        work = original_end(self, *args, **kwargs)
        if batch and work is not None:
            try:
                recorder.pending[ref(work)] = bundled(batch)
            except Exception as error:
                recorder.fault(error)
        return work

    return start, end


def bundled(batch: list[Call]) -> list[Call]:
    """Return the calls of a bundle with its collectives as one: the first start, the last number, all bytes."""
    calls = [call for call in batch if call[0] in SENDS]
    collectives = [call for call in batch if call[0] not in SENDS]
    if collectives:
        (op, index, step, _, start_ns, _, _, event), last = collectives[0], collectives[-1]
        if any(call[0] != op for call in collectives):
            op = OP["other"]
        calls.append((op, index, step, last[3], start_ns, sum(call[5] for call in collectives), 0, event))
    return calls


def size_bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of all in a list of them or of lists; 0 for anything else."""
    if type(value) is list:
        return sum(map(size_bytes, value))
    try:
        size: int = value.nbytes
    except Exception:  # a sparse tensor has no nbytes of its own, and other kinds may raise what they like
        if isinstance(value, (list, tuple)):  # asked late: of a tensor the question itself takes long
            return sum(map(size_bytes, value))
        is_sparse = getattr(value, "is_sparse", False)
        size = size_bytes([value._indices(), value._values()]) if is_sparse else 0
    return size


def _late(args: tuple[Any, ...], kwargs: dict[str, Any], place: int) -> Any:
    """Return an argument that was perhaps given by name, as it comes in order; () where there is none."""
    values = (*args, *kwargs.values())
    return values[place] if len(values) > place else ()


def _begun(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    def update_default_pg(*args: Any) -> Any:
        answer = original(*args)
        recorder.ready()
        return answer

    return update_default_pg


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    return function
