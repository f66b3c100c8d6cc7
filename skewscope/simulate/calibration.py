"""Compares what is simulated with real recordings: quantiles side by side, signal by signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .noise import Array
from .scenario import parse
from .simulation import Simulation, simulate

BUSY_QUANTILES = (0.7, 0.75, 0.9, 0.95)  # of the real clusters' samples: about half of their GPUs are idle
IDLE_QUANTILES = (0.05, 0.1, 0.25)
IDLE_SHARE = 0.5


def calibration(shared: Path, seed: int = 1) -> pd.DataFrame:
    """Return rows (signal, quantile, real, simulated); `shared` is the folder with the recordings.

    Raises FileNotFoundError where a recording is missing. `quantile` is that of the real distribution.
    """
    fleet = {"hardware": "a100", "spares": 4}
    made = simulate(parse({"fleet": fleet, "jobs": [{"ranks": 32, "steps": 300, "tp": 4}]}, "calibration"), seed)
    acme = shared / "acme-cluster-telemetry-cdf"
    rows = _fleet(made, "gpu power W", "skewscope_gpu_power_watts", "kind=average", acme / "gpu_power_kalos.csv.gz", 1)
    celsius = acme / "gpu_temp_kalos.csv.gz"
    rows += _fleet(made, "gpu temperature C", "skewscope_gpu_temperature_celsius", "sensor=gpu", celsius, 1)
    tensor = acme / "util_gpu_kalos_full.csv.gz"
    rows += _fleet(made, "tensor activity", "skewscope_gpu_tensor_active_ratio", "", tensor, 4, scale=0.01)
    rows += _fleet(made, "sm activity", "skewscope_gpu_sm_active_ratio", "", tensor, 3, scale=0.01)
    rows += _workers(shared / "alibaba-minibatch-stragglers" / "coefficient_variation.csv.gz", seed)
    return pd.DataFrame(rows, columns=["signal", "quantile", "real", "simulated"])


def _fleet(
    made: Simulation, signal: str, metric: str, labels: str, file: Path, pair: int, scale: float = 1.0
) -> list[tuple[str, float, float, float]]:
    """Compare the busy half of a real cluster with GPUs that a job holds, and the idle half with spares."""
    told = pd.read_csv(file)
    x, y = told[f"x{pair}"].to_numpy(), told[f"y{pair}"].to_numpy()
    known = np.isfinite(x) & np.isfinite(y)
    shown = made.tables["windows"]
    mine = shown[((shown["metric"] == metric) & (shown["labels"] == labels)).to_numpy()]
    job = made.world.fleet.jobs[0]
    nodes = {made.world.fleet.nodes[node] for node in range(job.gpus.stop // made.world.fleet.gpus_per_node)}
    held = mine["node"].isin(nodes).to_numpy()
    busy, idle = mine["mean_value"].to_numpy()[held], mine["mean_value"].to_numpy()[~held]
    rows = []
    for quantile in (*IDLE_QUANTILES, *BUSY_QUANTILES):
        real = float(np.interp(100.0 * quantile, y[known], x[known])) * scale
        part, share = (idle, quantile / IDLE_SHARE) if quantile < IDLE_SHARE else (busy, (quantile - IDLE_SHARE) * 2)
        rows.append((signal, quantile, real, float(np.quantile(part, min(share, 1.0)))))
    return rows


def _workers(file: Path, seed: int) -> list[tuple[str, float, float, float]]:
    """Compare how much workers of one step differ: the calmer half of real jobs, and jobs of growing jitter."""
    told = pd.read_csv(file).iloc[:, 1:].to_numpy(dtype=float)
    rows = []
    for quantile, jitter in ((0.05, 0.024), (0.1, 0.032), (0.25, 0.05), (0.5, 0.095)):
        job = {"ranks": 10, "steps": 300, "tp": 1, "jitter_ratio": jitter, "checkpoint_steps": 0}
        made = simulate(parse({"fleet": {"gpus_per_node": 1}, "jobs": [job]}, "workers"), seed)
        spread = _spread(made.runs[0].detail["compute"])
        rows.append(("worker spread", quantile, float(np.nanquantile(told, quantile)), spread))
    return rows


def _spread(seconds: Array) -> float:
    """Return the median over steps of the coefficient of variation between ranks."""
    return float(np.median(seconds.std(axis=1) / seconds.mean(axis=1)))
