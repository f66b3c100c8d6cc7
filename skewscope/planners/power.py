"""Put more servers under a row's power, and cap the right jobs at the right moment.

Takes the power of rows over time: shares of the provisioned power, watts, or samples of nodes (t_s, node, watts, and
perhaps row, job, priority, gpus, clock). Says how many servers more the budget bears, above which power low-priority
work (T1) and all work (T2) should be locked to a lower clock, and which jobs lose least when they are.

How it works: a lock takes effect only after the control latency, so T2 lies as far below the budget as power was seen
to rise within it, and T1 lies 9 % below T2. More servers fit as long as the 99.9th percentile of the power stays within
the budget. A synchronous job waits for its slowest GPU, so capping some of its GPUs costs as much as capping all: whole
jobs are capped, those first that lose the fewest GPUs' worth of work per watt. High priority only where low is not
enough.

What to know: inference leaves headroom (peaks near 80 % of the budget), training hardly any (97 %), and it rises within
seconds. Sensors that average 25 ms in each 100 ms miss three quarters of the spikes, so peaks are lower bounds. A
locked clock holds; a power cap is reactive, and short spikes pass it. GPUs whose clock stands 5 % below their row's are
named: they are slow because of power, and whoever waits for them is too.

Examples:
  skewscope plan power row.csv --servers 40 --latency 40
  skewscope plan power nodes.parquet --provisioned 400000 --html plan.html
  skewscope plan power row.csv --provisioned 400000 --jobs jobs.csv --shave 30000

Worked example: a row of 40 servers that draws 60 to 77 % and once rises by 11 % from one sample to the next.

>>> import numpy as np
>>> from ._power_input import Row
>>> made = planned(Row(np.array([[0.60], [0.62], [0.73], [0.77], [0.70]]), ("a",), 40.0), Wanted(servers=40))
>>> made.plan["extra_servers"], round(made.plan["t2_ratio"], 2), round(made.plan["t1_ratio"], 2)
(11, 0.86, 0.77)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import power
from ..plans import Picture, Plan
from . import _power_input, _rounds, _tables
from ._power_input import Jobs, Row

Array = np.ndarray[Any, Any]

SERVERS = 40
LATENCY_S, CUT_RATIO, CLOCK_RATIO, COMPUTE_RATIO = 40.0, 0.2, 0.9, 0.8
DRAWN_TIMES = 2000
STEEP_RATIO = 0.25  # a rise within the latency that leaves no room for thresholds


class Power:
    """`skewscope plan power`."""

    name: ClassVar[str] = "power"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add(
            "table", metavar="FILE", help="power over time, CSV or Parquet: share or watts, perhaps t_s, row, node, job"
        )
        add("--provisioned", type=_tables.positive, metavar="W", help="watts that a row is built for")
        add("--servers", type=_rounds.whole, metavar="N", help=f"servers of a row (default: as sampled, or {SERVERS})")
        latency = "seconds until a lock takes effect (default: %(default)g, out of band)"
        add("--latency", type=_tables.positive, default=LATENCY_S, metavar="S", help=latency)
        add("--interval", type=_tables.positive, metavar="S", help="seconds between samples (default: from t_s, or 1)")
        add("--jobs", metavar="FILE", help="jobs: job, watts, gpus, priority (low, high), compute_ratio")
        add("--shave", type=_rounds.seconds, metavar="W", help="watts to save now (default: what peaks exceed T2 by)")
        cut = "share of its power that a locked GPU saves (default: %(default)g)"
        add("--cut", type=_rounds.ratio, default=CUT_RATIO, metavar="SHARE", help=cut)
        add("--clock", type=_tables.positive, default=CLOCK_RATIO, metavar="RATIO",
            help="locked clock over the usual one (default: %(default)g)")  # fmt: skip
        add("--compute", type=_rounds.ratio, default=COMPUTE_RATIO, metavar="SHARE",
            help="share of a step that computes, where jobs do not tell (default: %(default)g)")  # fmt: skip

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        row = _power_input.read(Path(args.table), args.provisioned, args.interval, args.compute)
        jobs = _power_input.jobs(Path(args.jobs), args.compute) if args.jobs else row.jobs
        return planned(row, Wanted(args.servers or row.servers or SERVERS, args.latency, args.provisioned, jobs,
                                   args.shave, args.cut, args.clock))  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What the flags say; `shave_watts` None: what the planned row's peak exceeds T2 by."""

    servers: int = SERVERS
    latency_s: float = LATENCY_S
    provisioned_watts: float | None = None
    jobs: Jobs | None = None
    shave_watts: float | None = None
    cut_ratio: float = CUT_RATIO
    clock_ratio: float = CLOCK_RATIO


def planned(row: Row, wanted: Wanted) -> Plan:
    """Return the plan for rows of servers; raises UsageError for a clock that locks nothing, or rows without power."""
    if not 0 < wanted.clock_ratio <= 1:
        raise UsageError(f"--clock {wanted.clock_ratio:g}: a locked clock is above 0 and at most the usual one, 1")
    within = max(1, round(wanted.latency_s / row.every_s))
    extra = power.extra_servers(row.share, wanted.servers)
    grown = row.share * (wanted.servers + extra) / wanted.servers
    limits = power.thresholds(grown, within)
    steep = limits.rise > STEEP_RATIO
    if steep:
        extra, grown, limits = 0, row.share, power.thresholds(row.share, within)
    capped = _capped(wanted, grown, limits)
    proposed = _metrics(grown, limits, wanted.servers + extra)
    return Plan(
        name="power",
        inputs={"rows": len(row.rows), "samples": len(row.share), "interval_s": row.every_s,
                "servers": wanted.servers, "latency_s": wanted.latency_s,
                "provisioned_watts": wanted.provisioned_watts},
        objective="servers", current=_metrics(row.share, limits, wanted.servers), proposed=proposed,
        verdict=_verdict(wanted, extra, limits, steep),
        plan={
            "extra_servers": extra, "t1_ratio": limits.low, "t2_ratio": limits.high, "largest_rise_ratio": limits.rise,
            "release_t1_ratio": max(0.0, limits.low - power.HYSTERESIS),
            "release_t2_ratio": max(0.0, limits.high - power.HYSTERESIS),
            "held_back": list(row.held_back), "jobs": _document(wanted, capped),
        },
        steps=list(_steps(extra, None if steep else limits, wanted, capped)),
        warnings=tuple(_warnings(row, wanted, limits, capped)), pictures=_pictures(row, grown, limits, wanted),
    )  # fmt: skip


def _metrics(share: Array, limits: power.Thresholds, servers: int) -> dict[str, Any]:
    levels = np.stack([power.states(one, limits) for one in share.T], axis=1)
    return {
        "servers": servers, "peak_power_ratio": float(np.quantile(share, power.SURE_QUANTILE, axis=0).max()),
        "largest_power_ratio": float(share.max()), "low_capped_time_ratio": float((levels >= 1).mean()),
        "all_capped_time_ratio": float((levels >= 2).mean()), "brake_samples": int((levels == 3).sum()),
    }  # fmt: skip


def _capped(wanted: Wanted, grown: Array, limits: power.Thresholds) -> power.Capped | None:
    """Return the jobs to cap, those of low priority first; None where no jobs are known."""
    jobs = wanted.jobs
    if jobs is None:
        return None
    watts = wanted.shave_watts
    if watts is None:
        over = float(np.quantile(grown, power.SURE_QUANTILE, axis=0).max()) - limits.high
        watts = max(0.0, over) * (wanted.provisioned_watts or 0.0)
    saves = jobs.watts * wanted.cut_ratio
    cost = power.lost_gpus(jobs.gpus, jobs.compute_ratio, wanted.clock_ratio)
    first = power.choose(saves[jobs.low], cost[jobs.low], watts)
    chosen = np.zeros(len(saves), dtype=bool)
    chosen[jobs.low] = first.chosen
    if first.enough or jobs.low.all():
        return power.Capped(chosen, first.cost, first.bound, first.saved_watts, first.enough)
    rest = power.choose(saves[~jobs.low], cost[~jobs.low], watts - first.saved_watts)
    chosen[~jobs.low] = rest.chosen
    return power.Capped(chosen, first.cost + rest.cost, first.bound + rest.bound, first.saved_watts + rest.saved_watts,
                        rest.enough)  # fmt: skip


def _document(wanted: Wanted, capped: power.Capped | None) -> dict[str, Any] | None:
    jobs = wanted.jobs
    if jobs is None or capped is None:
        return None
    lost = power.lost_gpus(jobs.gpus, jobs.compute_ratio, wanted.clock_ratio)
    slowed = power.slowed_ratio(jobs.compute_ratio, wanted.clock_ratio)
    rows = [{"job": name, "cap": bool(capped.chosen[one]), "low_priority": bool(jobs.low[one]),
             "watts": float(jobs.watts[one]), "saves_watts": float(jobs.watts[one] * wanted.cut_ratio),
             "step_time_ratio": float(slowed[one]), "lost_gpus": float(lost[one])}
            for one, name in enumerate(jobs.names)]  # fmt: skip
    return {"jobs": rows, "lost_gpus": capped.cost, "lost_gpus_bound": capped.bound,
            "saved_watts": capped.saved_watts, "enough": capped.enough}  # fmt: skip


def _verdict(wanted: Wanted, extra: int, limits: power.Thresholds, steep: bool) -> str:
    if steep:
        return (f"Add no servers: power rises by {limits.rise:.0%} of the budget within {wanted.latency_s:g} s, faster "
                "than a lock acts (training does); cap in band, or leave the headroom.")  # fmt: skip
    lock = f"lock low-priority work above {limits.low:.0%} of the budget and all above {limits.high:.0%}"
    if not extra:
        return f"Add no servers: the row uses its budget; {lock}."
    return f"Add {extra} servers to {wanted.servers} ({extra / wanted.servers:.0%}), and {lock}."


def _steps(extra: int, limits: power.Thresholds | None, wanted: Wanted, capped: power.Capped | None) -> Iterator[str]:
    if extra:
        yield f"add {extra} servers, a few at a time, and plan again with the new peaks"
    if limits is not None:
        back = power.HYSTERESIS
        yield f"above {limits.low:.1%} lock low-priority work to a lower clock; release below {limits.low - back:.1%}"
        yield f"above {limits.high:.1%} lock all work, high priority last; release below {limits.high - back:.1%}"
    if wanted.jobs is not None and capped is not None:
        for one in np.flatnonzero(capped.chosen):
            yield (f"cap all {wanted.jobs.gpus[one]:g} GPUs of {wanted.jobs.names[one]}: saves "
                   f"{wanted.jobs.watts[one] * wanted.cut_ratio:.4g} W")  # fmt: skip


def _warnings(row: Row, wanted: Wanted, limits: power.Thresholds, capped: power.Capped | None) -> Iterator[str]:
    if row.held_back:
        more = " ..." if len(row.held_back) > 8 else ""
        yield (f"clocks 5 % below the row's: {', '.join(row.held_back[:8])}{more}; they are slow because of power, and "
               "their jobs wait for them")  # fmt: skip
    if len(row.share) < 1 / (1 - power.SURE_QUANTILE):
        yield f"only {len(row.share)} samples: the 99.9th percentile is the largest of them; record a day or more"
    if row.every_s > wanted.latency_s:
        yield f"samples every {row.every_s:g} s hide rises within {wanted.latency_s:g} s: T2 is too high"
    if limits.low < float(np.median(row.share)):
        yield "T1 lies below the usual power: low-priority work would be capped most of the time"
    if capped is not None and not capped.enough:
        yield "capping every job does not save that much: move work to another row"
    if wanted.jobs is not None and wanted.shave_watts is None and wanted.provisioned_watts is None:
        yield "how many watts peaks exceed T2 by is unknown without --provisioned or --shave: no job is chosen"


def _pictures(row: Row, grown: Array, limits: power.Thresholds, wanted: Wanted) -> Sequence[Picture]:
    every = max(1, len(row.share) // DRAWN_TIMES)
    fullest = int(np.argmax(row.share.max(axis=0)))
    times = (np.arange(len(row.share)) * row.every_s)[::every].tolist()
    ends = [times[0], times[-1]]
    lines = {"now": (times, row.share[::every, fullest].tolist()), "planned": (times, grown[::every, fullest].tolist()),
             "T1": (ends, [limits.low] * 2), "T2": (ends, [limits.high] * 2)}  # fmt: skip
    ranked = np.linspace(0, 1, 101)
    profile = {name: ((100 * ranked).tolist(), np.quantile(share, ranked).tolist())
               for name, share in (("now", row.share), ("planned", grown))}  # fmt: skip
    drawn = [
        Picture("lines", f"Power of {row.rows[fullest]}", f"Largest rise in {wanted.latency_s:g} s: {limits.rise:.1%}.",
                "time, s", "power over provisioned, ratio", lines),
        Picture("lines", "How often power is how high", f"99.9 % of the time below {np.quantile(grown, 0.999):.1%}.",
                "share of the samples, %", "power over provisioned, ratio", profile),
    ]  # fmt: skip
    if wanted.jobs is not None:
        lost = power.lost_gpus(wanted.jobs.gpus, wanted.jobs.compute_ratio, wanted.clock_ratio)
        per = 1000 * lost / np.maximum(wanted.jobs.watts * wanted.cut_ratio, 1e-9)
        bars = {"cost": (list(wanted.jobs.names), per.tolist())}
        drawn.append(Picture("bars", "What capping each job costs", "Cap the lowest first.", "job",
                             "GPUs' worth lost per kW saved", bars))  # fmt: skip
    return tuple(drawn)
