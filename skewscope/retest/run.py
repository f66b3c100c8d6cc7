"""Runs the benchmarks of this node, whatever it has: GPUs with torch, else processors with torch or NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from . import _gpus, _processor, ranks
from .document import Measure, Result
from .rounds import Rounds

PARTS = 6  # benchmarks share the time that is given
Torch = Any


@dataclass(frozen=True)
class Plan:
    """What to run: `seconds` for all of it, about; `cpu` leaves GPUs alone; `together` wants all ranks of a launch."""

    node: str
    seconds: float = 30.0
    cpu: bool = False
    together: bool = False
    devices: Path = Path("/dev")
    clock_ns: Callable[[], int] = time.time_ns


def loaded(name: str = "torch") -> Torch | None:
    """Return torch where it is installed, None elsewhere."""
    try:
        return import_module(name)
    except ImportError:
        return None


def measure(plan: Plan, torch: Torch | None) -> list[Result]:
    """Return the results: of this node, and with `together` those of all nodes, the same on every rank."""
    if not plan.together:
        return [_own(plan, torch)]
    if torch is None:
        from ..errors import UsageError

        raise UsageError("--together needs torch, with its distributed part: pip install torch")
    where = ranks.place(ranks.environment())
    with ranks.Company(torch, where) as company:
        own = _own(plan, torch, where.local if where.locals > 1 else -1)
        between = company.measured(plan.node, _rounds(plan))
        whole = Result(own.node, own.time_ns, own.hardware, own.backend, (*own.measures, *between), own.failures,
                       own.took_s)  # fmt: skip
        return ranks.by_node(company.gathered(whole))


def _own(plan: Plan, torch: Torch | None, device: int = -1) -> Result:
    """Return what this node measures alone; with a `device` only that one."""
    began_s = time.monotonic()
    on_gpu = torch is not None and not plan.cpu and torch.cuda.is_available()
    backend = f"torch {torch.__version__} CUDA {torch.version.cuda}" if torch and on_gpu else _processor.backend(torch)
    model = _gpus.hardware(torch) if on_gpu else _processor.hardware()
    measures, failures = _tried(lambda: _benchmarks(torch, on_gpu, device, _rounds(plan)))
    if not on_gpu and not plan.cpu and has_gpus(plan.devices):
        failures.append("this node has GPUs, and they were not measured: torch with CUDA is missing or sees none")
    took_s = time.monotonic() - began_s
    return Result(plan.node, plan.clock_ns(), model, backend, tuple(measures), tuple(failures), took_s)


def has_gpus(devices: Path) -> bool:
    """Return whether there are device files of GPUs (NVIDIA, AMD): fast processors do not excuse a slow GPU."""
    return any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


def _benchmarks(torch: Torch | None, on_gpu: bool, device: int, rounds: Rounds) -> Sequence[Measure]:
    if not on_gpu or torch is None:
        return _processor.measured(torch, rounds)
    return _gpus.measured(torch, [device] if device >= 0 else range(torch.cuda.device_count()), rounds)


def _tried(work: Callable[[], Sequence[Measure]]) -> tuple[Sequence[Measure], list[str]]:
    """Return the measures, or what went wrong: a node whose GPU falls off in a test is to say so, not to die."""
    try:
        return work(), []
    except (RuntimeError, OSError) as error:  # torch raises RuntimeError for every fault of a device
        return (), [f"the benchmarks failed: {' '.join(str(error).split())[:200]}"]


def _rounds(plan: Plan) -> Rounds:
    return Rounds(budget_s=plan.seconds / PARTS)
