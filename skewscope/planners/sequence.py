"""Deal sequences of unequal length so that no rank waits for another's long one.

Takes lengths in tokens (a table, in the order of training), or recordings that hold tokens per rank and step. Compares
the usual ways to deal them: by turns (round robin), longest first by tokens, longest first by cost (LPT), and largest
differences (Karmarkar-Karp), each as the heaviest rank over the mean, and all with the floor that no deal can be below.
Where the floor itself stands above 1.05, the longest document binds: no deal helps, and the plan says over how many
devices each length should be split (sequence parallelism, by length class).

A sequence costs 24 h^2 s + 2 h s^2 per layer under a causal mask (4 h s^2 under a full one), so equal tokens are not
equal work. Memory is linear in tokens, so time and memory cannot both be level: the plan shows both. From recordings
the cost is fitted to the measured times where lengths differ, with its R^2.

Within a step (default) only the sequences of that step are dealt anew: training sees the same batches. With --corpus
all are dealt to all steps, which is more even, and changes which sequences meet in a batch.

Examples:
  skewscope plan sequence lengths.csv --ranks 8 --per-step 256 --hidden 4096
  skewscope plan sequence lengths.npy --ranks 64 --per-step 512 --tokens 16384 --out deal.csv --html plan.html
  skewscope plan sequence lengths.parquet --column n_tokens --ranks 8 --per-step 64 --corpus
  skewscope plan sequence traces/ --corpus

Worked example: five documents whose cost is their tokens, two ranks. By turns the heaviest rank has 18; longest first
gives 17, largest differences 16, and the optimum is 15, the equal share.

>>> import numpy as np
>>> made = planned(Lengths(np.array([8, 7, 6, 5, 4])), Wanted(ranks=2, per_step=5, cost="tokens"))
>>> {way: round(ratio * 15, 6) for way, ratio in made.plan["ratios"].items()}
{'round_robin': 18.0, 'lpt_tokens': 17.0, 'lpt_cost': 17.0, 'karmarkar_karp': 16.0, 'exact': 15.0, 'floor': 15.0}
>>> made.plan["way"], made.optimal
('exact', True)
"""

from __future__ import annotations

import argparse
from collections import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from ..optimize import sequence_cost, sequence_deal
from ..optimize.sequence_cost import Cost
from ..optimize.sequence_deal import Compared, Deal
from ..optimize.sequence_degrees import Devices
from ..plans import Picture, Plan
from ..stats.bootstrap import block_draws, block_rounds, interval
from . import _rounds, _sequence_degrees
from ._lengths import Lengths, read

Array = np.ndarray[Any, Any]

BINDING_RATIO = 1.05  # the floor over the mean: from here on the longest document decides
LEAST_GAIN_RATIO = 0.02
LISTED_MOST = 20_000
PROVED_RATIO = 1e-9
HIDDEN = 4096


class Sequence:
    """`skewscope plan sequence`."""

    name: ClassVar[str] = "sequence"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("paths", nargs="+", metavar="LENGTHS", help="a table of lengths in tokens, or recordings of one job")
        add("--column", metavar="NAME", help="the column that holds the tokens")
        add("--ranks", type=_rounds.whole, metavar="K", help="data-parallel ranks (recordings: as recorded)")
        add("--per-step", type=_rounds.whole, metavar="N", help="sequences of a global batch (default: all)")
        add("--corpus", action="store_true", help="deal across all steps, not only within each")
        add("--hidden", type=_rounds.whole, default=HIDDEN, metavar="H", help="hidden size (default: %(default)s)")
        add("--key-value-hidden", type=_rounds.whole, metavar="H", help="with --cost skrull: size of all KV heads")
        add("--cost", choices=sequence_cost.PRESETS, help="cost of a sequence (default: causal, or as measured)")
        add("--tokens", type=_rounds.whole, metavar="N", help="tokens that fit on one device")
        add("--node", type=_rounds.whole, default=8, metavar="N", help="devices of a node (default: %(default)s)")
        add("--exact", action="store_true", help="solve the split of steps of few sequences exactly (slower)")
        add("--out", metavar="FILE", help="write the deal as CSV: sequence, step, rank")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        lengths = read(args.paths, args.column)
        ranks = args.ranks or (lengths.rounds.load.shape[1] if lengths.rounds else None)
        if ranks is None:
            raise UsageError("--ranks K is missing: how many data-parallel ranks share a step?")
        wanted = Wanted(
            ranks, args.per_step, args.corpus, args.hidden, args.key_value_hidden, args.cost,
            float(args.tokens or np.inf), args.node, args.out, args.exact,
        )  # fmt: skip
        return planned(lengths, wanted)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: as the flags say; `tokens` fit on one device."""

    ranks: int
    per_step: int | None = None
    corpus: bool = False
    hidden: int = HIDDEN
    key_value_hidden: int | None = None
    cost: str | None = None
    tokens: float = float("inf")
    node: int = 8
    out: str | None = None
    exact: bool = False


def planned(lengths: Lengths, wanted: Wanted) -> Plan:
    """Return the plan for lengths in the order of training; raises UsageError for what cannot be dealt."""
    count, ranks = len(lengths.tokens), wanted.ranks
    recorded = lengths.recorded if lengths.rounds is not None and lengths.rounds.load.shape[1] == ranks else None
    per_step = wanted.per_step or (ranks if recorded is not None else count)
    if per_step < ranks:
        raise UsageError(f"--per-step {per_step} is less than one sequence for each of the {ranks} ranks")
    cost, doubts = _cost(lengths, wanted)
    costs = cost.of(lengths.tokens)
    made = sequence_deal.compare(lengths.tokens, costs, ranks, per_step, recorded)
    steps = -(-count // per_step)
    if wanted.corpus and steps > 1:
        made = sequence_deal.with_corpus(made, costs, ranks, steps)
    today = next(iter(made.deals))
    way = made.best if 1 - made.times[made.best] / made.times[today] > LEAST_GAIN_RATIO else today
    sharded = None
    if made.ratio("floor") > BINDING_RATIO or (lengths.tokens > wanted.tokens).any():
        sharded = _sequence_degrees.shard(
            lengths.tokens, made.deals[way].step_of, made.deals[way].loads(costs, ranks), cost, _devices(wanted),
            proved=wanted.exact,
        )  # fmt: skip
    low, high = _saved_range(made, today, way, costs, ranks)
    return Plan(
        name="sequence",
        inputs={"sequences": count, "ranks": ranks, "per_step": per_step, "steps": steps, "corpus": wanted.corpus,
                "cost_linear": cost.linear, "cost_quadratic": cost.quadratic, "cost_unit": cost.unit,
                "cost_r2": cost.r2, "tokens_per_device": wanted.tokens, "node_devices": wanted.node},
        objective="heaviest_over_mean_ratio", current=_metrics(made, today, lengths.tokens, costs, ranks, cost),
        proposed=_metrics(made, way, lengths.tokens, costs, ranks, cost),
        verdict=_verdict(made, today, way, sharded, wanted),
        plan={
            "way": way, "ratios": {one: made.ratio(one) for one in (*made.times, "floor")}, "saved_share_low": low,
            "saved_share_high": high, "longest_tokens": int(lengths.tokens.max()),
            "floor_binds": made.ratio("floor") > BINDING_RATIO, **_listed(made.deals[way], count),
            "degrees": _sequence_degrees.classes(sharded) if sharded else [],
            "degrees_time": sharded.time if sharded else None, "degrees_bound": sharded.bound if sharded else None,
            "degrees_steps": len(sharded.layouts) if sharded else 0,
        },
        lower_bound=made.ratio("floor"), gap=made.times[way] / made.floor - 1,
        optimal=made.times[way] <= made.floor * (1 + PROVED_RATIO), steps=list(_steps(way, today, sharded, wanted)),
        warnings=(*lengths.warnings, *doubts), pictures=_pictures(made, way, costs, ranks, cost, sharded, wanted),
        files={wanted.out: _file(made.deals[way])} if wanted.out else {},
    )  # fmt: skip


def _cost(lengths: Lengths, wanted: Wanted) -> tuple[Cost, list[str]]:
    """Return the cost: as chosen, as measured where the recording's lengths explain its times, else causal."""
    if lengths.rounds is None or wanted.cost is not None:
        return sequence_cost.preset(wanted.cost or "causal", wanted.hidden, wanted.key_value_hidden), []
    load = lengths.rounds.load.ravel()
    doubt = "tokens do not explain the recorded times"
    if len(np.unique(load)) > 1:
        made = sequence_cost.fit(load, load**2, lengths.rounds.own_s.ravel())
        if made.r2 is not None and made.r2 >= sequence_cost.LEAST_R2 and made.linear + made.quadratic > 0:
            return made, ["documents within a rank's tokens are not recorded: the quadratic part is that of their sum"]
        doubt += f" (R^2 {made.r2:.2f})"
    return sequence_cost.preset("causal", wanted.hidden), [f"{doubt}: the causal cost at h = {wanted.hidden} is taken"]


def _devices(wanted: Wanted) -> Devices:
    return Devices(wanted.ranks, wanted.tokens, wanted.node)


def _metrics(made: Compared, way: str, tokens: Array, costs: Array, ranks: int, cost: Cost) -> dict[str, Any]:
    held = made.deals[way].loads(tokens.astype(float), ranks)
    loads = made.deals[way].loads(costs, ranks)
    name = "step_cost_s" if cost.unit == "s" else f"step_cost_{cost.unit.lower()}"
    return {
        "heaviest_over_mean_ratio": made.ratio(way), name: float(loads.max(axis=1).mean() + cost.fixed),
        "most_tokens_on_a_rank": int(held.max()),
        "tokens_over_mean_ratio": float(held.max(axis=1).sum() / tokens.sum() * ranks),
    }  # fmt: skip


def _saved_range(made: Compared, today: str, way: str, costs: Array, ranks: int) -> tuple[float, float]:
    """Return the interval of the share that the new deal saves, from steps resampled; of few steps it says little."""
    now, then = (made.deals[one].loads(costs, ranks).max(axis=1) for one in (today, way))
    draws = block_draws(len(now), block_rounds(len(now), 1.0))
    return interval(1 - then[draws].sum(axis=1) / now[draws].sum(axis=1))


def _verdict(made: Compared, today: str, way: str, sharded: _sequence_degrees.Sharded | None, wanted: Wanted) -> str:
    saved = 1 - made.times[way] / made.times[today]
    text = (f"Deal by {way.replace('_', ' ')}: the compute of a step gets {saved:.1%} shorter "
            f"({made.ratio(today):.3f} to {made.ratio(way):.3f} of level ranks)." if way != today else
            f"Deal as today: no other way saves {LEAST_GAIN_RATIO:.0%} ({made.ratio(today):.3f} of level "
            "ranks).")  # fmt: skip
    if sharded is None:
        return text
    if made.ratio("floor") > BINDING_RATIO:
        text += f" The longest document binds (floor {made.ratio('floor'):.3f}): shard it."
    most = max(int(one) for one in sharded.degree_of)
    return f"{text} Split over up to {most} devices, the heaviest steps get {max(sharded.saved_share, 0):.1%} shorter."


def _listed(deal: Deal, count: int) -> dict[str, Any]:
    if count > LISTED_MOST:
        return {"step_of": [], "rank_of": []}
    return {"step_of": deal.step_of, "rank_of": deal.rank_of}


def _file(deal: Deal) -> bytes:
    rows = np.stack([np.arange(len(deal.step_of)), deal.step_of, deal.rank_of], axis=1)
    return ("sequence,step,rank\n" + "\n".join(",".join(map(str, row)) for row in rows.tolist()) + "\n").encode()


def _steps(way: str, today: str, sharded: _sequence_degrees.Sharded | None, wanted: Wanted) -> abc.Iterator[str]:
    if way != today:
        place = f"{wanted.out}" if wanted.out else "plan.step_of and plan.rank_of in the JSON, or --out FILE"
        yield f"deal the sequences as listed ({place})"
        yield "weigh gradients by tokens (or by sequences) over the whole step: ranks no longer hold equal counts"
        yield "check memory: a rank may hold more tokens than today (most_tokens_on_a_rank)"
    for one in _sequence_degrees.classes(sharded) if sharded else []:
        if one["degree"] > 1:
            yield (f"split sequences up to {one['up_to_tokens']:,} tokens over {one['degree']} devices "
                   f"({one['least_degree']} to {one['most_degree']}, by what else is in the step)")  # fmt: skip


def _pictures(
    made: Compared, way: str, costs: Array, ranks: int, cost: Cost, sharded: _sequence_degrees.Sharded | None,
    wanted: Wanted,
) -> abc.Sequence[Picture]:  # fmt: skip
    names = [*made.times, "floor"]
    ratios = [made.ratio(one) for one in names]
    today = next(iter(made.deals))
    numbers = [str(one) for one in range(ranks)]
    loads = {name: (numbers, _longest_step(made.deals[one].loads(costs, ranks)))
             for name, one in (("now", today), ("planned", way))}  # fmt: skip
    drawn = [
        Picture("bars", "Ways to deal", f"{way}: {made.ratio(way):.3f}; no deal is below {made.ratio('floor'):.3f}.",
                "way", "heaviest rank over level ranks, ratio", {"ratio": (names, ratios)}),
        Picture("bars", "Cost per rank in the longest step", "The step that lasts longest, of each deal.", "rank",
                f"cost, {cost.unit}", loads),
    ]  # fmt: skip
    return [*drawn, _sequence_degrees.picture(sharded, cost, _devices(wanted))] if sharded else drawn


def _longest_step(loads: Array) -> list[float]:
    """Return the loads of the ranks in the step that lasts longest, [ranks]; `loads` [steps, ranks]."""
    return list(loads[int(np.argmax(loads.max(axis=1)))])
