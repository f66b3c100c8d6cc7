"""Choose the interval between checkpoints: not so short that saves cost, not so long that failures do.

Takes how long a save holds training up, how often the job is interrupted, and how long a restart lasts; or recordings
that show the saves. Few failures tell little, so the mean time between them comes with its interval (gamma), and the
plan with the intervals that its ends ask for. Without any failure only a lower bound is known, and planned with.

The interval is the exact optimum for failures at random, in whole steps, beside Young's and Daly's. Asynchronous saves
hold training up for the stall only (--save), but a failure also loses what was not yet written (--drain). Spare nodes
and workers that come and go (churn) are worked out where nodes, repair and stays are given.

Examples:
  skewscope plan checkpoint --save 30 --mttf 3.09 --restart 600 --now 3600
  skewscope plan checkpoint --save 30 --failures 4 --hours 240 --step 12 --html plan.html
  skewscope plan checkpoint --save 5 --drain 120 --rate 3.8 --nodes 2048 --repair 48
  skewscope plan checkpoint traces/ --gpus 512

Worked example: a save of 5 min, a failure each 24 h, 10 min to restart: save every 117 min, as Daly found.

>>> made = planned(Wanted(save_s=300.0, mttf=failures.Mttf(86400.0, 86400.0, 86400.0, 1), restart_s=600.0))
>>> round(made.plan["interval_s"] / 60, 1), round(made.plan["daly_s"] / 60, 1), round(made.plan["young_s"] / 60, 1)
(116.7, 116.7, 120.0)
>>> round(made.plan["ettr_ratio"], 3)
0.913
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import checkpoint, failures
from ..optimize.checkpoint import Asked
from ..plans import Picture, Plan
from . import _advise_other, _rounds, _tables

HOUR_S = 3600.0
LEAST_GAIN_RATIO = 0.02  # of the seconds lost
POINTS, SPAN = 60, 8.0  # of the curve, and how far it goes around the best
PROVED_RATIO = 1e-6


class Checkpoint:
    """`skewscope plan checkpoint`."""

    name: ClassVar[str] = "checkpoint"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("paths", nargs="*", metavar="PATH", help="recordings that show the saves (phase checkpoint)")
        add("--save", type=_tables.positive, metavar="S", help="seconds that training is held up by a save")
        add("--drain", type=_rounds.seconds, default=0.0, metavar="S", help="seconds until a save is safe (async)")
        add("--restart", type=_rounds.seconds, default=600.0, metavar="S",
            help="seconds from a failure until training goes on (default: %(default)g)")  # fmt: skip
        add("--now", type=_tables.positive, metavar="S", help="useful seconds between saves today")
        add("--step", type=_tables.positive, metavar="S", help="seconds of a step: whole steps are proposed")
        add("--mttf", type=_tables.positive, metavar="H", help="hours between interruptions, where well known")
        add("--failures", type=int, metavar="K", help="interruptions seen in --hours")
        add("--hours", type=_tables.positive, metavar="H", help="how long --failures were counted")
        add("--rate", type=_tables.positive, metavar="R", help="interruptions per 1,000 days of one node, with --nodes")
        add("--nodes", type=_rounds.whole, metavar="N", help="nodes of the job")
        add("--gpus", type=_rounds.whole, metavar="N", help="GPUs, where no failure rate is known: Llama 3's is taken")
        add("--repair", type=_rounds.seconds, metavar="H", help="hours a node is away, with --nodes: spare nodes")
        add("--stay", type=_tables.positive, metavar="H", help="hours a worker stays, with --nodes: churn")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        save_s, now_s = args.save, args.now
        ranks = None
        if args.paths:
            seen_save_s, seen_now_s, ranks = _recorded([Path(path) for path in args.paths])
            save_s, now_s = save_s or seen_save_s, now_s or seen_now_s
        if save_s is None:
            raise UsageError("--save S is missing: for how long does a save hold training up?")
        mttf, doubts = _mttf(args, ranks)
        if (args.repair is not None or args.stay is not None) and not args.nodes:
            raise UsageError("--nodes N is missing: of how many nodes is the job?")
        return planned(
            Wanted(save_s, mttf, args.restart, args.drain, args.step or 0.0, now_s, args.nodes,
                   None if args.repair is None else args.repair * HOUR_S,
                   None if args.stay is None else args.stay * HOUR_S), doubts,
        )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A job, all in seconds; `now_s` is today's interval, None where unknown; `repair_s`, `stay_s` of `nodes`."""

    save_s: float
    mttf: failures.Mttf
    restart_s: float = 600.0
    drain_s: float = 0.0
    step_s: float = 0.0
    now_s: float | None = None
    nodes: int | None = None
    repair_s: float | None = None
    stay_s: float | None = None

    @property
    def mttf_s(self) -> float:
        """Return the time between failures to plan with: the mean, or the lower bound where none was seen."""
        return self.mttf.mean_s if np.isfinite(self.mttf.mean_s) else self.mttf.low_s

    def asked(self, mttf_s: float) -> Asked:
        """Return the run with another time between failures."""
        return Asked(self.save_s, mttf_s, self.restart_s, self.drain_s, self.step_s)


def _recorded(paths: list[Path]) -> tuple[float, float, int]:
    """Return (save, useful time between saves, ranks) of recordings."""
    from ..sources import gather

    recording = gather(paths)
    saves = _advise_other.saves(recording.tables)
    if saves is None:
        raise UsageError("the recordings do not show two checkpoints; give --save S and --now S instead")
    return *saves, int(recording.tables["steps"]["rank"].nunique())


def _mttf(args: argparse.Namespace, ranks: int | None) -> tuple[failures.Mttf, tuple[str, ...]]:
    """Return the time between interruptions as one of the flags says it, and what is doubtful about it."""
    ways = [args.mttf is not None, args.failures is not None, args.rate is not None]
    if sum(ways) > 1:
        raise UsageError("--mttf, --failures and --rate say the same thing; give one")
    if args.mttf is not None:
        return _known(args.mttf * HOUR_S), ()
    if args.failures is not None:
        if args.hours is None:
            raise UsageError("--hours H is missing: in which time were the --failures counted?")
        return failures.mttf(args.failures, args.hours * HOUR_S), ()
    if args.rate is not None:
        if not args.nodes:
            raise UsageError("--nodes N is missing: --rate is per 1,000 days of one node")
        said = "the rate is scaled with 1 / nodes, which did not hold for small jobs where it was measured"
        return _known(failures.job_mttf_s(args.rate, args.nodes)), (said,)
    count = args.gpus or ranks
    if not count:
        raise UsageError("how often is the job interrupted? Give --mttf, --failures with --hours, --rate or --gpus")
    mean = checkpoint.assumed_mttf_s(count)
    wide = failures.Mttf(mean, mean / _advise_other.ASSUMED_RANGE, mean * _advise_other.ASSUMED_RANGE, 0)
    return wide, ("no failures of your own: the rate of the published run of Llama 3 is taken, three times more or "
                  "less",)  # fmt: skip


def _known(mttf_s: float) -> failures.Mttf:
    return failures.Mttf(mttf_s, mttf_s, mttf_s, 0)


def planned(wanted: Wanted, doubts: Sequence[str] = ()) -> Plan:
    """Return the plan for a job; raises UsageError where failures come so often that it never moves on."""
    asked = wanted.asked(wanted.mttf_s)
    best_s = asked.best_s()
    now_s = wanted.now_s or best_s
    if not np.isfinite(asked.overhead_ratio(best_s)):
        raise UsageError(f"{wanted.mttf_s:.3g} s between failures, a save of {wanted.save_s:.3g} s and a restart of "
                         f"{wanted.restart_s:.3g} s: no interval makes this job move on")  # fmt: skip
    too_soon = now_s < wanted.drain_s
    pays = too_soon or asked.overhead_ratio(best_s) < (1 - LEAST_GAIN_RATIO) * asked.overhead_ratio(now_s)
    chosen_s = best_s if pays else now_s
    ends = [wanted.asked(one).best_s() for one in (wanted.mttf.low_s, wanted.mttf.high_s) if np.isfinite(one)]
    bound = asked.overhead_ratio(max(checkpoint.exact_s(wanted.save_s, wanted.mttf_s), wanted.drain_s))
    after = asked.overhead_ratio(chosen_s)
    return Plan(
        name="checkpoint",
        inputs={"save_s": wanted.save_s, "drain_s": wanted.drain_s, "restart_s": wanted.restart_s,
                "step_s": wanted.step_s or None, "mttf_s": wanted.mttf.mean_s, "mttf_low_s": wanted.mttf.low_s,
                "mttf_high_s": wanted.mttf.high_s, "failures": wanted.mttf.count},
        objective="overhead_ratio", current=_metrics(asked, now_s), proposed=_metrics(asked, chosen_s),
        verdict=_verdict(wanted, asked, now_s, chosen_s, pays), plan=_contents(wanted, asked, chosen_s, ends),
        lower_bound=bound, gap=max(0.0, after / bound - 1) if bound > 0 else 0.0,
        optimal=after <= bound * (1 + PROVED_RATIO),
        steps=list(_steps(wanted, chosen_s, ends)), warnings=(*doubts, *_warnings(wanted, ends)),
        pictures=_pictures(wanted, asked, chosen_s, wanted.now_s),
    )  # fmt: skip


def _metrics(asked: Asked, interval_s: float) -> dict[str, float]:
    return {"interval_s": interval_s, "ettr_ratio": asked.ettr(interval_s),
            "overhead_ratio": asked.overhead_ratio(interval_s)}  # fmt: skip


def _contents(wanted: Wanted, asked: Asked, chosen_s: float, ends: Sequence[float]) -> dict[str, Any]:
    save, mttf = wanted.save_s, wanted.mttf_s
    made: dict[str, Any] = {
        "interval_s": chosen_s, "interval_steps": round(chosen_s / wanted.step_s) if wanted.step_s else None,
        "interval_low_s": min(ends, default=chosen_s), "interval_high_s": max(ends) if len(ends) > 1 else None,
        "ettr_ratio": asked.ettr(chosen_s), "exact_s": checkpoint.exact_s(save, mttf),
        "daly_s": checkpoint.daly_s(save, mttf), "young_s": checkpoint.young_s(save, mttf),
        "first_order_ettr_ratio": checkpoint.first_order_ettr(chosen_s, save, mttf, wanted.restart_s),
        "spare_nodes": None, "churn": None,
    }  # fmt: skip
    if wanted.nodes and wanted.repair_s is not None:
        per_1000 = 1000 * failures.DAY_S / (mttf * wanted.nodes)
        made["spare_nodes"] = failures.spares(wanted.nodes, per_1000, wanted.repair_s)
    if wanted.nodes and wanted.stay_s is not None:
        lost = failures.churn(wanted.nodes, wanted.stay_s, wanted.restart_s)
        made["churn"] = {"events_per_hour": lost.events_per_hour, "lost_ratio": lost.lost_ratio}
    return made


def _verdict(wanted: Wanted, asked: Asked, now_s: float, chosen_s: float, pays: bool) -> str:
    every = f"{chosen_s:.4g} s"
    if wanted.step_s:
        every += f" ({round(chosen_s / wanted.step_s)} steps)"
    if wanted.now_s and not pays:
        useful = f"{asked.ettr(now_s):.1%} of the time is useful"
        return f"Keep the interval of {now_s:.4g} s: {useful}, and hardly more can be."
    text = f"Save every {every}: {asked.ettr(chosen_s):.1%} of the time is useful"
    return f"{text}, {asked.ettr(now_s):.1%} today." if wanted.now_s else f"{text}."


def _steps(wanted: Wanted, chosen_s: float, ends: Sequence[float]) -> Iterator[str]:
    yield f"save every {chosen_s:.4g} s of useful work"
    if len(ends) > 1 and max(ends) > min(ends):
        yield f"the failures seen allow {min(ends):.4g} to {max(ends):.4g} s; count on and plan again"
    first = wanted.restart_s / (wanted.restart_s + chosen_s / 2)
    if first > 0.5:
        yield f"make restarts faster: a failure costs {wanted.restart_s:.4g} s of restart, {chosen_s / 2:.4g} s of work"


def _warnings(wanted: Wanted, ends: Sequence[float]) -> Iterator[str]:
    if not np.isfinite(wanted.mttf.mean_s):
        yield (f"no failure was seen: only that one comes in {wanted.mttf.low_s / HOUR_S:.3g} h or more (95 %) is "
               "known, and planned with")  # fmt: skip
    if wanted.save_s >= 2 * wanted.mttf_s:
        yield "a save lasts longer than two times between failures: no interval makes this job move on"


def _pictures(wanted: Wanted, asked: Asked, chosen_s: float, now_s: float | None) -> Sequence[Picture]:
    far = max(SPAN, (now_s or chosen_s) / chosen_s * 1.2)
    grid = np.geomspace(chosen_s / SPAN, chosen_s * far, POINTS)
    lines = {}
    for name, mttf_s in (("likely", wanted.mttf_s), ("failures as often as may be", wanted.mttf.low_s),
                         ("as seldom as may be", wanted.mttf.high_s)):  # fmt: skip
        if np.isfinite(mttf_s) and (name == "likely" or mttf_s != wanted.mttf_s):
            lines[name] = (grid.tolist(), [wanted.asked(mttf_s).ettr(one) for one in grid])
    parts = {"planned": _parts(asked, chosen_s)}
    if now_s and np.isfinite(asked.overhead_ratio(now_s)):
        parts = {"now": _parts(asked, now_s), **parts}
    names = ["saves", "restarts", "lost work"]
    said = f"{asked.ettr(chosen_s):.1%} useful at {chosen_s:.4g} s."
    return (
        Picture("lines", "Useful time against the interval", said, "useful seconds between saves",
                "effective training time, ratio", lines),
        Picture("bars", "Where the rest goes", said, "what for", "seconds lost per useful second",
                {name: (names, values) for name, values in parts.items()}),
    )  # fmt: skip


def _parts(asked: Asked, interval_s: float) -> list[float]:
    """Return seconds lost per useful second: to saves, to restarts, and to work done again (the rest)."""
    whole = 1 + asked.overhead_ratio(interval_s)
    saves = asked.save_s / interval_s
    restarts = min(whole * asked.restart_s / asked.mttf_s, max(whole - 1 - saves, 0.0))
    return [saves, restarts, max(whole - 1 - saves - restarts, 0.0)]
