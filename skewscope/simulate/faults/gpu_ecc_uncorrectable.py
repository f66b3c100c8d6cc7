"""A GPU's memory has errors that cannot be corrected; the job on it dies.

A double-bit error in device memory or SRAM. Contained (XID 94): the program that used the page ends, the row waits to
be remapped. Uncontained or old (95, 48, 140): the GPU needs a reset. The driver says what it wants before the GPU is
used again. Source: NVIDIA XID catalogue; conditions page, part C.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World

TEXTS = {94: "Contained: FB", 95: "Uncontained: FB", 48: "DBE (double bit error) ECC", 140: "Unrecovered ECC error"}


class GpuEccUncorrectable:
    """A GPU's memory has errors that cannot be corrected; the job on it dies."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        code = int(fault.pick("94", "95", "48", "140"))
        place = "dram" if code != 140 else "sram"
        count = float(fault.rng.integers(1, 4))
        for life in ("volatile", "aggregate"):
            labels = f"severity=uncorrected,lifetime={life},location={place}"
            world.gpu.grow("skewscope_gpu_ecc_errors_total", labels, fault.gpus, fault.once(count))
        fault.xid(world, fault.gpu, code, f"pid=31337, name=python3, {TEXTS[code]}")
        action = "drain_and_reset" if code == 94 else "reset"
        world.gpu.show("skewscope_gpu_recovery_action", "action=none", fault.gpus, 0.0, fault.on)
        world.gpu.show("skewscope_gpu_recovery_action", f"action={action}", fault.gpus, 1.0, fault.on)
        if place == "dram" and code != 48:
            world.gpu.show("skewscope_gpu_row_remap_pending", "", fault.gpus, 1.0, fault.on)
            world.gpu.show("skewscope_gpu_remapped_rows", "cause=uncorrected", fault.gpus, count, fault.on)
        if code == 48:
            world.gpu.grow("skewscope_gpu_events_total", "event=double_bit_ecc", fault.gpus, fault.once())
        fault.halt(world, missing=True)
