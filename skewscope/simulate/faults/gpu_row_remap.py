"""A memory row of a GPU was taken out of use and waits for a reset, or no spare row is left.

After errors in one row the driver records a remapping (XID 63) that takes effect at the next reset; until then the
job goes on. Where the bank has no spare row the remapping fails (XID 64) and the GPU must be replaced. Source: NVIDIA
memory error management; NVML fields 142-145.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class GpuRowRemap:
    """A memory row of a GPU was taken out of use and waits for a reset, or no spare row is left."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        failed = fault.rng.random() < 0.3
        cause = fault.pick("uncorrected", "uncorrected", "corrected")
        rows = float(fault.rng.integers(1, 4)) if not failed else 8.0
        world.gpu.show("skewscope_gpu_remapped_rows", f"cause={cause}", fault.gpus, rows, fault.on)
        world.gpu.show("skewscope_gpu_row_remap_pending", "", fault.gpus, 1.0, fault.on)
        if failed:
            world.gpu.show("skewscope_gpu_row_remap_failure", "", fault.gpus, 1.0, fault.on)
        event = "event=dram_retirement_failure" if failed else "event=dram_retirement"
        world.gpu.grow("skewscope_gpu_events_total", event, fault.gpus, fault.once())
        if failed:
            fault.xid(world, fault.gpu, 64, "Row Remapper: failed to remap a row, no spare row is left")
        else:
            fault.xid(world, fault.gpu, 63, "Row Remapper: New row marked for remapping, reset gpu to activate.")
