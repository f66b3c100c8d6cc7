"""The quantities that ranks are compared by: where each is found, and what more of it means."""

from __future__ import annotations

from dataclasses import dataclass

STEPS, ARRIVALS, WINDOWS = "rank_steps", "arrivals", "windows"


@dataclass(frozen=True)
class Kind:
    """One quantity: its `table`, its column, phase or metric, its name, and what more of it means for a rank.

    `unit` is that of a GPU's metric, of which less than `small` beyond the peers names nobody.
    """

    key: str
    table: str
    source: str
    name: str
    means: str
    peers: int = 0  # 1: beyond the median of its peers, -1: below it, 0: as it is
    late: bool = False  # against other ranks already
    unit: str = ""
    small: float = 0.0

    @property
    def judges(self) -> bool:
        """Whether the most of it is a rank that the others wait for."""
        return self.peers != 0 or self.late

    @property
    def diverging(self) -> bool:
        """Whether the values lie around 0."""
        return self.peers != 0 or (self.late and self.table == ARRIVALS)


ALL = (
    Kind("own", STEPS, "work_ns", "Own work beyond peers", "more own work than its peers", 1),
    Kind("less", STEPS, "wait_ns", "Waits less than peers", "less waiting than its peers", -1),
    Kind("wait", STEPS, "wait_ns", "Waiting for others", "of waiting for others"),
    Kind("late", ARRIVALS, "late_ns", "Lateness at collectives", "later than the other members", 0, True),
    Kind("compute", STEPS, "compute_ns", "Phase: compute", "of compute"),
    Kind("forward", STEPS, "forward_ns", "Phase: forward", "of forward work"),
    Kind("backward", STEPS, "backward_ns", "Phase: backward", "of backward work"),
    Kind("input", STEPS, "input_ns", "Phase: waiting for input", "of waiting for the next batch"),
    Kind("transfer", STEPS, "transfer_ns", "Phase: transfer", "of transfer that nothing hid"),
    Kind("gc", STEPS, "gc_ns", "Phase: garbage collection", "of garbage collection"),
    Kind("checkpoint", STEPS, "checkpoint_ns", "Phase: checkpoint", "of checkpoint or evaluation"),
    Kind("idle", STEPS, "idle_ns", "Phase: idle", "of idling"),
    Kind(
        "live-less", WINDOWS, "comm_wait", "Live: waits less than peers", "of its time less waiting than its peers", -1
    ),
    Kind("live-wait", WINDOWS, "comm_wait", "Live: waiting for others", "of its time waiting for others"),
    Kind("live-forward", WINDOWS, "forward", "Live: forward", "of its time in forward"),
    Kind("live-backward", WINDOWS, "backward", "Live: backward", "of its time in backward"),
    Kind("live-data", WINDOWS, "data", "Live: waiting for input", "of its time waiting for the next batch"),
    Kind(
        "live-late", WINDOWS, "", "Live: lateness on its host", "of its time behind the first rank of its host", 0, True
    ),
    Kind(
        "hot",
        WINDOWS,
        "skewscope_gpu_temperature_celsius",
        "GPU: hotter than peers",
        "hotter than its peers",
        1,
        unit="C",
        small=5.0,
    ),
    Kind(
        "clock",
        WINDOWS,
        "skewscope_gpu_clock_hertz",
        "GPU: clock below peers",
        "of clock below its peers",
        -1,
        unit="Hz",
        small=5e7,
    ),
)
