"""Small jobs with known truth: data-parallel steps of a few buckets that meet at the end, and a pipeline."""

import numpy as np
import pandas as pd

from skewscope.frames import all_tables, frame

EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def data_parallel(own_ms, transfer_ms=2.0, input_ms=None, *, tokens=None, group="0", source="kineto", with_ops=True):
    """Return tables of a job; `own_ms` [steps, buckets, ranks], `input_ms` [steps, ranks] is spent before bucket 0.

    Buckets are sent as soon as they are ready; every rank waits for all of them at the end of the step.
    """
    own_ms = np.asarray(own_ms, dtype=float)
    steps, buckets, ranks = own_ms.shape
    input_ms = np.zeros((steps, ranks)) if input_ms is None else np.asarray(input_ms, dtype=float)
    calls, ops, marks = [], [], []
    clock = np.zeros(ranks)
    for step in range(steps):
        begin = clock.copy()
        busy = begin + input_ms[step]
        for rank in range(ranks):
            if input_ms[step, rank]:
                ops.append((rank, step, "data", begin[rank], busy[rank]))
        done = 0.0
        for bucket in range(buckets):
            ready = busy + own_ms[step, bucket]
            ops.extend((rank, step, "cpu", busy[rank], ready[rank]) for rank in range(ranks))
            done = max(ready.max(), done) + transfer_ms
            calls.extend((rank, step, bucket, ready[rank], done) for rank in range(ranks))
            busy = ready
        clock = np.full(ranks, done)
        marks.extend((rank, step, begin[rank], done) for rank in range(ranks))
    return _tables(calls, ops if with_ops else [], marks, tokens, group, source, ranks)


def _tables(calls, ops, marks, tokens, group, source, ranks):
    at = lambda values: EPOCH_NS + np.rint(np.asarray(values) * MS).astype(np.int64)  # noqa: E731
    rank, step, bucket, ready, end = (np.asarray(part) for part in zip(*calls, strict=True))
    collectives = frame("collectives", {
        "job": "job", "step": step, "rank": rank, "group": group, "group_size": ranks, "seq": step * 100 + bucket,
        "op": "all_reduce", "op_class": [f"all_reduce[{one}]" for one in bucket], "message_bytes": 4000,
        "ready_ns": at(ready), "start_ns": at(ready), "end_ns": at(end), "blocking": False, "state": "completed",
        "source": source,
    })  # fmt: skip
    tables = {"collectives": collectives}
    if ops:
        lane, at_step, kind, start, stop = (list(part) for part in zip(*ops, strict=True))
        tables["ops"] = frame("ops", {"job": "job", "rank": lane, "step": at_step, "op": kind, "stream": 0,
                                      "start_ns": at(start), "end_ns": at(stop), "source": source})  # fmt: skip
    lane, number, start, stop = (np.asarray(part) for part in zip(*marks, strict=True))
    worked = -1 if tokens is None else np.asarray(tokens)[number, lane]
    tables["steps"] = frame("steps", {
        "job": "job", "step": number, "rank": lane, "phase": "step", "start_ns": at(start), "end_ns": at(stop),
        "work_tokens": worked, "source": source,
    })  # fmt: skip
    tables["ranks"] = frame("ranks", {"job": "job", "rank": range(ranks), "node": [f"n{one}" for one in range(ranks)]})
    return all_tables(tables)


def even(steps=12, buckets=3, ranks=6, ms=10.0, seed=0):
    """Return own work [steps, buckets, ranks] in ms: equal but for 2 % noise."""
    return np.random.default_rng(seed).normal(ms, 0.02 * ms, (steps, buckets, ranks))


def pipeline(stage_ms, microbatches=6, steps=5, transfer_ms=0.2):
    """Return tables of a forward-then-backward (GPipe) pipeline; backward takes twice `stage_ms` per stage."""
    stages = len(stage_ms)
    calls, ops, marks = [], [], []
    clock = np.zeros(stages)
    for step in range(steps):
        begin = clock.copy()
        order = list(range(stages))
        for way, factor in ((order, 1.0), (order[::-1], 2.0)):
            arrived = {}
            for microbatch in range(microbatches):
                for place, stage in enumerate(way):
                    if place:
                        clock[stage] = _receive(calls, step, way[place - 1], stage, clock[stage],
                                                arrived[microbatch], transfer_ms)  # fmt: skip
                    stop = clock[stage] + factor * stage_ms[stage]
                    ops.append((stage, step, "cpu", clock[stage], stop))
                    clock[stage] = stop
                    if place + 1 < stages:
                        arrived[microbatch] = stop
                        calls.append((step, stage, way[place + 1], "send", stop, stop + 0.01))
        marks.extend((stage, step, begin[stage], clock[stage]) for stage in range(stages))
    return _point_to_point(calls, ops, marks)


def _receive(calls, step, src, dst, ready, sent, transfer_ms):
    end = max(ready, sent) + transfer_ms
    calls.append((step, dst, src, "recv", ready, end))
    return end


def _point_to_point(calls, ops, marks):
    at = lambda values: EPOCH_NS + np.rint(np.asarray(values) * MS).astype(np.int64)  # noqa: E731
    count, rows = {}, []
    for step, rank, peer, op, ready, end in calls:
        group = f"p2p:{rank}-{peer}" if op == "send" else f"p2p:{peer}-{rank}"
        seq = count[rank, group] = count.get((rank, group), -1) + 1
        rows.append((step, rank, peer, op, group, seq, ready, end))
    step, rank, peer, op, group, seq, ready, end = (list(part) for part in zip(*rows, strict=True))
    lane, at_step, kind, start, stop = (list(part) for part in zip(*ops, strict=True))
    who, number, first, last = (list(part) for part in zip(*marks, strict=True))
    return all_tables({
        "collectives": frame("collectives", {
            "job": "job", "step": step, "rank": rank, "group": group, "group_size": 2, "seq": seq, "op": op,
            "op_class": "p2p", "peer": peer, "message_bytes": 1000, "ready_ns": at(ready), "start_ns": at(ready),
            "end_ns": at(end), "blocking": np.asarray(op) == "recv", "source": "kineto"}),
        "ops": frame("ops", {"job": "job", "rank": lane, "step": at_step, "op": kind, "stream": 0,
                             "start_ns": at(start), "end_ns": at(stop)}),
        "steps": frame("steps", {"job": "job", "step": number, "rank": who, "phase": "step", "start_ns": at(first),
                                 "end_ns": at(last), "source": "kineto"}),
    })  # fmt: skip


def meeting(own_ms, groups, transfer_ms=0.5):
    """Return tables of a job of layers: `own_ms` [steps, layers, ranks], then a call in the rank's group of `groups`.

    `groups` is a list, one entry per layer: the communicators (tuples of ranks) that meet there, every rank in one. All
    calls block: a rank goes on when its group is done. This is how tensor and expert parallel layers run.
    """
    own_ms = np.asarray(own_ms, dtype=float)
    calls, ops, marks = [], [], []
    clock = np.zeros(own_ms.shape[2])
    for step, layers in enumerate(own_ms):
        begin = clock.copy()
        for layer, own in enumerate(layers):
            ready = clock + own
            ops.extend((rank, step, "cpu", clock[rank], ready[rank]) for rank in range(len(clock)))
            for members in groups[layer]:
                done = max(ready[list(members)]) + transfer_ms
                calls.extend((rank, step, layer, members, ready[rank], done) for rank in members)
                clock[list(members)] = done
        marks.extend((rank, step, begin[rank], clock[rank]) for rank in range(len(clock)))
    rank, step, layer, members, ready, done = (list(part) for part in zip(*calls, strict=True))
    tables = _tables(
        list(zip(rank, step, layer, ready, done, strict=True)), ops, marks, None, "0", "kineto", len(clock)
    )
    names = ["-".join(map(str, one)) for one in members]
    tables["collectives"] = tables["collectives"].assign(group=pd.Categorical(names))
    return tables
