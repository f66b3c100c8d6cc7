"""Makes the model of `detectors/host_noisy_neighbour.py`: records windows of this machine, or fits to all windows.

`python tests/detectors/train_noisy_neighbour.py record` adds windows of a small program on the machine that it runs on,
beside whatever else runs there: what the host shows, and which share of its compute the program did not get.
`python tests/detectors/train_noisy_neighbour.py` fits the model to these and to simulated fleets and writes
`detectors/_noisy_model.py`. Weights are shares of a step lost per unit of each signal, none below 0 (NNLS), half of all
weight on either kind of windows; the errors are those on seeds and windows that were not fitted to.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from skewscope.catalogue import load
from skewscope.simulate import simulate

HERE = Path(__file__).parent
RECORDED, MODEL = HERE / "data" / "noisy_neighbour_windows.csv", HERE.parents[1] / "detectors" / "_noisy_model.py"
SHOWN = ("steal", "foreign_cpu", "cpu_pressure", "memory_pressure")
NAMES = (*SHOWN, "crowded")  # the last: foreign CPU time times pressure
SCENARIOS = ("host-noisy-neighbour", "healthy-training", "healthy-noisy")
FITTED, JUDGED = range(700, 708), range(710, 716)
WINDOW_S, WORK_S, REST_S = 2.5, 0.010, 0.015
SEVERITIES = (0.0, 0.3)  # 0: as it ships
CALM = 2  # seeds of fleets without a neighbour
TEXT = '''"""The model of `host-noisy-neighbour`, derived by tests/detectors/train_noisy_neighbour.py: do not edit.

Fitted to {fitted} windows of simulated hosts and {recorded_fitted} recorded ones; the errors are root mean squares of
the share of a step, on {judged} simulated windows of other seeds and {recorded_judged} other recorded ones.
"""

WEIGHTS = {weights}
ERROR_SIMULATED, ERROR_RECORDED = {error:.4f}, {recorded_error:.4f}
'''


def record(windows: int) -> None:
    """Append windows to the recording."""
    matrix = np.random.default_rng(0).standard_normal((96, 96))
    RECORDED.parent.mkdir(exist_ok=True)
    new = not RECORDED.exists()
    with RECORDED.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow((*SHOWN, "lost"))
        for _ in range(windows):
            before, own_before = _host(), time.process_time()
            begin = time.monotonic()
            wall_s = ran_s = 0.0
            while time.monotonic() < begin + WINDOW_S:
                wall, ran = time.monotonic(), time.thread_time()
                while time.thread_time() < ran + WORK_S:
                    matrix @ matrix
                wall_s, ran_s = wall_s + time.monotonic() - wall, ran_s + time.thread_time() - ran
                time.sleep(REST_S)
            took, after, own = time.monotonic() - begin, _host(), time.process_time() - own_before
            grown = {name: after[name] - before[name] for name in after}
            cpus = grown["total"]
            foreign = max(grown["busy"] - own, 0.0) / cpus
            row = (grown["steal"] / cpus, foreign, grown["cpu"] / took, grown["memory"] / took, 1.0 - ran_s / wall_s)
            writer.writerow([f"{value:.4f}" for value in row])
            file.flush()


def _host() -> dict[str, float]:
    """Return seconds of the host's processors (busy, steal, total) and of pressure."""
    ticks = [int(one) / 100.0 for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, steal = ticks
    found = {"busy": user + nice + system + irq + softirq, "steal": steal, "total": sum(ticks)}
    for resource in ("cpu", "memory"):
        some = Path(f"/proc/pressure/{resource}").read_text().splitlines()[0]
        found[resource] = int(some.rpartition("=")[2]) / 1e6
    return found


def simulated(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Return signals [windows of hosts, signals] and the share of the step by which the host's latest rank is late."""
    noisy = load("detectors.host_noisy_neighbour")
    from skewscope.bench.cases import planned
    from skewscope.bench.results import Case

    signals, lost = [], []
    for seed in seeds:
        for name in SCENARIOS if seed < seeds.start + CALM else SCENARIOS[:1]:
            for severity in SEVERITIES if name == SCENARIOS[0] else (0.0,):
                tables = simulate(planned(Case(name, seed, severity=severity)), seed, detail=False).tables
                told = noisy.signals(tables)
                late = noisy.lateness(tables, told)
                shown = np.stack([told.values[one] for one in NAMES], axis=-1)
                known = np.isfinite(shown).all(axis=-1) & np.isfinite(late)
                signals.append(shown[known])
                lost.append(late[known])
    return np.concatenate(signals), np.concatenate(lost)


def fit() -> None:
    """Write the model."""
    rows = np.loadtxt(RECORDED, delimiter=",", skiprows=1)
    shown, true_lost = np.column_stack([rows[:, :4], rows[:, 1] * rows[:, 2]]), rows[:, 4]
    odd = np.arange(len(rows)) % 2 == 1  # neighbours in time are alike: one for fitting, the next for judging
    seen, lost = simulated(FITTED)
    other, other_lost = simulated(JUDGED)
    real, real_lost = shown[~odd], true_lost[~odd]
    scale = np.sqrt(np.concatenate([np.full(len(seen), 0.5 / len(seen)), np.full(len(real), 0.5 / len(real))]))
    weights, _ = nnls(np.concatenate([seen, real]) * scale[:, None], np.concatenate([lost, real_lost]) * scale)
    error, recorded_error = (
        float(np.sqrt(np.mean((np.clip(given @ weights, 0.0, 0.95) - true) ** 2)))
        for given, true in ((other, other_lost), (shown[odd], true_lost[odd]))
    )
    told = "{" + ", ".join(f'"{name}": {value:.4f}' for name, value in zip(NAMES, weights, strict=True)) + "}"
    MODEL.write_text(TEXT.format(
        fitted=len(seen), recorded_fitted=len(real), judged=len(other), recorded_judged=int(odd.sum()), weights=told,
        error=error, recorded_error=recorded_error,
    ))  # fmt: skip
    sys.stdout.write(MODEL.read_text())


if __name__ == "__main__":
    record(60) if sys.argv[1:] == ["record"] else fit()
