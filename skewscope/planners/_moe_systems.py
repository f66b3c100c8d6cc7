"""What other systems would make of the same loads: cut experts, gathered replicas, folded mappings, moved tokens.

Each is a what-if of `skewscope.moe.whatif_*` with its source and what it assumes; none is part of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Unreadable, UsageError
from ..moe import (
    planner,
    whatif_compress,
    whatif_folding,
    whatif_shadow,
    whatif_sharded,
    whatif_shuffle,
    whatif_sparse,
    whatif_zero_experts,
)
from ..moe.placement import Placement
from ..moe.times import Clock
from ._moe_made import Made, System

MOST_STEPS = 8
MOST_TOKENS = 20_000
ZERO_SHARE = 0.2  # of picks that compute nothing, as in LongCat-Flash
CENTROID_SHARE = 0.2  # of tokens that travel, as in LSH-MoE
GIB = 2.0**30


def systems(made: Made) -> list[System]:
    """Return what can be worked out: with a known model from the loads, with a trace from that."""
    clock, found = made.given.clock, []
    if clock is not None and made.given.top_k and clock.model.experts == made.proposed.experts:
        found += [*_cut(made, clock), *_folded(made, clock)]
        found += [*_trained(made, clock)] if made.given.loads.phase == "train" else []
    return found + (_traced(made, made.given.trace) if made.given.trace is not None else [])


def _steps(made: Made) -> NDArray[np.int64]:
    return made.given.loads.counts[-MOST_STEPS:]


def _cut(made: Made, clock: Clock) -> Iterator[System]:
    cut = whatif_sharded.sharded(
        _steps(made), made.proposed, clock, made.given.top_k, across_nodes=made.wanted.nodes > 1
    )
    now, transfer = float(cut.now_s.sum()), float(cut.now_transfer_s.sum())
    then = float((cut.sharded_s + cut.sharded_transfer_s).sum())
    yield System("experts cut over all GPUs", "ms per step", (now + transfer) * 1e3, then * 1e3,
                 f"every GPU multiplies a slice of every expert; tiles are used to {cut.tile_use:.0%}",
                 whatif_sharded.SOURCE, whatif_sharded.ASSUMES)  # fmt: skip
    tokens = float(_steps(made).sum(-1).mean()) / made.given.top_k / made.wanted.gpus
    shares = (now + transfer, transfer / (now + transfer))
    less = whatif_compress.compressed(*shares, CENTROID_SHARE, tokens, clock.model, clock.board)
    yield System("compressed all-to-all", "ms per step", less.now_s * 1e3, less.compressed_s * 1e3,
                 f"{CENTROID_SHARE:.0%} of the tokens travel as centroids; it pays below {less.break_even_share:.0%}",
                 whatif_compress.SOURCE, whatif_compress.ASSUMES)  # fmt: skip


def _folded(made: Made, clock: Clock) -> Iterator[System]:
    per_node, training = made.wanted.gpus // made.wanted.nodes, made.given.loads.phase == "train"
    load = _steps(made).mean(0)
    ways = whatif_folding.mappings(load, clock.model, made.wanted.gpus, per_node, training=training,
                                   top_k=made.given.top_k)  # fmt: skip
    now = next((one for one in ways if (one.expert_tensor, one.expert) == (1, made.wanted.gpus)), None)
    if now is None:
        return
    fits = [one for one in ways if one.bytes_per_gpu <= now.bytes_per_gpu * (1 + 1e-9)]
    best = min(fits, key=lambda one: (one.across_bytes, one.inside_bytes))
    sent, less = ((one.across_bytes + one.inside_bytes) / 2**20 for one in (now, best))
    yield System("experts folded over other ranks", "MiB sent per GPU and layer", sent, less,
                 f"expert-tensor {best.expert_tensor} x expert {best.expert} x expert-data {best.expert_data} needs "
                 f"{best.bytes_per_gpu / GIB:.1f} GiB per GPU as well and balances to {best.balance:.3f} in blocks",
                 whatif_folding.SOURCE, whatif_folding.ASSUMES)  # fmt: skip


def _trained(made: Made, clock: Clock) -> Iterator[System]:
    steps, plan = _steps(made), made.proposed
    once = Clock(clock.model, clock.board, clock.weight_bytes, clock.sustained_ratio)
    shadow = whatif_shadow.shadows(steps.mean(0), plan, once)
    yield System("hottest experts copied to all for a layer", "ms per step", float(shadow.now_s.sum()) * 1e3,
                 float(shadow.shadowed_s.sum()) * 1e3, f"{shadow.count.mean():.1f} experts of a layer on average",
                 whatif_shadow.SOURCE, whatif_shadow.ASSUMES)  # fmt: skip
    if len(steps) > 1:

        def fresh(loads: NDArray[Any], slots: int, gpus: int) -> Placement:
            return planner.plan(loads, slots=slots, gpus=gpus).placement

        sparse = whatif_sparse.materialised(steps, plan, 1, clock, fresh)
        text = (
            f"{sparse.moved_bytes_per_gpu / GIB:.2f} GiB moved per GPU and step take {sparse.moved_s * 1e3:.3g} ms and "
            f"win {sparse.gained_s * 1e3:.3g} ms"
        )
        yield System("replicas gathered for each step", "balance", sparse.now, sparse.followed, text,
                     whatif_sparse.SOURCE, whatif_sparse.ASSUMES)  # fmt: skip


def _traced(made: Made, trace: NDArray[np.int64]) -> list[System]:
    found, gpus, experts = [], made.wanted.gpus, made.proposed.experts
    if experts % gpus == 0:
        moved = whatif_shuffle.shuffled(trace[:MOST_TOKENS], experts, gpus)
        text = (
            f"grouped alone {moved.grouped:.2f}, at {moved.load:.2f} times the mean load; with a perfect guess "
            f"{moved.known:.2f}"
        )
        found.append(System("experts grouped, tokens shuffled", "copies per token and layer", moved.scattered,
                            moved.guessed, text, whatif_shuffle.SOURCE, whatif_shuffle.ASSUMES))  # fmt: skip
    if trace.shape[2] > 1:
        less = whatif_zero_experts.relieved(trace[:MOST_TOKENS], made.proposed, ZERO_SHARE)
        now, then = float(less.balance_now.mean()), float(less.balance.mean())
        text = f"with {ZERO_SHARE:.0%} of the picks the busiest GPU has {less.hottest_ratio.mean():.2f} of its load"
        found.append(System("experts that compute nothing", "balance", now, then, text, whatif_zero_experts.SOURCE,
                            whatif_zero_experts.ASSUMES))  # fmt: skip
    return found


def read_trace(path: str, layers: int, experts: int) -> NDArray[np.int64]:
    """Return the picks [tokens, L, k] of an .npy, or of `trace` in an .npz; -1 is not taken.

    Raises UsageError where they do not fit the loads, Unreadable where there are none.
    """
    try:
        found = np.load(Path(path), allow_pickle=False)
        picks = found if isinstance(found, np.ndarray) else found["trace"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise Unreadable(f"--trace {path}: {error}"[:300], "give picks [tokens, layers, k] as .npy") from None
    picks = picks[:, :, None] if picks.ndim == 2 else picks
    if picks.ndim != 3 or picks.shape[1] != layers or picks.dtype.kind not in "iu" or not picks.size:
        raise UsageError(f"--trace {path}: whole numbers [tokens, {layers}, k] are wanted, not {picks.dtype} "
                         f"{list(picks.shape)}")  # fmt: skip
    whole = picks[(picks >= 0).all((1, 2))].astype(np.int64)
    if not len(whole) or whole.max() >= experts:
        raise UsageError(f"--trace {path}: picks are of experts 0 to {experts - 1}")
    return whole
