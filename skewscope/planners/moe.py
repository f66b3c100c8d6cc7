"""Place and replicate experts so that GPUs are loaded evenly, tomorrow as well, and say what limits it.

Takes recorded loads of experts: an array [layers, experts] or [windows, layers, experts] (.npy, .npz, .csv, .parquet,
.json, .pt), or the dump of an engine: SGLang's recorder, vLLM's load records, TensorRT-LLM's statistics, Megatron's
router traces. Prints the gap ladder: balance now, what chance leaves of 1, what replicas and groups allow, what the
plan reaches on these loads, and on later ones that it was not made from. Only the last number is what one gets. Where
it gains nothing, or copying does not pay back, the advice is to do nothing.

Balance is the mean over the busiest GPU, per MoE layer; 1 is even. Tokens are split evenly over replicas. Two replicas
of an expert never share a GPU unless there is no other way. The bound holds for every placement of that many slots.

Give --current what runs now (a plan of ours, an engine's map, an array), else the recorded map is taken, else the
layout that engines start with. --max-moves limits the copies of each layer; a few give most of the gain. Several
workloads that take turns want one robust plan: --workloads. Names of experts and slots are those of the engine, so
--export writes its map. Seconds are of the vendors' peaks, so real steps are longer and pay-back comes later.

Examples:
  skewscope plan moe loads.npz --gpus 32 --slots 288
  skewscope plan moe loads.npz --gpus 32 --slots 288 --nodes 4 --groups 8 --html plan.html
  skewscope plan moe loads.npz --gpus 32 --slots 288 --current running.json --max-moves 16 --json plan.json
  skewscope plan moe chat.npz --workloads code.npz mathematics.npz --gpus 12 --slots 72
  skewscope plan moe expert_distribution_recorder_1700000000.0.pt --gpus 8 --slots 288 --export sglang:map.json
  skewscope plan moe traces/ --gpus 8 --affinity traces/

Worked example: expert 0 has half of all tokens. With second replicas of it and of expert 3 two GPUs are even.

>>> import numpy as np
>>> from skewscope.moe.loads import of_array
>>> made = planned(of_array(np.array([[[8, 2, 2, 4]], [[8, 2, 2, 4]]])), Wanted(gpus=2, nodes=1, slots=6))
>>> made.plan["logcnt"].tolist(), made.proposed["balancedness_mean"], made.lower_bound
([[2, 1, 1, 2]], 1.0, 1.0)
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, ClassVar

from ..errors import UsageError
from ..moe import times
from . import _moe_exports
from ._moe_made import START, Given, Wanted

if TYPE_CHECKING:
    from ..moe.loads import Loads
    from ..plans import Plan
    from ._moe_input import Tables


class Moe:
    """`skewscope plan moe`."""

    name: ClassVar[str] = "moe"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("loads", nargs="+", metavar="LOADS", help="files or folders with loads of experts; the format is found")
        add("--gpus", type=_whole, metavar="G", help="GPUs that share the experts (default: as recorded)")
        add("--nodes", type=_whole, default=1, metavar="N", help="nodes on which they lie (default: 1)")
        add("--slots", type=_whole, metavar="P",
            help="physical experts per layer (default: those of the running placement)")  # fmt: skip
        add("--groups", type=_whole, default=0, metavar="K",
            help="router groups that stay on a node, as EPLB's hierarchical mode (default: none)")  # fmt: skip
        add("--current", metavar="PLACEMENT", help="what runs now: a plan of ours, an engine's map, .npy or .npz")
        add("--max-moves", type=_count, metavar="M", help="copies of each layer at most (default: any number)")
        add(
            "--workloads",
            nargs="+",
            default=[],
            metavar="FILE",
            help="loads of further workloads: one robust plan; a path may hold several",
        )
        add("--affinity", metavar="FILE", help="pairs of experts of neighbouring layers: an array or a routing trace")
        add(
            "--load-limit",
            type=_ratio,
            metavar="RATIO",
            help="with --affinity: let the busiest GPU have so many times the mean for more pairs on one GPU, as 1.1",
        )
        add("--trace", metavar="FILE", help="picks [tokens, layers, k] as .npy or .npz, for what-ifs of other systems")
        add("--all-steps", action="store_true", help="plan for all steps, also those before the workload changed")
        add(
            "--horizon",
            type=_whole,
            metavar="WINDOWS",
            help="windows for which the plan is kept: it is scored on that many later ones, and must pay back in them",
        )
        add("--export", action="append", default=[], metavar="FORMAT:FILE",
            help=f"write the map for an engine: {', '.join(sorted(_moe_exports.exporters()))}")  # fmt: skip
        add(
            "--model", metavar="NAME", help=f"for seconds and memory: {', '.join(times.SHAPES)} (default: by its sizes)"
        )
        add("--gpu", default="h200", metavar="NAME", help=f"{', '.join(times.HARDWARE)} (default: h200)")
        add("--weight-bytes", type=_positive, metavar="B", help="bytes of a weight (default: as the model is served)")
        add("--job", default="", metavar="NAME", help="of several recorded jobs, the one to plan for")
        add("--phase", metavar="PHASE", help="of several recorded phases, the one to plan for: prefill or decode")
        add("--budget-s", type=_positive, default=10.0, metavar="S", help="seconds for exact search (default: 10)")
        add("--seed", type=_count, default=0, metavar="N", help="nothing is random here: any seed gives the same plan")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        from . import _moe_document, _moe_input
        from ._moe_systems import read_trace
        from ._moe_work import worked

        exports = [_moe_exports.export(text) for text in args.export]
        loads, tables = _moe_input.read_loads(args.loads, args.job, args.phase)
        others = _moe_input.read_workloads(args.workloads, loads)
        if not args.all_steps:
            loads, *others = [_moe_input.recent(one) for one in (loads, *others)]
        wanted = _wanted(args, tables, loads)
        current, known = _moe_input.running(args.current, tables, loads, wanted.gpus, wanted.nodes, wanted.slots)
        pairs = _moe_input.read_pairs(args.affinity, loads) if args.affinity else None
        trace = read_trace(args.trace, *loads.counts.shape[1:]) if args.trace else None
        given = Given((loads, *others), current, known, _clock(args, loads), pairs, trace)
        return _moe_document.document(
            worked(given, wanted), {"loads": args.loads, "workloads": args.workloads}, exports
        )


def planned(loads: Loads, wanted: Wanted) -> Plan:
    """Return the plan for loads whose running placement and model are not known."""
    from ..moe.placement import start_layout
    from . import _moe_document
    from ._moe_work import worked

    current = start_layout(loads.counts.shape[2], wanted.slots, wanted.gpus, len(loads.layers), wanted.nodes)
    return _moe_document.document(worked(Given((loads,), current, START), wanted), {})


def _wanted(args: argparse.Namespace, tables: Tables, loads: Loads) -> Wanted:
    """Return what is asked for, with what the recording says where a flag is missing."""
    from ..moe.layout import layout

    recorded = layout(tables, loads).placement
    gpus = args.gpus or (recorded.gpus if recorded else 0)
    if not gpus:
        raise UsageError("how many GPUs share the experts is not recorded: give --gpus")
    experts = loads.counts.shape[2]
    same = recorded is not None and recorded.gpus == gpus
    slots = args.slots or (recorded.slots.shape[1] if recorded and same else -(-experts // gpus) * gpus)
    _check(args, gpus, slots, experts)
    return Wanted(gpus, args.nodes, slots, args.groups, -1 if args.max_moves is None else args.max_moves,
                  args.horizon or 0, args.budget_s, args.load_limit or 0.0)  # fmt: skip


def _check(args: argparse.Namespace, gpus: int, slots: int, experts: int) -> None:
    if slots < experts:
        raise UsageError(f"--slots {slots} cannot hold {experts} experts")
    if slots % gpus:
        near = max(slots // gpus, -(-experts // gpus)) * gpus
        raise UsageError(f"--slots {slots} do not spread evenly over {gpus} GPUs: {near} or {near + gpus} do")
    if slots > experts * gpus:
        raise UsageError(f"--slots {slots}: more than one replica of each of {experts} experts on each of {gpus} GPUs")
    if args.load_limit and (not args.affinity or slots != experts):
        raise UsageError("--load-limit wants --affinity, and as many slots as experts: replicas have no one place")
    if gpus % args.nodes:
        raise UsageError(f"--gpus {gpus} do not spread evenly over --nodes {args.nodes}")
    if args.groups and (args.groups % args.nodes or experts % args.groups):
        raise UsageError(f"--groups {args.groups}: {experts} experts must make that many equal groups, and these must "
                         f"spread evenly over {args.nodes} nodes")  # fmt: skip


def _clock(args: argparse.Namespace, loads: Loads) -> times.Clock | None:
    known = times.shape_of(loads.counts.shape[1], loads.counts.shape[2], loads.top_k)
    model = times.shape(args.model) if args.model else known
    board = times.hardware(args.gpu)
    if model is None:
        return None
    if model.experts != loads.counts.shape[2]:
        raise UsageError(f"--model {model.name} has {model.experts} experts, the loads have {loads.counts.shape[2]}")
    passes = times.TRAINING_PASSES if loads.phase == "train" else 1.0
    return times.Clock(model, board, args.weight_bytes or model.weight_bytes, passes=passes)


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("wants a whole number of 1 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("wants a whole number of 0 or more")
    return value


def _ratio(text: str) -> float:
    value = float(text)
    if not value >= 1:
        raise ValueError("wants a ratio of 1 or more")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("wants a number above 0")
    return value
