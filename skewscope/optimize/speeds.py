"""What each rank needs for its part of the batch: own work per round, split into a fixed and a per-sample part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..stats.bootstrap import block_draws, block_rounds, interval
from ..stats.bursts import Bursts, bursts, slow
from .sequence_cost import non_negative

Array = np.ndarray[Any, Any]

FIXED_PHASES = ("optimizer",)  # what a step does once, however many samples it holds
LOADS_DIFFER_RATIO = 1.2  # a rank's largest and least load: from here on the fixed part can be measured
PRESENT_RATIO = 0.5  # of the rounds; a rank seen less is left out
LARGEST_PHASE_RATIO = 0.5  # of the own work: a longer optimizer phase waits for a device, it does not work
LARGEST_FIXED_RATIO = 0.95  # of the shortest own work, so that samples cost something


@dataclass(frozen=True)
class Rounds:
    """Measured rounds of workers: ranks, or replicas named by their first rank.

    `own_s` [rounds, workers] own work, nobody waited for; `step_s` [rounds] what the round lasted; `load` [rounds,
    workers] tokens, NaN where unknown; `fixed_s` [workers] the part of the own work known not to grow with the load;
    `comm_s` [rounds] communication, hidden or not.
    """

    workers: Array
    own_s: Array
    step_s: Array
    load: Array
    fixed_s: Array
    comm_s: Array
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def whole_load(self) -> float:
        """Return the mean load of a round over all workers: what a global batch amounts to; NaN where unknown."""
        return float(self.load.sum(axis=1).mean())

    @property
    def exposed_s(self) -> Array:
        """Return what a round lasts beyond the own work of its slowest worker, [rounds]; not below 0."""
        return np.asarray(np.maximum(self.step_s - self.own_s.max(axis=1), 0.0))

    @property
    def bursts(self) -> Bursts:
        """Return how long workers stay slow."""
        return bursts(slow(self.own_s))

    def shares(self) -> Array:
        """Return each worker's share of the round's load, [rounds, workers]; even where the load is unknown."""
        total = self.load.sum(axis=1, keepdims=True)
        even = np.full(self.own_s.shape, 1.0 / len(self.workers))
        return np.where(np.isfinite(total) & (total > 0), self.load / np.where(total > 0, total, 1.0), even)


def of_times(own_s: Array, comm_s: float = 0.0, load: float = float("nan")) -> Rounds:
    """Return rounds from own work alone, [rounds, workers] in seconds, and a communication time nothing hides.

    `load` is what every worker held, in any unit; unknown where it is left out.

    >>> of_times(np.array([[1.0, 2.0]]), 0.5).step_s.tolist()
    [2.5]
    """
    rounds, workers = own_s.shape
    comm = np.full(rounds, float(comm_s))
    loads = np.full(own_s.shape, load)
    return Rounds(np.arange(workers), own_s, own_s.max(axis=1) + comm, loads, np.zeros(workers), comm)


def of_tables(tables: Mapping[str, pd.DataFrame], parallelism: Mapping[str, int]) -> Rounds:
    """Return the rounds of a recording from `rank_steps`, `step_times`, `steps` and `ranks`.

    Ranks that work on one part of the batch together (tensor, context parallel) are one worker, as slow as the slowest
    of them. Rounds in which a worker is missing, and planned ones, are left out. Raises UsageError where the recording
    shows no own work of two workers or more, or is of a pipeline.
    """
    rows = tables["rank_steps"]
    rows = rows[(rows["rank"] >= 0).to_numpy()]
    if parallelism.get("pp", 1) > 1:
        raise UsageError("stages of a pipeline do not share a batch: `skewscope plan pipeline` moves layers instead")
    if rows["rank"].nunique() < 2:
        raise UsageError("the recording shows the steps of fewer than two ranks: nothing can be split between them")
    worker, warnings = _worker_of(rows, tables["ranks"], parallelism)
    # Gaps between recorded work are not counted: what a host does there does not grow with the samples.
    own = (rows["own_ns"] - rows["checkpoint_ns"]).to_numpy() / 1e9
    table = pd.DataFrame({
        "step": rows["step"].to_numpy(), "worker": worker, "own": own, "comm": rows["comm_ns"].to_numpy() / 1e9,
        "load": np.where(rows["work_tokens"] > 0, rows["work_tokens"].to_numpy(dtype=float), np.nan),
        "wait": rows["wait_ns"].to_numpy() / 1e9,
    })  # fmt: skip
    grids = {name: table.pivot_table(index="step", columns="worker", values=name, aggfunc="max", dropna=False)
             for name in ("own", "comm", "load", "wait")}  # fmt: skip
    steps, workers, left_out = _whole(grids["own"], tables["step_times"])
    if len(left_out):
        warnings.append(f"{len(left_out)} ranks are in fewer than half of the steps and are left out: {left_out}")
    picked = {name: grid.reindex(index=steps, columns=workers).to_numpy() for name, grid in grids.items()}
    times = tables["step_times"].drop_duplicates("step").set_index("step")["duration_ns"]
    measured = times.reindex(steps).to_numpy() / 1e9
    length = np.where(np.isfinite(measured), measured, picked["own"].max(axis=1))
    if not picked["wait"].any() and len(np.unique(rows["source"].astype(str))) == 1:
        warnings.append("the recording does not show waiting, so own work is taken to be the whole step: if ranks wait "
                        "for each other inside it, they look alike and nothing can be gained")  # fmt: skip
    silent = np.asarray(workers)[~picked["own"].any(axis=0)].tolist()
    if 0 < len(silent) < len(workers):
        warnings.append(f"no own work of ranks {silent} is recorded: the plan takes them for as fast as can be, so do "
                        "not follow it before their activity is recorded too")  # fmt: skip
    made = Rounds(
        np.asarray(workers), picked["own"], length, picked["load"], np.zeros(len(workers)),
        picked["comm"].max(axis=1), tuple(warnings),
    )  # fmt: skip
    return replace(made, fixed_s=_fixed(tables["steps"], made, dict(zip(rows["rank"], worker, strict=True))))


def _worker_of(
    rows: pd.DataFrame, ranks: pd.DataFrame, parallelism: Mapping[str, int]
) -> tuple[Array, list[str]]:  # fmt: skip
    """Return the worker of each row: the first rank of its replica."""
    width = parallelism.get("tp", 1) * parallelism.get("cp", 1)
    rank = rows["rank"].to_numpy()
    if width <= 1:
        return rank, []
    known = ranks[(ranks["dp"] >= 0).to_numpy()]
    if len(known):
        first = known.groupby("dp")["rank"].transform("min")
        of = dict(zip(known["rank"], first, strict=True))
        return np.array([of.get(one, one) for one in rank]), []
    return rank // width * width, [f"no coordinates: {width} ranks in a row are taken to share one part of the batch"]


def _whole(own: pd.DataFrame, step_times: pd.DataFrame) -> tuple[Array, Array, list[int]]:
    """Return (steps in which all kept workers are seen and nothing is planned, kept workers, workers left out)."""
    planned = step_times.loc[step_times["planned"].to_numpy(), "step"]
    own = own[~own.index.isin(planned)]
    seen = own.notna().mean(axis=0)
    kept = own.columns[seen >= PRESENT_RATIO]
    whole = own.index[own[kept].notna().all(axis=1)] if len(kept) > 1 else own.index[:0]
    if not len(whole):
        raise UsageError("no step of the recording shows the own work of two workers or more")
    return whole.to_numpy(), kept.to_numpy(), [int(one) for one in own.columns[seen < PRESENT_RATIO]]


def _fixed(steps: pd.DataFrame, rounds: Rounds, worker_of: Mapping[int, int]) -> Array:
    """Return the median length of the phases that do not grow with the load, [workers], at most the own work."""
    part = steps[steps["phase"].isin(FIXED_PHASES).to_numpy()]
    if not len(part):
        return np.zeros(len(rounds.workers))
    length = (part["end_ns"] - part["start_ns"]).to_numpy() / 1e9
    worker = [worker_of.get(int(one), -1) for one in part["rank"]]
    median = pd.Series(length).groupby(worker).median().reindex(rounds.workers).fillna(0.0).to_numpy()
    return np.asarray(np.minimum(median, np.median(rounds.own_s, axis=0) * LARGEST_PHASE_RATIO))


@dataclass(frozen=True)
class Speeds:
    """Time of each worker, [workers]: `fixed_s` and `per_sample_s`, with the interval of the second.

    `measured` says whether several loads were seen, so that the fixed part is fitted and not taken from phases.
    """

    fixed_s: Array
    per_sample_s: Array
    low_s: Array
    high_s: Array
    measured: bool


def fit(rounds: Rounds, batch: int, fixed_s: Array | None = None, also: Sequence[Rounds] = (), seed: int = 0) -> Speeds:
    """Return the speeds for a batch of so many samples; `fixed_s` [workers] overrides what the recording says.

    `also` are rounds of the same workers with other loads: they tell the fixed part. Raises UsageError where they are
    of other workers, or loads are unknown.

    >>> made = fit(of_times(np.array([[1.0, 2.0]] * 8)), 4)
    >>> made.per_sample_s.tolist(), made.measured
    ([0.5, 1.0], False)
    """
    own, samples = _stacked(rounds, also, batch)
    measured = fixed_s is None and bool((samples.max(axis=0) > LOADS_DIFFER_RATIO * samples.min(axis=0)).any())
    if fixed_s is None:
        fixed_s = _fitted(own, samples) if measured else rounds.fixed_s
    each = np.maximum(own - fixed_s, 1e-9) / samples
    draws = block_draws(len(each), block_rounds(len(each), rounds.bursts.mean_rounds), seed=seed)
    resampled = np.median(each[draws], axis=1)
    ends = np.array([interval(resampled[:, one]) for one in range(each.shape[1])])
    return Speeds(np.asarray(fixed_s), np.median(each, axis=0), ends[:, 0], ends[:, 1], measured)


def _stacked(rounds: Rounds, also: Sequence[Rounds], batch: int) -> tuple[Array, Array]:
    """Return (own work, samples), [all rounds, workers]; the first recording's mean round is the whole batch."""
    own, samples = [rounds.own_s], [rounds.shares() * batch]
    if np.isfinite(rounds.whole_load):
        samples = [rounds.load / rounds.whole_load * batch]
    for other in also:
        if other.workers.tolist() != rounds.workers.tolist():
            raise UsageError(f"the recordings are of different workers: {rounds.workers.tolist()} and "
                             f"{other.workers.tolist()}")  # fmt: skip
        if not np.isfinite(rounds.whole_load) or not np.isfinite(other.whole_load):
            raise UsageError("the tokens of each rank are not in all recordings, so their loads cannot be compared")
        own.append(other.own_s)
        samples.append(other.load / rounds.whole_load * batch)
    return np.concatenate(own), np.concatenate(samples)


def _fitted(own_s: Array, samples: Array) -> Array:
    """Return the fixed part of each worker, [workers]; of one whose load hardly differs, the median of the others."""
    made = np.full(own_s.shape[1], np.nan)
    for one in range(own_s.shape[1]):
        if samples[:, one].max() > LOADS_DIFFER_RATIO * samples[:, one].min():
            columns = np.stack([np.ones(len(own_s)), samples[:, one]], axis=1)
            made[one] = non_negative(columns, own_s[:, one])[0]
    known = np.where(np.isfinite(made), made, np.nanmedian(made))
    return np.asarray(np.minimum(known, own_s.min(axis=0) * LARGEST_FIXED_RATIO))


def predicted_s(rounds: Rounds, speeds: Speeds, batch: int, samples: Array) -> Array:
    """Return what each recorded round would last with another split `samples` [workers], [rounds].

    Own work above the fixed part grows with the samples, jitter with it; what the round lasts beyond stays.

    >>> rounds = of_times(np.array([[1.0, 2.0]] * 8), 0.5)
    >>> predicted_s(rounds, fit(rounds, 6), 6, np.array([4, 2])).tolist()[0]
    1.8333333333333333
    """
    scale = samples / (rounds.shares() * batch)
    own = speeds.fixed_s + np.maximum(rounds.own_s - speeds.fixed_s, 0.0) * scale
    return np.asarray(own.max(axis=1) + rounds.exposed_s)
