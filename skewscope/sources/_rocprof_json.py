"""JSON of rocprofv3 (`--output-format json`): one object per process under "rocprofiler-sdk-tool"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._cut_json import mended
from ._device_trace import ANNOTATION, KERNEL, MEMCPY, Process
from ._kineto_columns import Array, numbers
from ._rocprof_run import Run, add_host, call_kinds, name_collectives, number_threads, small

CALLED = ("hip_api", "hsa_api", "rccl_api", "hip_api_traces", "hsa_api_traces", "rccl_api_traces")
MARKED = ("marker_api", "marker_api_traces")
UNKNOWN: dict[str, Any] = {"grid": "", "block": "", "shared_memory_bytes": -1}
GPU = 2  # rocprofiler-sdk agent.h: ROCPROFILER_AGENT_TYPE_GPU


class Handle(msgspec.Struct, gc=False):
    """A handle of an agent, queue or stream."""

    handle: int = -1


class Correlation(msgspec.Struct, gc=False):
    """Joins a call with what it launched."""

    internal: int = -1


class Size(msgspec.Struct, gc=False):
    """Threads or blocks."""

    x: int = 1
    y: int = 1
    z: int = 1


class DispatchInfo(msgspec.Struct, gc=False):
    """Where and how a kernel ran."""

    agent_id: Handle | int = -1
    queue_id: Handle | int = -1
    kernel_id: int = -1
    group_segment_size: int = -1
    workgroup_size: Size | None = None
    grid_size: Size | None = None


class Record(msgspec.Struct, gc=False):
    """A call, a dispatch or a copy."""

    kind: int | str = -1
    operation: int | str = -1
    thread_id: int = -1
    correlation_id: Correlation | int = -1
    start_timestamp: int = -1
    end_timestamp: int = -1
    dispatch_info: DispatchInfo | None = None
    stream_id: Handle | int = -1
    dst_agent_id: Handle | int = -1
    src_agent_id: Handle | int = -1
    bytes: int = -1


class Symbol(msgspec.Struct, gc=False):
    """Names of one kernel, from the most readable to the mangled one."""

    kernel_id: int = -1
    formatted_kernel_name: str = ""
    demangled_kernel_name: str = ""
    truncated_kernel_name: str = ""
    kernel_name: str = ""


class Kind(msgspec.Struct, gc=False):
    """Names of the operations of one kind of record."""

    kind: str = ""
    operations: list[str] = []


class Message(msgspec.Struct, gc=False):
    """The text of a range, by correlation id."""

    key: int = -1
    value: str = ""


class Strings(msgspec.Struct, gc=False):
    """Names that records refer to."""

    buffer_records: list[Kind] = []
    callback_records: list[Kind] = []
    marker_api: list[Message] = []


class Agent(msgspec.Struct, gc=False):
    """A CPU or GPU."""

    id: Handle | int = -1
    type: int | str = -1
    logical_node_type_id: int = -1


class Node(msgspec.Struct, gc=False):
    """The host."""

    hostname: str = ""


class Metadata(msgspec.Struct, gc=False):
    """Whose the profile is."""

    pid: int = -1
    node: Node | None = None


class Tool(msgspec.Struct, gc=False):
    """The profile of one process."""

    metadata: Metadata | None = None
    agents: list[Agent] = []
    strings: Strings | None = None
    kernel_symbols: list[Symbol] = []
    buffer_records: dict[str, msgspec.Raw] = {}


class Profile(msgspec.Struct, gc=False):
    """The whole file."""

    tools: list[Tool] | Tool = msgspec.field(name="rocprofiler-sdk-tool")


DECODE = msgspec.json.Decoder(Profile).decode
RECORDS = msgspec.json.Decoder(list[Record]).decode


def run(content: bytes, damage: str) -> Run:
    """Return the processes in the text of a file; raises Unreadable where it is no profile."""
    try:
        profile = DECODE(content)
    except (msgspec.DecodeError, RecursionError) as error:
        damage = damage or f"the JSON is cut or damaged ({str(error)[:100]})"
        try:
            profile = DECODE(mended(content))
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable(damage, COPY_AGAIN) from None
    tools = profile.tools if isinstance(profile.tools, list) else [profile.tools]
    found = Run([], damage=damage)
    hosts = set()
    for tool in tools:
        process = Process()
        found.events += _fill(process, tool)
        found.processes.append(process)
        hosts.add(tool.metadata.node.hostname if tool.metadata and tool.metadata.node else "")
    found.node = hosts.pop() if len(hosts) == 1 else ""
    return found


def _fill(process: Process, tool: Tool) -> int:
    """Add the records of one process and return how many there were."""
    strings = tool.strings or Strings()
    seen = 0
    for name, raw in tool.buffer_records.items():
        if name not in (*CALLED, *MARKED, "kernel_dispatch", "memory_copy", "memory_copies"):
            continue
        try:
            records = RECORDS(raw)
        except (msgspec.DecodeError, RecursionError):
            continue  # a form of this table that is not known; the others stand
        records = [one for one in records if one.start_timestamp >= 0 and one.end_timestamp >= 0]
        seen += len(records)
        if name == "kernel_dispatch":
            _add_kernels(process, records, tool)
        elif name.startswith("memory_cop"):
            _add_copies(process, records, tool)
        elif records:
            _add_calls(process, records, strings, marked=name in MARKED)
    process.extra = {name: list(values) + [UNKNOWN[name]] * (len(process.work) - len(values))
                     for name, values in process.extra.items()}  # fmt: skip
    if "shared_memory_bytes" in process.extra:
        process.extra["shared_memory_bytes"] = numbers(process.extra["shared_memory_bytes"])
    number_threads(process)
    name_collectives(process, process.names)
    return seen


def _handles(values: Iterable[Handle | int]) -> Array:
    return numbers([one.handle if isinstance(one, Handle) else one for one in values])


def _times(records: Sequence[Record]) -> dict[str, Array]:
    start = numbers([one.start_timestamp for one in records])
    end = np.maximum(numbers([one.end_timestamp for one in records]), start)
    ids = (one.correlation_id for one in records)
    known = numbers([one.internal if isinstance(one, Correlation) else one for one in ids])
    return {"start": start, "end": end, "correlation": known}


def _devices(handles: Array, tool: Tool) -> Array:
    """Return the number of each GPU among the GPUs of the host, by the handle of its agent."""
    gpus = [one for one in tool.agents if one.type in (GPU, "GPU")]
    keys = _handles(one.id for one in gpus).tolist()
    told = {key: one.logical_node_type_id if one.logical_node_type_id >= 0 else turn
            for turn, (key, one) in enumerate(zip(keys, gpus, strict=True))}  # fmt: skip
    values, place = np.unique(handles, return_inverse=True)
    known = [told.get(value, turn if not told else -1) for turn, value in enumerate(values.tolist())]
    return np.clip(numbers(known or [-1]), -1, 2**15 - 1)[place] if len(handles) else handles


def _add_kernels(process: Process, records: list[Record], tool: Tool) -> None:
    if not records:
        return
    infos = [one.dispatch_info or DispatchInfo() for one in records]
    names = {one.kernel_id: one.formatted_kernel_name or one.demangled_kernel_name or one.truncated_kernel_name
             or one.kernel_name for one in tool.kernel_symbols}  # fmt: skip
    ids, place = np.unique(numbers([one.kernel_id for one in infos]), return_inverse=True)
    codes = process.names.codes(names.get(one) or f"kernel {one}" for one in ids.tolist())
    stream = _handles(one.stream_id for one in records)
    queue = _handles(one.queue_id for one in infos)
    before = len(process.work)
    process.work.add(
        **_times(records), name=codes[place], kind=np.full(len(records), KERNEL),
        stream=small(stream if (stream > 0).any() else queue),
        device=_devices(_handles(one.agent_id for one in infos), tool), bytes=np.full(len(records), -1),
    )  # fmt: skip
    shape = [(one.grid_size, one.workgroup_size, one.group_segment_size) for one in infos]
    process.extra = _shape(before, shape)


def _shape(before: int, shape: Sequence[tuple[Size | None, Size | None, int]]) -> dict[str, Any]:
    """Return grid (in blocks), block and shared memory; `before` rows come first and are unknown."""
    block = [f"[{one.x}, {one.y}, {one.z}]" if one else "" for _, one, _ in shape]
    grid = [_blocks(whole, one) if whole and one else "" for whole, one, _ in shape]
    return {"grid": ["" for _ in range(before)] + grid, "block": ["" for _ in range(before)] + block,
            "shared_memory_bytes": [-1] * before + [size for _, _, size in shape]}  # fmt: skip


def _blocks(threads: Size, block: Size) -> str:
    """Return the blocks of a grid, which AMD counts in threads."""
    pairs = ((threads.x, block.x), (threads.y, block.y), (threads.z, block.z))
    return str([-(-whole // max(one, 1)) for whole, one in pairs])


def _add_copies(process: Process, records: list[Record], tool: Tool) -> None:
    if not records:
        return
    source, target = (_devices(_handles(part), tool) for part in (
        (one.src_agent_id for one in records), (one.dst_agent_id for one in records)))  # fmt: skip
    ways = 2 * (source >= 0) + (target >= 0)
    codes = process.names.codes(("HtoH", "HtoD", "DtoH", "DtoD"))
    process.work.add(
        **_times(records), name=codes[ways], kind=np.full(len(records), MEMCPY),
        stream=small(np.maximum(_handles(one.stream_id for one in records), 0)),
        device=np.where(target >= 0, target, source), bytes=numbers([one.bytes for one in records]),
    )  # fmt: skip


def _add_calls(process: Process, records: list[Record], strings: Strings, *, marked: bool) -> None:
    messages = {one.key: one.value for one in strings.marker_api}
    times = _times(records)
    if marked:
        names = [messages.get(one, "") for one in times["correlation"].tolist()]
    else:
        names = [_operation(one, strings) for one in records]
    values = {name: code for code, name in enumerate(dict.fromkeys(names))}
    codes = np.array([values[name] for name in names], dtype=np.int64)
    kinds = np.full(len(values), ANNOTATION) if marked else call_kinds(list(values))
    if marked:
        times["correlation"] = np.full(len(names), -1)
    add_host(process, list(values), codes, kinds, thread=numbers([one.thread_id for one in records]), **times)


def _operation(record: Record, strings: Strings) -> str:
    if isinstance(record.operation, str):
        return record.operation
    kinds = strings.buffer_records
    if isinstance(record.kind, int) and 0 <= record.kind < len(kinds):
        known = kinds[record.kind].operations
        return known[record.operation] if 0 <= record.operation < len(known) else kinds[record.kind].kind
    return "call"
