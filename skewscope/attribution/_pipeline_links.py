"""Dependencies inside one step of a pipeline: which operation waits for which, and who meets whom.

The facts are those of arXiv 2505.05713 (section 3 and artifact): compute runs in order; each of the four directions of
point-to-point traffic is a stream; a receive is posted after the compute before the one that it feeds; parameters are
gathered before a chunk's first forward; gradients are reduced after the last backward, or, overlapped, after the
chunk's; then layer norms, embeddings, clipping and the optimizer follow one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._pipeline_lattice import Lattice

Array = np.ndarray[Any, Any]
Pairs = list[tuple[Array, Array]]

COMPUTE = ("forward_compute", "backward_compute")
TRAFFIC = ("forward_send", "forward_recv", "backward_send", "backward_recv")
GATHER, REDUCE, SEPARATE = "params_all_gather", "grads_reduce_scatter", "separate_grads_all_reduce"
EMBEDDING, CLIP = "embedding_grads_all_reduce", "optimizer_clip_main_grad"
TAIL = ("gc", "layernorm_grads_all_reduce", EMBEDDING, REDUCE, SEPARATE, CLIP, "optimizer")
SLACK_NS = 1e6  # stamps of one rank disagree by less: the profiler's own jitter (or a tenth of a pass, if that is less)


def slack_ns(lattice: Lattice) -> float:
    """Return by how much the stamps of one rank may contradict each other, in ns."""
    passes = lattice.end[lattice.of_kind(*COMPUTE)] - lattice.start[lattice.of_kind(*COMPUTE)]
    passes = passes[np.isfinite(passes)]
    return min(SLACK_NS, 0.1 * float(np.median(passes))) if len(passes) else SLACK_NS


def in_rank(lattice: Lattice) -> tuple[Array, Array]:
    """Return edges (src [e], dst [e]) between the operations [n] of a lattice within each rank."""
    start, end = lattice.reference
    feeds = matched(lattice, start, end)
    found: Pairs = []
    for stage in np.unique(lattice.stage):
        here = lattice.stage == stage
        compute = _ordered(here & _main(lattice, start, end, here), start, lattice)
        found.append(_chain(compute))
        for kind in TRAFFIC:
            found.append(_chain(_ordered(here & lattice.of_kind(kind), start, lattice)))
        found.append(_first_backward(lattice, compute, here))
        found += _gradients(lattice, start, end, here, compute)
    found += _transfers(lattice, start, feeds)
    return np.concatenate([src for src, _ in found]), np.concatenate([dst for _, dst in found])


def _chain(nodes: Array) -> tuple[Array, Array]:
    return nodes[:-1], nodes[1:]


def _ordered(mask: Array, start: Array, lattice: Lattice) -> Array:
    """Return the nodes of `mask` in the order of their starts."""
    nodes = np.flatnonzero(mask)
    return nodes[np.lexsort((lattice.kind[nodes], lattice.turn[nodes], start[nodes]))]


def _main(lattice: Lattice, start: Array, end: Array, here: Array) -> Array:
    """Return the operations in the main sequence of a stage: compute, and unknown kinds that start before it ends."""
    compute = lattice.of_kind(*COMPUTE)
    strange = ~lattice.of_kind(*COMPUTE, *TRAFFIC, GATHER, *TAIL)
    mine = here & compute
    last = end[mine].max() if mine.any() else np.inf
    return compute | (strange & (start < last))


def matched(lattice: Lattice, start: Array, end: Array) -> Array:
    """Return for each send or receive [n] the compute operation that it follows or feeds, -1 where there is none.

    In order: a stage at the end of the pipeline has no partner for some passes and may or may not record a transfer
    for them. Where the counts fit neither way, by time.
    """
    found = np.full(len(start), -1)
    slack = slack_ns(lattice)
    place, last = places(lattice)
    for phase in ("forward", "backward"):
        for stage in np.unique(lattice.stage):
            here = lattice.stage == stage
            compute = _ordered(here & lattice.of_kind(f"{phase}_compute"), start, lattice)
            for way in ("send", "recv"):
                nodes = _ordered(here & lattice.of_kind(f"{phase}_{way}"), start, lattice)
                if not len(nodes) or not len(compute):
                    continue
                if way == "recv":  # posted after the last pass had begun, or sent before the first had ended: never run
                    nodes = nodes[start[nodes] <= start[compute].max() + slack]
                else:
                    nodes = nodes[end[nodes] >= end[compute].min() - slack]
                alone = 0 if (phase == "forward") == (way == "recv") else last
                partnered = compute[place[compute] != alone]
                fits = [one for one in (compute, partnered, compute[1:]) if len(one) == len(nodes)]
                found[nodes] = fits[0] if fits else _by_time(nodes, compute, start, end, way, slack)
    return found


def places(lattice: Lattice) -> tuple[Array, int]:
    """Return the place of each operation in the model [n] (0 its first chunk), and the last place."""
    stages = int(lattice.stage.max()) + 1
    place = np.maximum(lattice.chunk, 0) * stages + lattice.stage
    return place, int(place[lattice.of_kind(*COMPUTE)].max(initial=0))


def _by_time(nodes: Array, compute: Array, start: Array, end: Array, way: str, slack: float) -> Array:
    """Return the compute that each receive feeds (next to start) or each send follows (last to end), else -1."""
    if way == "recv":
        place = np.searchsorted(start[compute], end[nodes] - slack)
    else:
        place = np.searchsorted(end[compute], start[nodes] + slack, side="right") - 1
    inside = (place >= 0) & (place < len(compute))
    return np.where(inside, compute[np.clip(place, 0, len(compute) - 1)], -1)


def _transfers(lattice: Lattice, start: Array, feeds: Array) -> Pairs:
    """Return the edges between compute and point-to-point traffic."""
    sends = np.flatnonzero(lattice.of_kind("forward_send", "backward_send") & (feeds >= 0))
    receives = np.flatnonzero(lattice.of_kind("forward_recv", "backward_recv") & (feeds >= 0))
    before = np.full(len(start), -1)
    for kind in COMPUTE:
        for stage in np.unique(lattice.stage):
            src, dst = _chain(_ordered((lattice.stage == stage) & lattice.of_kind(kind), start, lattice))
            before[dst] = src
    earlier = before[feeds[receives]]
    posted = earlier >= 0
    return [(feeds[sends], sends), (receives, feeds[receives]), (earlier[posted], receives[posted])]


def _first_backward(lattice: Lattice, compute: Array, here: Array) -> tuple[Array, Array]:
    """Return the edges from the last but one warm-up forward to the first backward send and receive."""
    backward = np.flatnonzero(lattice.of_kind("backward_compute")[compute])
    first = np.flatnonzero(here & lattice.of_kind("backward_send", "backward_recv") & (lattice.turn == 0))
    if not len(backward) or backward[0] < 2:
        return first[:0], first[:0]
    return np.full(len(first), compute[backward[0] - 2]), first


def _gradients(lattice: Lattice, start: Array, end: Array, here: Array, compute: Array) -> Pairs:
    """Return the edges of parameter gathering, gradient reduction and everything after the last compute."""
    gather = _ordered(here & lattice.of_kind(GATHER), start, lattice)
    reduce = _ordered(here & lattice.of_kind(REDUCE), start, lattice)
    found: Pairs = [_chain(gather)]
    found += _by_chunk(lattice, gather, compute, "forward_compute")
    last = compute[-1:]
    strange = ~lattice.of_kind(*COMPUTE, *TRAFFIC, GATHER, *TAIL)
    after = here & (lattice.of_kind(*TAIL) | (strange & (start >= (end[last].max() if len(last) else -np.inf))))
    overlapped = bool((here & lattice.of_kind(SEPARATE)).any()) or bool(
        len(reduce) and len(last) and start[reduce[0]] < end[last[0]] - slack_ns(lattice)
    )
    if overlapped:
        after &= ~lattice.of_kind(REDUCE)
        found += [_chain(reduce), *_by_chunk(lattice, reduce, compute, "backward_compute")]
    tail = _ordered(after, start, lattice)
    found.append(_chain(np.concatenate([last, tail])))
    pause = lattice.of_kind("gc")[tail]
    rest = tail[~pause]
    if overlapped and len(reduce) and len(rest):
        found.append((reduce[-1:], rest[:1]))
    return found


def _by_chunk(lattice: Lattice, calls: Array, compute: Array, kind: str) -> Pairs:
    """Return the edges gather -> first forward, or last backward -> reduce, of each model chunk."""
    passes = compute[lattice.of_kind(kind)[compute]]
    found: Pairs = []
    for chunk in np.unique(lattice.chunk[calls]):
        mine = calls[lattice.chunk[calls] == chunk]
        same = passes[lattice.chunk[passes] == chunk]
        same = same if len(same) else passes
        if not len(same):
            continue
        forward = kind == "forward_compute"
        found.append((mine[-1:], same[:1]) if forward else (same[-1:], mine[:1]))
    return found


def meetings(lattice: Lattice) -> tuple[Array, Array]:
    """Return (meeting [n], shared [meetings]): which operations begin together, -1 alone, and whether replicas join.

    A send meets its receive; an embedding all-reduce the first and last stage; gathers, reductions and separate
    reductions meet across replicas; gradient clipping across stages and replicas.
    """
    start, end = lattice.reference
    meeting = _send_receive(lattice, matched(lattice, start, end))
    count = int(meeting.max()) + 1
    shared = [False] * count
    for kind, across_stages, across_replicas in (
        (EMBEDDING, True, False), (GATHER, False, True), (REDUCE, False, True), (SEPARATE, False, True),
        (CLIP, True, True),
    ):  # fmt: skip
        nodes = np.flatnonzero(lattice.of_kind(kind))
        if not len(nodes):
            continue
        place = np.stack([lattice.turn[nodes], 0 * nodes if across_stages else lattice.stage[nodes]])
        groups, of = np.unique(place, axis=1, return_inverse=True)
        meeting[nodes] = len(shared) + of.ravel()
        shared += [across_replicas] * groups.shape[1]
    return meeting, np.array(shared, dtype=bool)


def _send_receive(lattice: Lattice, feeds: Array) -> Array:
    """Return the number of the meeting of each send and its receive, [n], -1 elsewhere."""
    place, last = places(lattice)
    batch = _batches(lattice, place)
    meeting = np.full(len(place), -1)
    count = 0
    for phase, forward in (("forward", 1), ("backward", -1)):
        send = np.flatnonzero(lattice.of_kind(f"{phase}_send") & (feeds >= 0))
        receive = np.flatnonzero(lattice.of_kind(f"{phase}_recv") & (feeds >= 0))
        to = place[feeds[send]] + forward
        send, to = send[(to >= 0) & (to <= last)], to[(to >= 0) & (to <= last)]
        _, here, there = np.intersect1d(
            batch[feeds[send]] * (last + 1) + to,
            batch[feeds[receive]] * (last + 1) + place[feeds[receive]],
            return_indices=True,
        )
        meeting[send[here]] = meeting[receive[there]] = count + np.arange(len(here))
        count += len(here)
    return meeting


def _batches(lattice: Lattice, place: Array) -> Array:
    """Return the microbatch of each compute operation [n]: as recorded, else counted within chunk and stage."""
    batch = lattice.microbatch.copy()
    for kind in COMPUTE:
        nodes = np.flatnonzero(lattice.of_kind(kind))
        key = place[nodes] * (int(batch.max(initial=0)) + 2) + batch[nodes]
        if len(nodes) and (batch[nodes].min() < 0 or len(np.unique(key)) < len(nodes)):
            order = np.lexsort((lattice.turn[nodes], place[nodes]))
            ranked = place[nodes][order]
            first = np.searchsorted(ranked, ranked)
            batch[nodes[order]] = np.arange(len(nodes)) - first
    return batch
