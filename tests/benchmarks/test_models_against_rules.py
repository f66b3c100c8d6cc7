"""Models of scikit-learn beside the plain rules, on simulated fleets whose faults are known: tables, nothing asserted.

A model takes the place of the number that a room compares; how long it must last, whom a claim is about, its price and
its score stay as they are; "in the room" keeps the room's other questions too. Models and thresholds (the least with
which nothing but the fault is claimed, also for the rule's own number: "rule, learned") come from tuning seeds 400 on,
figures from seeds 500 on. SKEWSCOPE_BENCH_SEEDS says how many (2 unless told, 20 in detectors/MODELS_TRIED.md).
"""

import os
import sys
import time
import tracemalloc
from collections import Counter, namedtuple
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from test_live_detection import BASE_RANKS, tiled

from skewscope import catalogue
from skewscope.bench.cases import natural_kinds
from skewscope.bench.truth import truth
from skewscope.bench.watching import watch
from skewscope.detectors import _crowds, _live, _own_work, _ports, _steps
from skewscope.frames import all_tables
from skewscope.precedence import EXPLAINED
from skewscope.signals.impact import costs
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal
from skewscope.simulate.simulation import ground, scenario, simulate
from skewscope.stats.changepoint import changes

SEEDS = int(os.environ.get("SKEWSCOPE_BENCH_SEEDS", "2"))
LEARNED, SCORED = range(400, 400 + min(2 * SEEDS, 40)), range(500, 500 + SEEDS)
FACTORS = (0.35, 0.6, 1.0)  # of the severity that a scenario ships with
RULE = "rule as it ships"
HEALTHY = ("healthy-training", "healthy-noisy", "healthy-mixed", "healthy-infiniband")
RANKS, WINDOWS, ROWS = 10_000, 20, 20_000  # of the fleet that is timed; rows of each kind that a model is fitted on
METRICS = tuple(f"skewscope_{name}" for name in (
    "step", "collective_s", "work", "phase", "rank_run", "rank_cpu_t", "rdma", "nic_p", "host_pressure", "gpu_clock",
    "gpu_utilization", "gpu_sm_active_s", "gpu_tensor_active_s", "gpu_power_watts", "gpu_temperature"))  # fmt: skip
EXPLAINING = (2, 3, 4, 6)  # features of ranks: clock, power, heat, known waits
CLOSE, WARM_UP, SEGMENT = 20, 10, 8  # steps: an onset that near is right; those left out; the shortest level

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
# Series, their features [windows, series, features], the rule's number and its other questions [windows, series].
Seen = namedtuple("Seen", "told x number rest")
# One room: how its series are seen and claimed, its look-alikes; it must last in `need` of `of` windows.
Trial = namedtuple("Trial", "condition see claim alike need of")


def log(values):
    return np.log(values, where=values > 0, out=np.full(values.shape, np.nan))


def stacked(features):
    return np.nan_to_num(np.stack(features, axis=-1), posinf=0.0, neginf=0.0)  # who is not told is as the peers are


def ranks(tables):
    """Yield what is seen of each job's ranks, against the peers of the same stage."""
    for cost in costs(tables).jobs.values():
        told = _own_work.seconds(cost)
        groups = _own_work.stages(told, tables)
        usual = peer_median(told.values, groups)
        waits_s, sm = _own_work.explained(told, tables, groups), _own_work.sm_active(told, tables, groups)
        ratio = told.values / usual / _own_work.more_work(told, tables, groups)
        gauges = [signal(tables, "skewscope_gpu_clock_hertz", domain="sm"),
                  signal(tables, "skewscope_gpu_power_watts", kind="average"),
                  signal(tables, "skewscope_gpu_temperature_celsius", sensor="gpu"),
                  signal(tables, "skewscope_gpu_tensor_active_seconds_total", take="increase")]  # fmt: skip
        others = [log(one / peer_median(one, groups)) for one in map(told.aligned, gauges)]
        rest = (waits_s < 0.5 * (told.values - usual)) & ~(sm < 0.99) & _live.busy(told, tables)
        rest &= ~_own_work.clock_is_low(told, tables, groups)
        yield Seen(told, stacked([log(ratio), log(sm), *others, waits_s / usual]), ratio, rest)


def ports(tables):
    """Yield what is seen of the ports that send; the number is the share of the time for which they wait."""
    told = _ports.ports(tables, _ports.WAITED)
    grown, window_s = partial(_ports.grown, told, tables), told.window_s
    sent, packets = grown(_ports.SENT), np.fmax(grown(_ports.SENT_PACKETS), 1.0)
    marks = grown(_ports.CONGESTED, event="cnp_handled") / packets
    causes = [grown(_ports.RETRANSMITTED, cause=cause) / window_s for cause in ("slow_restart", "packet_sequence")]
    ticks, paused = grown(_ports.WAITED), grown(_ports.PAUSED, direction="receive") / window_s
    share = ticks / window_s * 128.0 / told.aligned(_ports.known(tables, _ports.RATE, "high"))
    per_byte, rail = _ports.ratio(ticks, sent), told.device.astype(str)
    peers = rail + _live.roles(told, tables).astype(str)
    x = [np.log10(marks + 1e-6), *map(np.log1p, causes), np.log10(share + 1e-6), paused,
         log(per_byte / peer_median(per_byte, peers)), log(sent / peer_median(sent, peers))]  # fmt: skip
    rest = (ticks >= 5.0 * peer_median(ticks, rail)) & (per_byte >= 3.0 * peer_median(per_byte, rail))
    rest |= per_byte >= 3.0 * _ports.low_quantile(per_byte, 0.25)
    yield Seen(told, stacked(x), np.where(packets > 1000.0 * window_s, share, np.nan), rest)


def of_ranks(finding, tables, told, mask):
    for one in _crowds.found(told, mask, tables) if mask.any(axis=0).sum() <= max(1.0, 0.25 * len(told)) else ():
        yield finding(tables, told, one.column, one.mask, role="context" if one.subject else "culprit", ranks=one.ranks,
                      subject=one.subject or _own_work.gpu(told, one.column))  # fmt: skip


def of_ports(finding, tables, told, mask):
    for one in _ports.scopes(told, mask):
        yield finding(tables, told, int(one.columns[0]), one.mask, role="culprit", ranks=(), subject=one.subject)


TRIALS = (
    Trial("gpu-slow-silent", ranks, of_ranks, (
        "gpu-hw-slowdown", "gpu-power-cap", "gpu-clock-pinned-low", "gpu-squatter", "host-cpu-contention",
        "host-launch-bound", "pcie-h2d-starvation", "host-gc-pause"), 4, 5),
    Trial("ib-credit-starvation", ports, of_ports, (
        "pcie-nic-backpressure", "pfc-storm", "rdma-retransmit", "rail-imbalance", "nic-phy-degraded"), 3, 4),
)  # fmt: skip


def judges(healthy, every, labels):
    """Return {name: what rates rows of features}; None stands for the rule's own number."""
    from sklearn.covariance import MinCovDet
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import HuberRegressor, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    floor = 0.003 * np.random.default_rng(0).standard_normal(healthy.shape)  # what never moves has no covariance
    line = HuberRegressor(max_iter=500).fit(every[~labels][:, EXPLAINING], every[~labels][:, 0])
    odds = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    forest = IsolationForest(random_state=0).fit(healthy)
    return {
        "rule, learned": None,
        "robust covariance": MinCovDet(random_state=0).fit(healthy + floor).mahalanobis,
        "isolation forest": lambda rows: -forest.score_samples(rows),
        "regression": lambda rows: rows[:, 0] - line.predict(rows[:, EXPLAINING]),  # own work that nothing explains
        "logistic (shown faults)": odds.fit(every, labels).decision_function,
    }


def fleet(name, seed, factor=1.0):
    """Return (tables, truth, how strongly the fault acts [windows])."""
    plan = scenario(name)
    drawn = zip(plan.faults, ground(plan, seed)[1], strict=True)
    faults = tuple(replace(one, severity=factor * made.severity) for one, made in drawn)
    made = simulate(replace(plan, faults=faults), seed, detail=False)
    rows = made.tables["windows"]
    kept = np.array([metric.startswith(METRICS) for metric in rows["metric"].cat.categories])
    tables = {**all_tables(made.tables), "windows": rows[kept[rows["metric"].cat.codes.to_numpy()]]}
    return tables, truth(made.truth), made.faults[0].envelope[: made.windows] if made.faults else np.zeros(made.windows)


def score(see, judge, in_room):
    """Return how suspicious each series is [windows, series]."""
    found = see.number if judge is None else judge(see.x.reshape(-1, see.x.shape[-1])).reshape(see.number.shape)
    return np.where(np.isfinite(see.number) & (see.rest if in_room else True), found, -np.inf)


def learned(trial):
    """Yield (name, judge, whether in the room, threshold) of each model."""
    runs = [(trial.condition, seed, FACTORS[seed % 3]) for seed in LEARNED]
    runs += [(name, seed) for seed in LEARNED for name in HEALTHY[seed % 2 :: 2]]
    runs += [(name, seed) for seed in LEARNED[::8] for name in trial.alike]
    seen = [one for run in runs for one in _labelled(trial, *run)]
    known, draw = [np.isfinite(see.number) for _, see, _ in seen], np.random.default_rng(0)
    x = np.concatenate([see.x[one] for (_, see, _), one in zip(seen, known, strict=True)])
    labels = np.concatenate([faulty[one] for (*_, faulty), one in zip(seen, known, strict=True)])
    sound = np.repeat([name in HEALTHY for name, *_ in seen], [one.sum() for one in known])
    healthy, fault, other = (draw.permutation(np.flatnonzero(one))[:ROWS] for one in (sound, labels, ~labels))
    every = np.concatenate([fault, other])
    for name, judge in judges(x[healthy], x[every], labels[every]).items():
        for in_room in (False, True)[judge is None :] if name != "regression" or trial.see is ranks else ():
            others = [score(see, judge, in_room)[:, ~faulty.any(axis=0)] for at, see, faulty in seen
                      if trial.condition not in EXPLAINED.get(at, ())]  # fmt: skip
            yield name, judge, in_room, np.nextafter(max(_held(one, trial) for one in others), np.inf)


def _labelled(trial, name, seed, factor=1.0):
    tables, known, acts = fleet(name, seed, factor)
    struck = {one for fault in known.faults if fault.condition == trial.condition for one in fault.devices}
    for see in trial.see(tables):
        places = zip(see.told.node.tolist(), see.told.device.tolist(), strict=True)
        yield name, see, (acts >= 0.5)[:, None] & np.array([f"{node}/{device}" in struck for node, device in places])


def _held(scores, trial):
    """Return the greatest threshold that any series reaches for as long as the room asks."""
    parts = np.sort(np.lib.stride_tricks.sliding_window_view(scores, trial.of, axis=0), axis=-1)
    return parts[..., trial.of - trial.need].max()


def claims(trial, sees, masks, tables, _only):
    """Return the findings of a model on the part of a run that `tables` holds."""
    found, finding = [], partial(_live.finding, trial.condition, evidence=(), summary="", advice="")
    for see, mask in zip(sees, masks, strict=True):
        until = int(np.searchsorted(see.told.t_ns, tables["windows"]["t_ns"].max(), "right"))
        lasts = lasting(mask[:until], trial.need, trial.of)
        if lasts.any():
            told = replace(see.told, t_ns=see.told.t_ns[:until], values=see.told.values[:until])
            found += trial.claim(finding, tables, told, lasts)
    return found


def scored(trial, models):
    """Return (counts, median seconds to detect) of each model."""
    runs = [(trial.condition, seed, factor) for seed in SCORED for factor in FACTORS]
    runs += [(name, seed, 1.0) for seed in SCORED for name in HEALTHY]
    runs += [(name, seed, 1.0) for seed in SCORED[::4] for name in trial.alike]
    room = catalogue.room("detectors", trial.condition).load()
    natural, found = {trial.condition: natural_kinds(trial.condition)}, [(Counter(), []) for _ in models]
    for name, seed, factor in runs:
        tables, known, _ = fleet(name, seed, factor)
        sees = list(trial.see(tables))
        for (title, judge, in_room, least), (counts, after) in zip(models, found, strict=True):
            look = partial(claims, trial, sees, [score(see, judge, in_room) >= least for see in sees])
            seen = watch(tables, known, look if title != RULE else lambda part, _: list(room.detect(part)), natural)
            counts.update("false" if name in HEALTHY else alarm.outcome for alarm in seen.alarms)
            counts["days"] += seen.node_days * (name in HEALTHY)
            after += [one.after_s for one in seen.caught if one.found and name == trial.condition]
            counts[factor] += sum(one.found and name == trial.condition for one in seen.caught)
    return [(counts, float(np.median(after)) if after else np.nan) for counts, after in found]


def large_look(trial, models):
    """Yield (CPU seconds, MiB at the most) of one look of each model at a large healthy fleet."""
    tables, *_ = fleet("healthy-training", SCORED[0])
    rows = tables["windows"]
    rows = rows[(rows["t_ns"] <= np.unique(rows["t_ns"])[WINDOWS - 1]).to_numpy()].reset_index(drop=True)
    large, room = tiled(rows, RANKS // BASE_RANKS), catalogue.room("detectors", trial.condition).load()
    for title, judge, in_room, _ in models:
        cpu_s = []
        for trace in (tracemalloc.stop, tracemalloc.start):  # memory is told the second time, which takes longer
            trace()
            part, begin = {**tables, "windows": large.copy(deep=False)}, time.process_time()  # nothing is remembered
            _ = list(room.detect(part)) if title == RULE else [score(see, judge, in_room) for see in trial.see(part)]
            cpu_s.append(time.process_time() - begin)
        yield cpu_s[0], tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.condition)
def test_models_beside_the_rule(trial, capsys):
    models = [(RULE, None, True, np.inf), *learned(trial)]
    figures = scored(trial, models)
    with capsys.disabled():
        print(f"\n{trial.condition}, {SEEDS} seeds, {figures[0][0]['days']:.1f} healthy node-days")
        print(f"{'':36}recall at {FACTORS} detect s  wrong  right  false  CPU s    MiB")
        for model, (counts, after_s), (cpu_s, mib) in zip(models, figures, large_look(trial, models), strict=True):
            numbers = [f"{counts[factor] / SEEDS:7.2f}" for factor in FACTORS] + [f"{after_s:9.0f}"]
            numbers += [f"{counts[outcome]:6}" for outcome in ("wrong", "right", "false")]
            print(f"{model[0] + (', in the room' if model[2] else ', alone'):36}", *numbers, f"{cpu_s:6.1f}{mib:7.0f}")


def rises(values, least, is_tree):
    """Return (times the level before, place) of each level of step times that is higher by at least this share."""
    if not is_tree:
        found = [(one.after / one.before, one.place) for one in changes(values, fewest=SEGMENT, ratio=least)]
    else:
        from sklearn.tree import DecisionTreeRegressor

        at = np.arange(len(values))[:, None]
        tree = DecisionTreeRegressor(criterion="absolute_error", max_leaf_nodes=8, min_samples_leaf=SEGMENT)
        level = tree.fit(at, values).predict(at)
        found = [(level[cut] / level[cut - 1], int(cut)) for cut in np.flatnonzero(np.diff(level)) + 1]
    return [one for one in found if one[0] >= 1.0 + least]


def steps(tables):
    return {str(job): _steps.judged(rows, WARM_UP) for job, rows in tables["step_times"].groupby("job", observed=True)}


def test_change_points_beside_the_rank_test(capsys):
    usual, fresh = ([rows["duration_ns"].to_numpy() for name, seed in product(HEALTHY, seeds)
                     for rows in steps(fleet(name, seed)[0]).values()] for seeds in (LEARNED[::2], SCORED))  # fmt: skip
    ways, errors = {"rank test, 10 %": (0.1, False)}, {}
    for name, is_tree in (("rank test, learned", False), ("regression tree, learned", True)):
        over = [one - 1.0 for values in usual for one, _ in rises(values, 1e-6, is_tree)]
        ways[name] = float(max(over, default=0.0)) + 1e-6, is_tree
    which = tuple(product(("fabric-congestion", "host-cpu-contention"), FACTORS))
    for (condition, factor), seed in product(which, SCORED):
        tables, known, _ = fleet(condition, seed, factor)
        fault, rows = known.faults[0], steps(tables)[known.faults[0].job]
        values, told = rows["duration_ns"].to_numpy() / 1e9, {}
        for one in catalogue.room("detectors", condition).load().detect(tables):
            told["room"] = (one.window.start_ns - fault.onset_ns) / 1e9 / np.median(values), one.lost_s
        for name, way in ways.items():
            for _, cut in rises(values, *way)[:1]:
                onset_count = int(rows["step"].iloc[cut]) - fault.onset_step
                told[name] = onset_count, values[cut:].mean() - values[:cut].mean()
        for name, (onset_count, lost_s) in told.items():
            price = np.nan if fault.is_harmless else abs(lost_s / fault.lost_s_per_step - 1.0)
            errors.setdefault(name, []).append((condition, factor, abs(onset_count), price))
    with capsys.disabled():
        print(f"\nonset within {CLOSE} steps, {which}; errors of onset (steps) and price, p50 p90; healthy rises")
        for name, rows in errors.items():
            found = [sum(row[:2] == one and row[2] <= CLOSE for row in rows) / SEEDS for one in which]
            told = np.nanquantile([row[2:] for row in rows], (0.5, 0.9), axis=0).T.ravel()
            false = sum(len(rises(values, *ways[name])) for values in fresh) if name in ways else "-"
            print(f"{name:26}", *(f"{one:5.2f}" for one in (*found, *told)), false, ways.get(name, "-"))
