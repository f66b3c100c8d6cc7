"""As much of torch as the benchmarks of GPUs use, on the CPU: each device has a speed, and its clock moves by it."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch as real


class Gpus:
    """Devices 0.. of given speeds; all work takes its bytes or flops over the speed of the current device."""

    def __init__(self, speeds, fails=""):
        self.speeds, self.fails, self.clock_s, self.current = speeds, fails, [0.0] * len(speeds), 0
        self.__version__, self.version = "2.13.0", SimpleNamespace(cuda="13.0")
        self.uint8, self.bfloat16 = real.uint8, real.bfloat16
        self.cuda = SimpleNamespace(
            is_available=lambda: True, device_count=lambda: len(speeds), get_device_name=lambda one: "H100",
            empty_cache=lambda: None, synchronize=lambda one: None, device=self.chosen, Event=self.event,
        )  # fmt: skip

    def chosen(self, one):
        self.current = one
        return nullcontext()

    def event(self, enable_timing):
        mark = SimpleNamespace()
        mark.record = lambda: setattr(mark, "at_s", self.clock_s[self.current])
        mark.elapsed_time = lambda end: (end.at_s - mark.at_s) * 1e3
        return mark

    def spend(self, amount):
        self.clock_s[self.current] += amount / self.speeds[self.current]

    def rand(self, rows, columns, device):
        return SimpleNamespace(to=lambda kind: (rows, columns))

    def mm(self, one, other, out):
        if self.fails:
            raise RuntimeError(self.fails)
        self.spend(2.0 * one[0] * one[1] * other[1])

    def zeros(self, size, dtype, device="cpu", pin_memory=False):
        return SimpleNamespace(copy_=lambda source, non_blocking=False: self.spend(size))
