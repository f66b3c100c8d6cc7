"""Numbers that noise is drawn from, each with its source; `calibration` shows them against real recordings.

ACME: InternLM/AcmeTrace, monitoring of the Seren and Kalos clusters (A100). PAI: alibaba/clusterdata, mini-batch times
of 100 jobs with 10 workers. GENAI: the same, cluster-trace-v2026-GenAI. HBD: stepfun-ai/InfiniteHBD-Trace, 400 servers
over 348 days. PAGE: facts of telemetry that vendors document. OWN: an assumption of this project, not measured.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# --- how fast equal GPUs are
SILICON_SPREAD_RATIO = 0.006  # OWN; PRISM reports up to 14 % between the extremes of a fleet's GEMM times
CLOCK_SHARE = 0.75  # OWN: part of a training step's device time that follows the SM clock; the rest is memory-bound
STEP_DRIFT_RATIO = 0.003  # OWN: slow common drift of step times
SPIKE_STEPS_RATIO = 0.004  # PAI job_1: 1 % of worker steps above 1.16 times their median, 0.1 % above 1.7
SPIKE_MEAN_RATIO = 0.25
FIRST_STEP_RATIO = 2.0  # OWN: compilation and caches; fades within warmup_steps
# --- power and heat
IDLE_SPREAD_RATIO = 0.03  # ACME: idle power lies between 60 and 66 W on A100
BUSY_POWER_RATIO = 1.02  # ACME: p75 to p99 of power are 290 to 440 W at a limit of 400 W
POWER_SPREAD_RATIO = 0.025
INLET_C, INLET_SPREAD_C = 24.0, 2.0  # ACME: idle GPUs sit at 25 to 31 degrees
BUSY_RISE_C, BUSY_RISE_SPREAD_C = 35.0, 4.5  # ACME: p90 to p99 of GPU temperature are 58 to 69 degrees
MEMORY_RISE_C = 9.0  # ACME: memory is 5 to 12 degrees above the GPU at mid-range
CAPPED_SHARE, CAPPED_SPREAD_RATIO = 0.55, 0.08  # OWN: time at the power cap while computing; PAGE: normal at full load
# --- activity of computing GPUs
SM_ACTIVE, TENSOR_ACTIVE, DRAM_ACTIVE = 0.94, 0.32, 0.42  # ACME: p75 to p95 of SM 0.73 to 0.94, tensor 0.21 to 0.33
# --- serving
IDLE_PODS_RATIO = 0.55  # GENAI: more than half of the pods' samples are 0 % busy, p75 is 10 %
REQUESTS_DAY_RATIO = 0.45  # OWN: half the difference between the busiest hour and the mean
# --- benign events
REPLAY_BURSTS_PER_GPU_HOUR = 0.01  # OWN: single bursts of 1 to 8 PCIe replays
ECC_NOISY_GPUS_RATIO, ECC_PER_HOUR = 0.05, 4.0  # OWN: a twentieth of GPUs corrects a few single-bit errors an hour
SYMBOL_ERRORS_PER_HOUR = 8.0  # PAGE: PAM4 links have symbol errors; IBTA's bit error bound is 120 an hour
CORRECTED_BITS_PER_S = 3e4  # PAGE: forward error correction always works on PAM4
OUT_OF_SEQUENCE_PER_PACKET = 2e-4  # PAGE: expected with adaptive routing and multipath
APP_XID_PER_SPARE_HOUR = 0.2  # OWN: people's experiments on idle nodes end with 13, 31 or 43
RAIL_SPREAD_RATIO = 0.12  # OWN: traffic through PXN and topology-aware rings is uneven over rails, alike on all nodes
ECN_PER_PACKET = 2e-5  # OWN: marks of short bursts on a healthy RoCE fabric
CLOCK_OFFSET_SPREAD_S = 8e-5  # OWN: chrony in one data centre
# --- hosts
CPU_LOAD_RATIO, CPU_LOAD_SPREAD_RATIO = 0.14, 0.02  # ACME: CPU use p50 to p75 is 8 to 28 %
RUN_DELAY_RATIO = 0.003  # OWN: of a core, per rank
HOST_BYTES_RATIO = 0.15  # ACME: host memory use p50 is 7 to 15 %


def rng(seed: int, *names: int | str) -> np.random.Generator:
    """Return the generator of one named stream: the same names give the same numbers, whatever else is drawn.

    >>> rng(1, "power").random() == rng(1, "power").random(), rng(1, "power").random() == rng(1, "heat").random()
    (True, False)
    """
    keys = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.Generator(np.random.PCG64([seed & 0xFFFFFFFF, *keys]))


def smooth(values: Array, seed: int, name: str, spread_ratio: float) -> Array:
    """Return `values` (any shape) times 1 + noise of this spread."""
    drawn = rng(seed, name).standard_normal(values.shape, dtype=np.float32)
    return np.asarray(values * (1.0 + spread_ratio * drawn))


def day_ratio(hours: Array) -> Array:
    """Return the load of the day at these hours (0-24) as a multiple of its mean: highest at 14 h, lowest at 2 h.

    >>> day_ratio(np.array([14.0, 2.0])).round(2).tolist()
    [1.45, 0.55]
    """
    return np.asarray(1.0 + REQUESTS_DAY_RATIO * np.cos((hours - 14.0) / 24.0 * 2.0 * np.pi))
