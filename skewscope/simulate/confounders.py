"""Harmless things that look like faults; every fleet has them. They change the ground state as faults do."""

from __future__ import annotations

import numpy as np

from . import noise
from .noise import Array
from .world import WINDOW_S, Event, World

ADAPTIVE = "skewscope_rdma_retransmissions_total"


def disturb(world: World) -> None:
    """Add all harmless events of the scenario's noise plan."""
    _missed_scrapes(world)
    _uneven_rails(world)
    if not world.scenario.noise.confounders:
        return
    for happen in (_wire_noise, _pcie_bursts, _corrected_bits_of_memory, _reordering, _application_xids, _busy_hosts,
                   _clocks, _agent_restart):  # fmt: skip
        happen(world)
    if world.scenario.noise.maintenance:
        _maintenance(world)


def _missed_scrapes(world: World) -> None:
    rng = noise.rng(world.seed, "scrapes")
    missed = world.scenario.noise.missed_scrapes_ratio
    drawn = rng.random(world.replies.shape)
    world.replies[drawn < 2 * missed] = 0.5
    world.replies[drawn < missed * missed] = 0.0
    world.replies[0] = 1.0


def _uneven_rails(world: World) -> None:
    """Weights of rails, alike on all nodes: topology-aware rings and PXN do not use every adapter equally."""
    per = world.fleet.gpus_per_node
    drawn = noise.rng(world.seed, "rails").standard_normal(per)
    weight = np.clip(1.0 + noise.RAIL_SPREAD_RATIO * drawn, 0.7, 1.3)
    world.nic.edit("weight")[:] = np.tile(weight / weight.mean(), len(world.fleet.nodes))


def _wire_noise(world: World) -> None:
    """PAM4 lanes: errors that forward error correction repairs all the time, and a few symbol errors an hour."""
    rng = noise.rng(world.seed, "wire")
    shape = (world.windows, world.nic.devices)
    quality = np.exp(rng.standard_normal(world.nic.devices))  # optics differ much, the fleet's median is 1
    hour = 3600.0 / WINDOW_S
    symbols = rng.poisson(noise.SYMBOL_ERRORS_PER_HOUR / hour * np.minimum(quality, 6.0), shape)
    bits = rng.poisson(noise.CORRECTED_BITS_PER_S * WINDOW_S * quality, shape)
    everybody = slice(None)
    world.nic.grow("skewscope_nic_errors_total", "error=corrected_bits", everybody, bits.astype(float))
    name = ("skewscope_rdma_errors_total", "error=symbol")
    if world.fleet.fabric == "roce":
        name = ("skewscope_nic_errors_total", "error=pcs_symbol")
    world.nic.grow(*name, everybody, symbols.astype(float))


def _pcie_bursts(world: World) -> None:
    rng = noise.rng(world.seed, "replays")
    rate = noise.REPLAY_BURSTS_PER_GPU_HOUR * WINDOW_S / 3600.0
    bursts = (rng.random((world.windows, world.gpu.devices)) < rate) * rng.integers(1, 9, (world.windows, 1))
    world.gpu.grow("skewscope_gpu_pcie_replays_total", "", slice(None), bursts.astype(float))


def _corrected_bits_of_memory(world: World) -> None:
    rng = noise.rng(world.seed, "memory")
    noisy = np.flatnonzero(rng.random(world.gpu.devices) < noise.ECC_NOISY_GPUS_RATIO)
    rate = noise.ECC_PER_HOUR * WINDOW_S / 3600.0
    counts = rng.poisson(rate, (world.windows, len(noisy))).astype(float)
    for life in ("volatile", "aggregate"):
        labels = f"severity=corrected,lifetime={life},location=dram"
        world.gpu.grow("skewscope_gpu_ecc_errors_total", labels, noisy, counts)


def _reordering(world: World) -> None:
    rng = noise.rng(world.seed, "reordering")
    ratio = noise.OUT_OF_SEQUENCE_PER_PACKET * np.exp(0.3 * rng.standard_normal(world.nic.devices))
    whole = np.broadcast_to(ratio, (world.windows, world.nic.devices))
    world.nic.grow_per_packet(ADAPTIVE, "cause=out_of_sequence", slice(None), whole)
    if world.fleet.fabric == "roce":
        marks = noise.ECN_PER_PACKET * rng.exponential(1.0, (world.windows, world.nic.devices))
        for event in ("ecn_marked", "cnp_sent", "cnp_handled"):
            name = "skewscope_rdma_congestion_events_total"
            world.nic.grow_per_packet(name, f"event={event}", slice(None), marks)


def _application_xids(world: World) -> None:
    """People try things on idle nodes; what crashes there is their program."""
    rng = noise.rng(world.seed, "experiments")
    held = [world.fleet.job_of(gpu) >= 0 for gpu in range(world.fleet.gpus)]
    spare = np.flatnonzero(~np.array(held))
    hours = world.windows * WINDOW_S / 3600.0
    for gpu in spare[rng.random(len(spare)) < noise.APP_XID_PER_SPARE_HOUR * hours / max(world.fleet.gpus_per_node, 1)]:
        code = int(rng.choice([13, 31, 43]))
        window = int(rng.integers(world.windows))
        counts = np.zeros(world.windows)
        counts[window] = 1.0
        for source in ("nvml", "kmsg"):
            world.gpu.grow("skewscope_gpu_xid_errors_total", f"xid={code},source={source}", int(gpu), counts)
        message = f"NVRM: Xid (PCI:0000:1b:00.0): {code}, pid=4242, name=python, Ch 00000008"
        slot = int(gpu) % world.fleet.gpus_per_node
        world.events.append(
            Event(window * WINDOW_S + 7.0, int(world.fleet.node_of(int(gpu))), f"gpu{slot}", "xid", code, message)
        )


def _busy_hosts(world: World) -> None:
    """Load that is alike on all hosts: monitoring, log shipping, a nightly scan of five minutes."""
    rng = noise.rng(world.seed, "hosts")
    begin = int(rng.integers(max(world.windows // 3, 1)))
    scan = np.zeros(world.windows)
    scan[begin : begin + 10] = 0.06
    world.node.add("cpu_load", slice(None), scan)
    world.node.add("pressure", slice(None), scan * 0.2)


def _clocks(world: World) -> None:
    rng = noise.rng(world.seed, "clocks")
    base = noise.CLOCK_OFFSET_SPREAD_S * rng.standard_normal(world.node.devices)
    wander = 2e-5 * rng.standard_normal((world.windows, world.node.devices))
    world.node.edit("offset_s")[:] += base + wander


def _agent_restart(world: World) -> None:
    """One agent is restarted: its node is silent for a window, and what it counted itself begins anew."""
    rng = noise.rng(world.seed, "restart")
    node = int(rng.integers(len(world.fleet.nodes)))
    window = int(rng.integers(4, max(_busy_windows(world), 6)))
    world.replies[window, node] = 0.0
    world.restarts.append((window, node))


def _maintenance(world: World) -> None:
    """Before the job begins a link of one of its nodes was reseated: down and up once."""
    rng = noise.rng(world.seed, "maintenance")
    nic = int(rng.integers(world.fleet.jobs[0].gpus.stop))
    counts = np.zeros(world.windows)
    counts[0] = 1.0
    world.nic.grow("skewscope_rdma_link_events_total", "event=downed", nic, counts)
    world.areas["netdev"].grow("skewscope_nic_carrier_changes_total", "", nic, 2 * counts)
    slot = nic % world.fleet.gpus_per_node
    node = int(world.fleet.node_of(nic))
    for after_s, state in ((11.0, "down"), (24.0, "up")):
        message = f"mlx5_core {slot}: Port module event: link {state} (planned work)"
        world.events.append(Event(after_s, node, f"mlx5_{slot}", f"link-{state}", -1, message))


def _busy_windows(world: World) -> int:
    plan = world.fleet.jobs[0].plan
    return int((plan.start_s + plan.steps * plan.step_s) // WINDOW_S)


def host_load(world: World) -> Array:
    """Return the share of CPU time that hosts are busy [windows, nodes] without what faults add."""
    drawn = noise.rng(world.seed, "load").standard_normal((world.windows, world.node.devices), dtype=np.float32)
    return np.asarray(np.clip(noise.CPU_LOAD_RATIO + noise.CPU_LOAD_SPREAD_RATIO * drawn, 0.01, 0.9))
