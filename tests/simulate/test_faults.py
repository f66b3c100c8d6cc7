"""Every fault: it changes something, only where and when it acts, and the struck devices show it."""

import json
from functools import cache

import numpy as np
import pytest

from skewscope.catalogue import rooms
from skewscope.metrics import METRICS
from skewscope.simulate.injection import load
from skewscope.simulate.scenario import parse
from skewscope.simulate.simulation import ground, simulate

CONDITIONS = [one.id for one in rooms("simulate.faults")]
CATALOGUE = 70  # A1 to A5, A8, most of A9, and coll-late-rank
ACROSS = {"first_slot": 2}  # of a job that does not begin where a host does
EXPERTS = {"tp": 2, "ep": 4}  # of a job that has experts
SERVES = {"kind": "serving", "tp": 4, "requests_per_s": 2.5}
REINFORCED = {"kind": "rl", "step_s": 6.0, "rollout_share": 0.6, "generator_share": 0.5}
SILENT = {"gpu-sdc-suspect", "moe-rebalance-thrash", "peer-churn"}  # nothing counts it
PRICELESS = {"gpu-row-remap", "gpu-sdc-suspect", "host-clock-skew", "gpu-app-fault", "gpu-ecc-sbe-storm"}
NAMES = {metric.name for metric in METRICS}

# (metric, labels, sign) that must move on the struck device in every seed; windows before the onset are the measure.
MOVES = {
    "host-cpu-contention": ("skewscope_rank_run_delay_seconds_total", "", 1),
    "host-numa-misbinding": ("skewscope_rank_numa_local", "", -1),
    "host-pinned-memory-shortage": ("skewscope_rank_locked_memory_bytes", "", -1),
    "host-gc-pause": ("skewscope_phase_seconds_total", "phase=gc", 1),
    "host-launch-bound": ("skewscope_gpu_tensor_active_ratio", "", -1),
    "host-process-stuck": ("skewscope_rank_uninterruptible", "", 1),
    "gpu-squatter": ("skewscope_gpu_foreign_processes", "", 1),
    "host-clock-skew": ("skewscope_host_clock_max_error_seconds", "", 1),
    "pcie-h2d-starvation": ("skewscope_phase_seconds_total", "phase=h2d", 1),
    "pcie-d2h-bottleneck": ("skewscope_gpu_pcie_transmit_bytes_total", "", 1),
    "pcie-error-replay": ("skewscope_gpu_pcie_replays_total", "", 1),
    "pcie-saturation": ("skewscope_gpu_pcie_receive_bytes_total", "", 1),
    "pcie-nic-backpressure": ("skewscope_nic_pcie_stalled_seconds_total", "direction=write", 1),
    "pcie-p2p-misroute": ("skewscope_gpu_bar1_used_bytes", "", -1),
    "pcie-mr-churn": ("skewscope_rank_context_switches_total", "kind=voluntary", 1),
    "gpu-hw-slowdown": ("skewscope_gpu_clock_event_observed_seconds_total", "reason=hw_slowdown", 1),
    "gpu-power-cap": ("skewscope_gpu_power_limit_watts", "kind=enforced", -1),
    "gpu-clock-pinned-low": ("skewscope_gpu_clock_hertz", "domain=sm", -1),
    "gpu-slow-silent": ("skewscope_gpu_tensor_active_ratio", "", -1),
    "gpu-ecc-sbe-storm": ("skewscope_gpu_ecc_errors_total", "severity=corrected,lifetime=volatile,location=dram", 1),
    "gpu-row-remap": ("skewscope_gpu_row_remap_pending", "", 1),
    "gpu-off-bus": ("skewscope_gpu_access_state", "state=lost", 1),
    "gpu-gsp-timeout": ("skewscope_gpu_access_state", "state=hung", 1),
    "nvlink-down": ("skewscope_gpu_nvlink_links", "state=inactive", 1),
    "nvlink-error-rate": ("skewscope_gpu_nvlink_bit_error_ratio", "kind=symbol", 1),
    "nic-link-down": ("skewscope_rdma_port_up", "layer=physical", -1),
    "nic-link-flap": ("skewscope_rdma_link_events_total", "event=downed", 1),
    "nic-phy-degraded": ("skewscope_rdma_errors_total", "error=symbol", 1),
    "fabric-congestion": ("skewscope_rdma_congestion_events_total", "event=cnp_handled", 1),
    "pfc-storm": ("skewscope_nic_pause_seconds_total", "priority=3,direction=transmit", 1),
    "ib-credit-starvation": ("skewscope_rdma_transmit_wait_ticks_total", "", 1),
    "rdma-retransmit": ("skewscope_rdma_retransmissions_total", "cause=ack_timeout", 1),
    "rail-imbalance": ("skewscope_rdma_transmit_bytes_total", "", -1),
    "moe-hot-expert": ("skewscope_moe_expert_max_mean_ratio", "", 1),
    "moe-rank-imbalance": ("skewscope_phase_seconds_total", "phase=comm_wait", 1),
    "moe-a2a-skew": ("skewscope_collective_min_seconds", "op=all_to_all,group=ep", 1),
    "moe-router-collapse": ("skewscope_moe_dropped_tokens_total", "", 1),
    "nic-mixed-kinds": ("skewscope_rdma_rate_bytes_per_second", "", -1),
    "srv-egress-backlog": ("skewscope_tcp_send_queue_bytes", "", 1),
    "srv-egress-jitter": ("skewscope_tcp_retransmitted_segments_total", "", 1),
    "mem-skew": ("skewscope_gpu_memory_used_bytes", "", 1),
    "mem-oom-risk": ("skewscope_gpu_memory_used_bytes", "", 1),
    "power-oversubscribed": ("skewscope_gpu_clock_event_observed_seconds_total", "reason=hw_slowdown", 1),
    "ckpt-stall": ("skewscope_phase_seconds_total", "phase=checkpoint", 1),
    "rl-rollout-tail": ("skewscope_rl_answer_seconds", "statistic=max", 1),
    "rl-phase-idle": ("skewscope_rl_answer_seconds", "statistic=median", 1),
    "host-noisy-neighbour": ("skewscope_phase_seconds_total", "phase=comm_wait", -1),
    "sched-topology-mismatch": ("skewscope_collective_min_seconds", "op=all_reduce,group=tp", 1),
}


def plan(condition, **more):
    fault = {"condition": condition, "onset": 0.4, **more}
    return parse({**without(condition), "faults": [fault]}, "test")


def without(condition):
    fabric = "infiniband" if condition in ("ib-credit-starvation", "nic-phy-degraded") else "roce"
    return {"fleet": {"fabric": fabric}, "jobs": [job(condition)]}


def job(condition):
    more = SERVES if condition.startswith(("srv-", "kv-")) else EXPERTS if condition.startswith("moe-") else {}
    more = REINFORCED if condition.startswith("rl-") else more
    more = ACROSS if condition == "sched-topology-mismatch" else more
    return {"ranks": 32, "steps": 240, **more}


def changed(one, other):
    """Yield (area, name, differing [windows, devices]) of all that differs between two grounds."""
    for kind, area in one.areas.items():
        there = other.areas[kind]
        for name in area.touched | there.touched:
            yield kind, name, area.knob(name) != there.knob(name)
        for field in ("counts", "levels", "per_packet"):
            mine, theirs = getattr(area, field), getattr(there, field)
            for key in set(mine) | set(theirs):
                usual = area.usual.get(key, 0.0) if field == "levels" else 0.0
                yield kind, key[0], mine.get(key, usual) != theirs.get(key, usual)


def test_the_catalogue_is_whole():
    assert len(CONDITIONS) == CATALOGUE


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fault_changes_its_own_devices_from_its_onset_on(condition, seed):
    world, (fault,) = ground(plan(condition), seed)
    usual, _ = ground(plan(condition), seed, skip=0)
    fleet = world.fleet
    nodes = np.unique(fleet.node_of(fault.gpus))
    near = set(fault.gpus.tolist()) | {gpu for node in nodes for gpu in fleet.gpus_of(int(node)).tolist()}
    near |= {int(nic) for gpu in fault.gpus for nic in fleet.same_rail(int(gpu))}
    moved = False
    for kind, name, different in changed(world, usual):
        windows, devices = np.nonzero(np.broadcast_to(different, (world.windows, world.areas[kind].devices)))
        allowed = set(nodes.tolist()) if kind in ("node", "disk") else near
        if condition != "gpu-app-fault":  # a program's fault goes where the program goes
            assert set(devices.tolist()) <= allowed, name
        assert not len(windows) or windows.min() >= fault.onset_window, name
        moved = moved or bool(len(windows))
    course = world.courses[fault.job]
    assert moved or course.stop or course.stalls
    assert moved or condition in SILENT


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_metric_that_a_fault_moves_is_declared(condition):
    world, _ = ground(plan(condition), 5)
    for area in world.areas.values():
        assert {key[0] for field in (area.counts, area.levels, area.per_packet) for key in field} <= NAMES


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_page_says_what_happens_and_where_that_is_known_from(condition):
    page = next(one for one in rooms("simulate.faults") if one.id == condition).page()
    assert page.splitlines()[0].endswith(".") and "Source:" in page
    fault = load(condition)
    assert fault.kind in ("gpu", "rank", "replica", "nic", "rail", "node", "rack", "job") and fault.shapes


@pytest.mark.parametrize("condition", sorted(MOVES))
@pytest.mark.parametrize("seed", [2, 7])
def test_the_struck_device_shows_it(condition, seed):
    metric, labels, sign = MOVES[condition]
    made = simulate(plan(condition, shape="steady"), seed)
    fault = made.faults[0]
    usual = simulated(json.dumps(without(condition)), seed)
    here = [value(one, metric, labels, fault) for one in (made, usual)]
    assert sign * (here[0] - here[1]) > 0.03 * abs(here[1]), here


@cache
def simulated(scenario, seed):
    return simulate(parse(json.loads(scenario), "test"), seed)


def value(made, metric, labels, fault):
    """Return the mean of a series of the struck device or host, after the onset (counters: a second's growth)."""
    shown = made.tables["windows"]
    mine = shown[((shown["metric"] == metric) & (shown["labels"] == labels)).to_numpy()]
    if fault.kind == "job":  # anybody of the job may show it
        return float(np.nan_to_num(mine["increase_value"].sum() or mine["mean_value"].mean()))
    mine = mine[(mine["node"] == made.world.fleet.nodes[int(made.world.fleet.node_of(fault.gpu))]).to_numpy()]
    slot = fault.gpu % made.world.fleet.gpus_per_node
    own = mine[mine["device"].isin([f"gpu{slot}", f"mlx5_{slot}"]).to_numpy()]
    mine = own if len(own) else mine[(mine["device"] == "").to_numpy()]
    start = made.world.scenario.start_ns + int(fault.onset_s * 1e9) + 60_000_000_000
    mine = mine[((mine["t_ns"] > start) & (mine["t_ns"] < start + 240_000_000_000)).to_numpy()]
    counted = mine["increase_value"].notna().any()
    found = mine["increase_value"].sum() if counted else mine["last_value"].mean()
    return float(np.nan_to_num(found))


def test_severity_scales_the_price():
    prices = [
        simulate(plan("gpu-slow-silent", target="job/rank9", severity=size, shape="steady"), 4).truth["faults"][0]
        for size in (0.1, 0.2, 0.4)
    ]
    lost = [one["lost_s_per_step"] for one in prices]
    assert lost[0] < lost[1] < lost[2] and lost[2] > 3 * lost[0]


def test_the_seed_chooses_the_victim_and_the_loud_counters():
    places, loud = set(), set()
    for seed in range(8):
        world, (fault,) = ground(plan("pcie-error-replay"), seed)
        places.add(fault.gpu)
        loud.add(tuple(sorted(key[1] for key in world.gpu.counts if key[0] == "skewscope_gpu_pcie_errors_total")))
    assert len(places) > 4 and len(loud) > 4


def test_a_rack_brakes_as_one():
    made = simulate("rack-power-brake", 1)
    fault = made.truth["faults"][0]
    assert fault["subject"] == "r001" and len(fault["devices"]) == 16
