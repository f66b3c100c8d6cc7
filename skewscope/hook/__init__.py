"""Times collectives, steps and phases inside a training process and writes them into its ring.

    import skewscope.hook
    skewscope.hook.install()

at the start of a program, before or after torch is imported, or `python -m skewscope.hook train.py ...` without a
change to it. Nothing here raises into the training or changes its results, and nothing leaves the machine.
Environment: SKEWSCOPE_SPOOL (folder of the rings, else /run/skewscope/spool, else a private one), SKEWSCOPE_JOB (name,
else that of Slurm or torchrun), SKEWSCOPE_HOOK=0 (off).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._phases import NOTHING, Nothing, Phase
from ._recorder import MARK, PHASE_OF, Recorder, clock

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Handle", "experts", "install", "mark", "phase", "step"]

_active: Recorder | None = None
_handle: Handle | None = None
_at_fork = False


class Handle:
    """What `install` did; `close` undoes it. Also a context manager."""

    def __init__(self, recorder: Recorder | None = None, parts: Sequence[Any] = ()) -> None:
        self._recorder, self._parts = recorder, parts

    @property
    def path(self) -> str:
        """The ring's file, "" while there is none."""
        ring = None if self._recorder is None else self._recorder.ring
        return "" if ring is None else str(ring.path)

    def close(self) -> None:
        """Take every patch back and mark the ring as ended. May be called twice."""
        global _active, _handle
        if _handle is self:
            _active = _handle = None
        for part in self._parts:
            part()
        self._parts = ()
        if self._recorder is not None:
            self._recorder.off()
            atexit.unregister(self._recorder.off)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def install(job: str | None = None, spool: str | os.PathLike[str] | None = None) -> Handle:
    """Start to record this process and return the handle that ends it; called again, return the same one.

    The ring is made in `spool` (else as the environment says) once the rank is known: with the first process group,
    or with the first phase or step where RANK is in the environment. A forked child records nothing until it calls
    this itself.
    """
    global _active, _handle, _at_fork
    if os.environ.get("SKEWSCOPE_HOOK") == "0":
        return Handle()
    if _handle is not None and _active is not None:
        if _active.pid != os.getpid():
            _active.revive()
        return _handle
    from . import _targets

    _active = Recorder(job, spool)
    _handle = Handle(_active, _targets.watch(_active))
    atexit.register(_active.off)
    if not _at_fork:
        os.register_at_fork(after_in_child=_forked)
        _at_fork = True
    return _handle


def step(work: Mapping[str, int] | None = None) -> None:
    """Mark the end of a step; `work` tells what it did, as `{"tokens": 8192, "samples": 4}`.

    Units: tokens, samples, microbatches, squared_tokens, dropped_tokens. Without any call of this, a step ends with
    the step of the first optimizer.
    """
    recorder = _active
    if recorder is None or not recorder.on:
        return
    now_ns = clock()
    try:
        if recorder.ring is None and not recorder.ready():
            return
        if recorder.steps_by_hand or not recorder.step:
            recorder.end_step(now_ns, work)
        else:  # the optimizer has just ended this step
            recorder.write_work(now_ns, work, recorder.step - 1)
        recorder.steps_by_hand = True
    except Exception as error:
        recorder.fault(error)


def phase(name: str, microbatch: int = -1) -> Phase | Nothing:
    """Return a context manager that times a phase: data, h2d, forward, backward, optimizer, checkpoint, eval.

    Other names count as "other"; `microbatch` counts from 0.
    """
    recorder = _active
    if recorder is None or not recorder.on:
        return NOTHING
    return Phase(recorder, PHASE_OF.get(name, 0), microbatch + 1)


def experts(layer: int, counts: Sequence[int]) -> None:
    """Record how many tokens a layer's router sent to each expert; a tensor on a GPU is waited for."""
    recorder = _active
    if recorder is None or not recorder.on:
        return
    try:
        if recorder.ready() and recorder.ring is not None:
            listed = counts.tolist() if hasattr(counts, "tolist") else counts
            recorder.ring.experts(recorder.step, layer, listed)
    except Exception as error:
        recorder.fault(error)


def mark(name: str) -> None:
    """Record that something happened now; the first 16 bytes of its name are kept."""
    recorder = _active
    if recorder is None or not recorder.on:
        return
    now_ns = clock()
    try:
        if recorder.ready():
            told = name.encode()[:16].ljust(16, b"\0")
            first, second = (int.from_bytes(told[at : at + 8], "little") for at in (0, 8))
            recorder.write(MARK, 0, 0, 0, recorder.step, first, now_ns, now_ns, -1, second)
    except Exception as error:
        recorder.fault(error)


def _forked() -> None:
    if _active is not None:
        _active.forked()
