"""The benchmarks of a node's GPUs: all at once, so that what they share (power, cooling, host memory) is under load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .document import Measure
from .rounds import Rounds, speed, told

SIZE = 8192
REPEATS = 8  # products in a round: one alone is over before a clock moves
COPY_BYTES = 2**30
HOST_BYTES = 2**28
Torch = Any
Work = Callable[[int], object]


def measured(torch: Torch, devices: Sequence[int], rounds: Rounds) -> list[Measure]:
    """Return the speeds of the devices (numbers of this node): products, copies, both ways to the host, each link."""
    found = []
    for name, unit, work, amount, begin in (
        ("gemm", "flops", f"bfloat16 {SIZE}", 2.0 * SIZE**3 * REPEATS, _products),
        ("copy", "bytes", f"{COPY_BYTES >> 20} MiB", 2.0 * COPY_BYTES, _copies),
        ("to_device", "bytes", f"{HOST_BYTES >> 20} MiB", float(HOST_BYTES), _to_devices),
        ("from_device", "bytes", f"{HOST_BYTES >> 20} MiB", float(HOST_BYTES), _from_devices),
    ):
        took = told(_round(torch, devices, begin(torch, devices)), rounds)
        found += [speed(name, unit, f"gpu{one}", work, amount, [each[at] for each in took])
                  for at, one in enumerate(devices)]  # fmt: skip
        torch.cuda.empty_cache()
    return found + (_links(torch, devices, rounds) if len(devices) > 1 else [])


def hardware(torch: Torch) -> str:
    """Return the model of the GPUs and how many there are."""
    return f"{torch.cuda.get_device_name(0)} x{torch.cuda.device_count()}"


def _round(torch: Torch, devices: Sequence[int], work: Work) -> Callable[[], list[float]]:
    """Return what starts `work` on all devices and gives the seconds that each was busy."""

    def once() -> list[float]:
        marks = []
        for one in devices:
            with torch.cuda.device(one):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                work(one)
                end.record()
                marks.append((begin, end))
        for one in devices:
            torch.cuda.synchronize(one)
        return [begin.elapsed_time(end) / 1e3 for begin, end in marks]

    return once


def _products(torch: Torch, devices: Sequence[int]) -> Work:
    held = {one: [_filled(torch, one) for _ in range(3)] for one in devices}

    def work(one: int) -> None:
        for _ in range(REPEATS):
            torch.mm(held[one][0], held[one][1], out=held[one][2])

    return work


def _filled(torch: Torch, device: int) -> Any:  # noqa: ANN401 - a tensor
    """Return random numbers: zeros draw less power, and a GPU short of power would look well."""
    return torch.rand(SIZE, SIZE, device=f"cuda:{device}").to(torch.bfloat16)


def _copies(torch: Torch, devices: Sequence[int]) -> Work:
    held = {one: [_space(torch, COPY_BYTES, device=f"cuda:{one}") for _ in range(2)] for one in devices}
    return lambda one: held[one][0].copy_(held[one][1])


def _to_devices(torch: Torch, devices: Sequence[int]) -> Work:
    held = _beside_the_host(torch, devices)
    return lambda one: held[one][0].copy_(held[one][1], non_blocking=True)


def _from_devices(torch: Torch, devices: Sequence[int]) -> Work:
    held = _beside_the_host(torch, devices)
    return lambda one: held[one][1].copy_(held[one][0], non_blocking=True)


def _beside_the_host(torch: Torch, devices: Sequence[int]) -> dict[int, tuple[Any, Any]]:
    return {one: (_space(torch, HOST_BYTES, device=f"cuda:{one}"), _space(torch, HOST_BYTES, pin_memory=True))
            for one in devices}  # fmt: skip


def _links(torch: Torch, devices: Sequence[int], rounds: Rounds) -> list[Measure]:
    """Return the speed from each device to the next, all at once, around the ring."""
    after = {one: devices[(at + 1) % len(devices)] for at, one in enumerate(devices)}
    sources = {one: _space(torch, COPY_BYTES, device=f"cuda:{one}") for one in devices}
    targets = {one: _space(torch, COPY_BYTES, device=f"cuda:{after[one]}") for one in devices}
    work = _round(torch, devices, lambda one: targets[one].copy_(sources[one], non_blocking=True))
    took = told(work, rounds)
    return [speed("link", "bytes", f"gpu{one}->gpu{after[one]}", f"{COPY_BYTES >> 20} MiB", float(COPY_BYTES),
                  [each[at] for each in took]) for at, one in enumerate(devices)]  # fmt: skip


def _space(torch: Torch, size: int, **how: Any) -> Any:  # noqa: ANN401 - a tensor, and where it lies
    return torch.zeros(size, dtype=torch.uint8, **how)
