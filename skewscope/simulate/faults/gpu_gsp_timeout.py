"""A GPU's firmware does not answer: calls into the driver hang.

The GPU system processor stops (XID 119, 120) or the power unit halts (62). Calls take many seconds or never return,
the agent loses its view of the GPUs of the host; kernels of that GPU do not end. Source: NVIDIA XID catalogue; DCGM
issues 162 and 313.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World

TEXTS = {
    119: "Timeout after 45s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL)",
    120: "GSP task timeout @ pc:0x4beacf4",
    62: "PMU halt: 2c0f 00000000 00000000",
}


class GpuGspTimeout:
    """A GPU's firmware does not answer: calls into the driver hang."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        code = int(fault.pick("119", "119", "120", "62"))
        fault.xid(world, fault.gpu, code, TEXTS[code], ("kmsg",) if fault.rng.random() < 0.5 else ("nvml", "kmsg"))
        node = int(world.fleet.node_of(fault.gpu))
        world.node.show("skewscope_nvml_hung", "", node, 1.0, fault.on)
        slowest = fault.rng.uniform(5.0, 45.0)
        world.node.show("skewscope_nvml_call_max_seconds", "call=device", node, slowest, fault.on)
        world.node.show("skewscope_collector_success", "collector=nvml-device", node, 0.0, fault.on)
        world.node.grow("skewscope_nvml_worker_restarts_total", "", node, fault.counts(1.0 / 60.0))
        world.node.grow("skewscope_nvml_errors_total", "call=device,error=TIMEOUT", node, fault.counts(0.2))
        world.gpu.show("skewscope_gpu_access_state", "state=ok", fault.gpus, 0.0, fault.on)
        world.gpu.show("skewscope_gpu_access_state", "state=hung", fault.gpus, 1.0, fault.on)
        others = world.fleet.gpus_of(node)
        world.gpu.add("reports", others, -1.0 * fault.on)  # access state and XIDs are still told
        fault.halt(world, missing=True)
