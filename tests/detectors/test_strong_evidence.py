"""Strong evidence needs one window less than weak one, in each live room; what is just below is weak."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from skewscope.catalogue import load, room

worlds, ports = load("detectors._live_worlds"), load("detectors._ports")
made = load("detectors._port_worlds")
Fleet, fleet, port, PACKETS, BYTES = worlds.Fleet, made.fleet, made.port, made.PACKETS, made.BYTES
PHASES, CPU, ACTIVE, LOCAL = (
    "skewscope_phase_seconds_total", "skewscope_rank_cpu_seconds_total", "skewscope_gpu_sm_active_ratio",
    "skewscope_rank_numa_local",
)  # fmt: skip
SECONDS, SEEN = "skewscope_gpu_clock_event_seconds_total", "skewscope_gpu_clock_event_observed_seconds_total"
DELAY, PRESSURE, OFFSET = (
    "skewscope_rank_run_delay_seconds_total", "skewscope_host_pressure_seconds_total",
    "skewscope_host_clock_offset_seconds",
)  # fmt: skip
PINNED, MAPPED, WIDTH = (
    "skewscope_rank_pinned_memory_bytes", "skewscope_gpu_bar1_used_bytes", "skewscope_gpu_pcie_link_width_lanes",
)  # fmt: skip
SENT, RECEIVED = "skewscope_gpu_pcie_transmit_bytes_total", "skewscope_gpu_pcie_receive_bytes_total"
SHORTEST, CALL = "skewscope_collective_min_seconds", "op=all_reduce,group=dp"
LINK_ERRORS, BIT_ERRORS = "skewscope_gpu_nvlink_errors_total", "skewscope_gpu_nvlink_bit_error_ratio"
GPUS, ADDRESS = ["gpu0", "gpu1", "gpu2", "gpu3"], "0000:2b:00.0"
GPU, NIC = {"nodes": ["n0"], "devices": ["gpu1"], "since": 10}, {"nodes": ["n0"], "devices": ["mlx5_1"], "since": 10}
H2D, SM = "phase=h2d", "domain=sm"


def share(metric, usual, labels=""):
    """Return a maker of worlds in which a GPU's counter grows by a share of the time."""
    return lambda value, until: Fleet().put(metric, usual * 30, labels=labels, devices=GPUS).put(
        metric, value * 30, labels=labels, **GPU, until=until
    )  # fmt: skip


def at_port(metric, labels="", unit=1.0):
    return lambda value, until: port(fleet(nics=4), metric, value * unit, labels, until=until)


def power_cap(clock, until):
    capped = share(SECONDS, 0.3, "reason=sw_power_cap")(0.9, until)
    return capped.put("skewscope_gpu_clock_hertz", clock * 1.755e9, labels=SM, **GPU, until=until)


def clock(value, until):
    return Fleet().put("skewscope_gpu_clock_hertz", value * 1.755e9, labels=SM, **GPU, until=until)


def set_clock(value, until):
    return share(SEEN, 0.0, "reason=app_clocks")(value, until).put(
        "skewscope_gpu_clock_hertz", 0.85 * 1.755e9, labels=SM, **GPU, until=until
    )  # fmt: skip


def gaps(excess, until):
    idle = Fleet().put(CPU, 29.0, devices=GPUS).put(ACTIVE, 0.85, devices=GPUS)
    return idle.put(ACTIVE, 0.85 - excess, **GPU, until=until)


def pressed(value, until):
    quiet = Fleet().put(PRESSURE, 0.0, labels="resource=cpu,kind=some")
    return quiet.put(PRESSURE, value * 30, labels="resource=cpu,kind=some", nodes=["n1"], since=10, until=until)


def short_of_pinned(excess, until):
    return share(PHASES, 0.02, H2D)(0.02 + excess, until).put(PINNED, 2.0**30, devices=GPUS).put(
        PINNED, 2.0**20, **GPU, until=until
    )  # fmt: skip


def adapters(ratio, until):
    slots = Fleet().put("skewscope_rdma_rate_bytes_per_second", 50e9, devices=["mlx5_0", "mlx5_1"])
    slots.put("skewscope_rdma_receive_bytes_total", 0.1 * 50e9 * 30, devices=["mlx5_0", "mlx5_1"])
    slots.put("skewscope_rdma_info", 1.0, labels=f"board=x,pci_bus_id={ADDRESS}", nodes=["n0"], devices=["mlx5_1"])
    speed = "skewscope_pcie_link_transfers_per_second"
    for kind in ("max", "current"):
        slots.put(speed, 32e9, labels=f"kind={kind}", devices=[ADDRESS, "0000:1b:00.0"])
    return slots.put(speed, ratio * 32e9, labels="kind=current", nodes=["n0"], devices=[ADDRESS], since=10, until=until)


def full(usual, until):
    return share(RECEIVED, usual * 50e9)(0.9 * 50e9, until)


@dataclass(frozen=True)
class Churn:
    """A world in which memory falls to this share of what it was, and is there again, within each window."""

    left: float
    until: int

    def tables(self):
        told = Fleet().put(PINNED, 2.0**30, devices=GPUS).tables()
        rows = told["windows"]
        mine = (rows["metric"] == PINNED) & (rows["node"] == "n0") & (rows["device"] == "gpu1")
        time = (rows["t_ns"] - worlds.EPOCH_NS) // 30_000_000_000 - 1
        rows.loc[(mine & (time >= 10) & (time < self.until + 1)).to_numpy(), "low_value"] = self.left * 2.0**30
        return told


def maps(mib, until):
    whole = Fleet(nodes=4).put(MAPPED, 2.0**28, devices=GPUS)
    return whole.put(MAPPED, mib * 2**20, nodes=["n2"], devices=GPUS, since=10, until=until)


def waits(ratio, until):
    ticks = 50e9 / 128 * 30
    return port(fleet().put(ports.WAITED, 0.001 * ticks, devices=["mlx5_0", "mlx5_1"]), ports.WAITED, ratio * ticks,
                until=until)  # fmt: skip


def storms(share, until, stalled_s=25.0):
    stalls = port(fleet(), ports.STALLED, stalled_s, "direction=write")
    return port(stalls, ports.PAUSED, share * 30, "priority=3,direction=transmit", until=until)


def bit_errors(ratio, until):
    usual = Fleet().put(BIT_ERRORS, 1e-9, labels="kind=effective", devices=GPUS)
    return usual.put(BIT_ERRORS, ratio, labels="kind=effective", **GPU, until=until)


def slow_rail(times, until):
    calls = fleet().put(SHORTEST, 0.01, labels=CALL, devices=GPUS)
    return calls.put(SHORTEST, 0.01 * times, labels=CALL, devices=["gpu1"], since=10, until=until)


CASES: list[tuple[str, Any, float, float, int, int]] = [  # room, world, strong, weak, windows it takes then
    ("gpu-hw-slowdown", share(SECONDS, 0.0, "reason=hw_thermal"), 0.11, 0.09, 2, 3),
    ("gpu-power-cap", power_cap, 0.895, 0.905, 2, 3),
    ("gpu-clock-pinned-low", clock, 0.79, 0.81, 2, 3),
    ("gpu-clock-pinned-low", set_clock, 0.51, 0.49, 2, 3),
    ("gpu-slow-silent", lambda own, until: Fleet().late(1, own * 0.45 - 0.45, until=until), 1.16, 1.14, 2, 4),
    ("host-launch-bound", gaps, 0.16, 0.14, 2, 3),
    ("host-cpu-contention", share(DELAY, 0.0), 0.11, 0.09, 2, 3),
    ("host-cpu-contention", pressed, 0.21, 0.19, 2, 3),
    ("host-gc-pause", share(PHASES, 0.0, "phase=gc"), 0.021, 0.019, 2, 3),
    ("host-numa-misbinding", lambda near, until: Fleet().put(LOCAL, 1.0, devices=GPUS).put(
        LOCAL, near, **GPU, until=until), 0.0, 0.03, 2, 3),
    ("host-pinned-memory-shortage", short_of_pinned, 0.11, 0.09, 2, 3),
    ("host-clock-skew", lambda off, until: Fleet(nodes=4).put(OFFSET, 0.0).put(
        OFFSET, off, nodes=["n1"], since=10, until=until), 0.0021, 0.0019, 2, 3),
    ("pcie-h2d-starvation", share(PHASES, 0.01, H2D), 0.12, 0.10, 2, 3),
    ("pcie-h2d-starvation", lambda value, until: Fleet().put(PHASES, 0.3, labels=H2D, devices=GPUS).put(
        PHASES, value * 30, labels=H2D, devices=GPUS, since=10, until=until), 0.21, 0.19, 2, 3),
    ("pcie-link-degraded", lambda lanes, until: Fleet().put(
        WIDTH, lanes, labels="kind=current", **GPU, until=until), 8.0, 12.0, 2, 3),
    ("pcie-link-degraded", adapters, 0.5, 0.6, 2, 3),
    ("pcie-nic-backpressure", lambda value, until: Fleet().put(
        ports.STALLED, value, labels="direction=write", **NIC, until=until), 5.1, 4.9, 2, 3),
    ("pcie-error-replay", share("skewscope_gpu_pcie_replays_total", 0.0), 2.1, 1.9, 2, 3),
    ("pcie-error-replay", share("skewscope_gpu_pcie_replays_total", 0.0), 1.1, 0.9, 3, 4),
    ("pcie-saturation", full, 0.4, 0.5, 2, 3),
    ("pcie-mr-churn", Churn, 0.79, 0.81, 2, 3),
    ("pcie-p2p-misroute", maps, 31.0, 33.0, 2, 3),
    ("fabric-congestion", at_port(ports.CONGESTED, "event=cnp_handled", PACKETS), 0.021, 0.019, 2, 3),
    ("fabric-congestion", at_port(ports.RETRANSMITTED, "cause=slow_restart", 30.0), 21.0, 19.0, 2, 3),
    ("ib-credit-starvation", waits, 0.21, 0.19, 2, 3),
    ("rdma-retransmit", at_port(ports.RETRANSMITTED, "cause=packet_sequence", PACKETS), 2.1e-6, 1.9e-6, 2, 3),
    ("rdma-retransmit", at_port(ports.RETRANSMITTED, "cause=ack_timeout", 30.0), 2.1, 1.9, 2, 3),
    ("rdma-retransmit", at_port(ports.ERRORS, "error=icrc", 30.0), 0.21, 0.19, 2, 3),
    ("pfc-storm", storms, 0.021, 0.019, 2, 3),
    ("pfc-storm", lambda stalled, until: storms(0.2, until, stalled), 9.1, 8.9, 2, 3),
    ("pfc-storm", at_port(ports.PAUSED, "priority=3,direction=receive", 30.0), 0.21, 0.19, 2, 3),
    ("nvlink-error-rate", share(LINK_ERRORS, 0.0, "error=replay"), 20.5 / 30, 19.5 / 30, 2, 3),
    ("nvlink-error-rate", share(LINK_ERRORS, 0.0, "error=replay"), 10.5 / 30, 9.5 / 30, 3, 8),
    ("nvlink-error-rate", bit_errors, 2.1e-6, 1.9e-6, 2, 3),
    ("ecmp-collision", slow_rail, 1.87, 1.84, 4, 8),
    ("rail-imbalance", at_port(ports.SENT, "", BYTES), 0.24, 0.26, 2, 4),
]  # fmt: skip


def told(name, world):
    return list(room("detectors", name).load().detect(world.tables()))


@pytest.mark.parametrize(("name", "make", "strong", "weak", "soon", "late"), CASES, ids=[case[0] for case in CASES])
def test_strong_evidence_is_told_sooner(name, make, strong, weak, soon, late):
    assert told(name, make(strong, 10 + soon)), "strong, and as long as it takes"
    assert told(name, make(strong, 9 + soon)) == [], "strong, a window too short"
    assert told(name, make(weak, 10 + late)), "weak, and as long as it takes"
    assert told(name, make(weak, 9 + late)) == [], "weak, a window too short"


def test_a_checkpoint_of_two_windows_is_no_bottleneck():
    sends = share(SENT, 1e9)
    assert told("pcie-d2h-bottleneck", sends(40e9, 12)) == []
    assert told("pcie-d2h-bottleneck", sends(40e9, 13))


def test_a_burst_at_the_other_ports_takes_no_bytes_away():
    hosts = fleet(nics=4)
    for device in ("mlx5_1", "mlx5_2", "mlx5_3"):
        port(hosts, ports.SENT, 10 * BYTES, device=device, until=13)
    assert told("rail-imbalance", hosts) == []
    assert [found.subject.id for found in told("rail-imbalance", port(hosts, ports.SENT, 0.2 * BYTES, until=12))] == [
        "n1/mlx5_0"
    ]  # fmt: skip


def test_a_strong_collision_may_miss_one_window():
    calls = slow_rail(1.87, 15).put(SHORTEST, 0.01, labels=CALL, devices=["gpu1"], since=12, until=13)
    assert told("ecmp-collision", calls)
    assert told("ecmp-collision", slow_rail(1.87, 14).put(
        SHORTEST, 0.01, labels=CALL, devices=["gpu1"], since=12, until=13)) == []  # fmt: skip


def test_a_receiver_that_stalls_hard_is_blamed_sooner():
    for stalled, until, blamed in ((0.61, 12, "n3/mlx5_0"), (0.59, 12, "n1/mlx5_0"), (0.59, 13, "n3/mlx5_0")):
        world = port(waits(0.3, 20), ports.STALLED, stalled * 30, "direction=write", node="n3", until=until)
        assert [found.subject.id for found in told("ib-credit-starvation", world)] == [blamed]


def test_a_slow_rail_that_is_not_slow_between_is_no_collision():
    times = [1.45, 2.1, 1.0, 1.5, 2.05, 1.0, 1.55, 2.0, 1.6, 1.95]  # the slow ones alone spread by 14 %
    calls = slow_rail(1.0, 11)
    for window, factor in enumerate(times, start=2):
        calls.put(SHORTEST, 0.01 * factor, labels=CALL, devices=["gpu1"], since=window, until=window + 1)
    assert told("ecmp-collision", calls) == []


def test_the_first_window_of_a_reinforced_job_is_no_evidence():
    reinforced = load("detectors._rl").reinforced
    for windows, claimed in ((3, False), (4, True)):  # a window is told of a step that is told later
        waits = 2.5 * (np.arange(20) < windows)
        found = told("rl-phase-idle", reinforced(generating_s=5.0, pools=True, behind_s=waits))
        assert bool(found) == claimed, windows
