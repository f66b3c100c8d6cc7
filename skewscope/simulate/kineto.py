"""Profiler traces of a small job, as `torch.profiler` exports them from GPUs: one JSON file a rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .calls import Call, Recording, Span
from .meetings import OPS

NAMES = {"all_reduce": "AllReduce", "all_gather": "AllGather", "all_to_all": "SendRecv", "recv": "SendRecv"}
WORDS = {"all_reduce": "allreduce", "all_gather": "_allgather_base", "all_to_all": "all_to_allv", "recv": "recv"}
MARKS = {"data": "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "gc": "Python GC",
         "checkpoint": "save_checkpoint"}  # fmt: skip
COMPUTE_STREAM, CALL_STREAM, HOST = 7, 20, 4242


def traces(recording: Recording, base_ns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file name, trace) of every rank; `base_ns` is second 0 of the run, Unix epoch."""
    for rank in range(recording.job.plan.ranks):
        yield f"rank{rank}.pt.trace.json", _trace(recording, rank, base_ns)


def _trace(recording: Recording, rank: int, base_ns: int) -> dict[str, Any]:
    events = list(_steps(recording, rank))
    correlation = 0
    for span in recording.spans:
        if span.kind in MARKS:
            events.append(_event("user_annotation", MARKS[span.kind], *_times(recording, rank, span), HOST))
        else:
            correlation += 1
            events += _kernel(recording, rank, span, f"gemm_bf16_{len(events) % 3}", correlation, COMPUTE_STREAM, {})
    for call in recording.calls:
        correlation += 1
        kind = OPS[call.group]
        name = f"ncclDevKernel_{NAMES[kind]}_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
        events += _kernel(recording, rank, call, name, correlation, CALL_STREAM, _told(recording, call, rank))
    events.sort(key=lambda event: float(event["ts"]))
    layout = recording.run.layout
    groups = [
        {"pg_name": recording.name(group, rank), "pg_desc": "default_pg" if group == "world" else f"mesh_{group}",
         "backend_config": "cuda:nccl", "pg_size": len(layout.members(group, rank)),
         "ranks": layout.members(group, rank)}
        for group in layout.groups
    ]  # fmt: skip
    info = {"backend": "nccl", "rank": rank, "world_size": layout.plan.ranks, "pg_count": len(groups),
            "pg_config": groups, "nccl_version": "2.26.2"}  # fmt: skip
    return {
        "schemaVersion": 1, "deviceProperties": [{"id": recording.slot(rank), "name": "NVIDIA H100 80GB HBM3"}],
        "distributedInfo": info, "host_name": recording.node(rank), "baseTimeNanoseconds": base_ns,
        "displayTimeUnit": "ms", "traceEvents": events, "traceName": f"rank{rank}.pt.trace.json",
    }  # fmt: skip


def _steps(recording: Recording, rank: int) -> Iterator[dict[str, Any]]:
    run, offset = recording.run, float(recording.offset_s[rank])
    for step in recording.steps:
        begin = (float(run.start_s[step]) + offset) * 1e6
        yield _event("user_annotation", f"ProfilerStep#{step}", begin, float(run.seconds[step]) * 1e6 - 1.0, HOST)


def _times(recording: Recording, rank: int, span: Span | Call) -> tuple[float, float]:
    begin, end = float(span.begin[rank]), float(span.end[rank])
    return (begin + float(recording.offset_s[rank])) * 1e6, (end - begin) * 1e6


def _kernel(
    recording: Recording, rank: int, span: Span | Call, name: str, correlation: int, stream: int, told: dict[str, Any]
) -> list[dict[str, Any]]:
    begin, length = _times(recording, rank, span)
    launch = _event("cuda_runtime", "cudaLaunchKernel", begin - 6.0, 4.0, HOST, correlation=correlation)
    device = recording.slot(rank)
    args = {"device": device, "stream": stream, "correlation": correlation, **told}
    return [launch, {**_event("kernel", name, begin, max(length - 0.5, 0.5), stream), "pid": device, "args": args}]


def _told(recording: Recording, call: Call, rank: int) -> dict[str, Any]:
    members = recording.run.layout.members(call.group, rank)
    described = "default_pg" if call.group == "world" else f"mesh_{call.group}"
    return {
        "Collective name": WORDS[OPS[call.group]], "In msg nelems": call.elements, "Out msg nelems": call.elements,
        "Group size": len(members), "dtype": "BFloat16", "Process Group Name": recording.name(call.group, rank),
        "Process Group Description": described, "Process Group Ranks": str(members), "Seq": call.number,
    }  # fmt: skip


def _event(category: str, name: str, begin_us: float, length_us: float, thread: int, **args: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"ph": "X", "cat": category, "name": name, "pid": HOST, "tid": thread, "ts": round(begin_us, 3),
            "dur": round(length_us, 3), "args": args}  # fmt: skip
