"""Times the functional collectives, which DTensor and tensor parallel layers call: they enter C++ by another door.

Only eager calls are timed. What torch's compiler traces goes straight through.
"""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from weakref import ref

from . import _collectives, _groups
from ._patches import Patches
from ._recorder import BLOCKING, FAILED, Recorder, clock

# function: (operation, place of its group among the arguments, whether the input is one member's part of the size).
# Older torch has the work in all_gather_tensor, newer in all_gather_single; where both are, one calls the other.
FUNCTIONS = {
    "all_reduce": ("all_reduce", 2, False), "all_reduce_coalesced": ("all_reduce", 2, False),
    "broadcast": ("broadcast", 2, False),
    "all_gather_tensor": ("all_gather", 2, True), "all_gather_single": ("all_gather", 2, True),
    "reduce_scatter_tensor": ("reduce_scatter", 3, False), "reduce_scatter_single": ("reduce_scatter", 3, False),
    "all_to_all_single": ("all_to_all", 3, False),
}  # fmt: skip
NEWER = {"all_gather_tensor": "all_gather_single", "reduce_scatter_tensor": "reduce_scatter_single"}


def patch(recorder: Recorder, patches: Patches, module: ModuleType) -> None:
    """Time the functional collectives of this torch and the wait for their tensors."""
    for name, (op, place, is_part) in FUNCTIONS.items():
        if hasattr(module, name) and not hasattr(module, NEWER.get(name, "")):
            patches.put(module, name, timed(recorder, module, name, _collectives.OP[op], place, is_part))
    patches.put(module, "wait_tensor", waited(recorder, module))


def timed(recorder: Recorder, module: ModuleType, name: str, op: int, place: int, is_part: bool) -> Callable[..., Any]:
    """Return a functional collective that notes its call; `place` is the argument that names the group."""
    original, is_tracing = getattr(module, name), _tracing(module)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_tracing() or not recorder.on:
            return original(*args, **kwargs)
        begun = None
        start_ns = clock()
        group = _group(recorder, kwargs["group"] if "group" in kwargs else args[place] if len(args) > place else None)
        if group:
            begun = (op, group.index, recorder.step, next(group.calls), start_ns)
            group.begin(begun[3], start_ns, op, begun[2])
            group.newest_ns = start_ns
        try:
            answer = original(*args, **kwargs)
        except BaseException:
            if begun is not None:
                recorder.close_call((*begun, 0, 0, None), FAILED)
            raise
        if group and begun is not None:
            _note(recorder, begun, answer, args[0] if args else kwargs["self"], len(group.ranks) if is_part else 1)
        return answer

    return call


def waited(recorder: Recorder, module: ModuleType) -> Callable[..., Any]:
    """Return `wait_tensor` that ends the call of its tensor."""
    original, is_tracing = module.wait_tensor, _tracing(module)

    @functools.wraps(original)
    def wait_tensor(tensor: Any) -> Any:
        begun = None if is_tracing() else _collectives.taken(recorder, tensor)
        try:
            answer = original(tensor)
        except BaseException:
            if begun is not None:
                recorder.close_call(begun, FAILED)
            raise
        if begun is not None:
            recorder.close_call(begun, 0)
        return answer

    return wait_tensor


def _note(recorder: Recorder, begun: Any, answer: Any, given: Any, parts: int) -> None:
    """Keep the call until its tensor is waited for; a plain tensor has been waited for already."""
    try:
        size = _collectives.size_bytes(given) * parts
        first = answer[0] if isinstance(answer, list | tuple) else answer
        inner = getattr(first, "elem", None)
        if inner is None:
            recorder.close_call((*begun, size, 0, None), BLOCKING)
        else:
            recorder.pending[ref(inner)] = (*begun, size, 0, None)
    except Exception as error:
        recorder.fault(error)


def _group(recorder: Recorder, named: Any) -> _groups.Group | None:
    """Return the group that a caller means: a process group, its name, a mesh, or (mesh, dimension)."""
    try:
        c10d = sys.modules["torch.distributed.distributed_c10d"]
        if isinstance(named, str):
            named = c10d._resolve_process_group(named)
        elif isinstance(named, tuple) and len(named) == 2:
            named = named[0].get_group(named[1])
        elif hasattr(named, "get_group"):
            named = named.get_group()
        if not isinstance(named, c10d.ProcessGroup):
            return None  # lists of ranks: torch itself looks these up only in its own way
        return recorder.groups.get(id(named)) or recorder.meet(named) or None
    except Exception as error:
        recorder.fault(error)
        return None


def _tracing(module: ModuleType) -> Callable[[], bool]:
    found: Callable[[], bool] | None = getattr(module, "_are_we_tracing", None)
    return found or sys.modules["torch"].compiler.is_compiling
