"""What the names in a trace mean: communication kernels, host phases, element types."""

from __future__ import annotations

import re
from functools import lru_cache

DIGITS = 18  # longer numbers cannot be meant, and do not fit 64 bits
COMMUNICATION = re.compile(
    r"nccl(?:Dev)?Kernel|ncclSym|^nccl|rccl|msccl|hccl|nvshmem|deep_ep::|dpsk::ep::|oneccl|ishmem"
    r"|(?:internode|intranode|internode_ll)::(?:\w*dispatch|\w*combine|\w*notify)"
    r"|cross_device_reduce|one_?shot_?all_?reduce|two_?shot_?all_?reduce|multimem_\w*(?:reduce|gather)"
    r"|allreduce_fusion|lamport\w*all_?reduce|userbuffers_|quick_?reduce|custom_all_?reduce",
    re.IGNORECASE,
)
EXPERT = re.compile(r"(?:deep_ep|dpsk::ep|internode|intranode|internode_ll)::")
OPERATIONS = (
    ("reducescatter", "reduce_scatter"), ("allgather", "all_gather"), ("allreduce", "all_reduce"),
    ("alltoall", "all_to_all"), ("broadcast", "broadcast"), ("bcast", "broadcast"), ("sendrecv", "send_recv"),
    ("barrier", "barrier"), ("crossdevicereduce", "all_reduce"), ("quickreduce", "all_reduce"), ("send", "send"),
    ("recv", "recv"), ("gather", "gather"), ("scatter", "scatter"), ("reduce", "reduce"),
)  # fmt: skip
ALGORITHM = re.compile(r"_(RING|TREE|COLLNET_DIRECT|COLLNET_CHAIN|NVLS_TREE|NVLS|PAT)(?=_|\(|$)")
PROTOCOL = re.compile(r"_(LL128|LL|SIMPLE)(?=_|\(|$)")

ELEMENTS = {
    "float": ("float32", 4), "float32": ("float32", 4), "double": ("float64", 8), "half": ("float16", 2),
    "bfloat16": ("bfloat16", 2), "byte": ("uint8", 1), "char": ("int8", 1), "short": ("int16", 2), "int": ("int32", 4),
    "long": ("int64", 8), "bool": ("bool", 1), "complexfloat": ("complex64", 8), "complexdouble": ("complex128", 16),
    "float8_e4m3fn": ("float8", 1), "float8_e5m2": ("float8", 1), "float8_e4m3fnuz": ("float8", 1),
    "float8_e5m2fnuz": ("float8", 1), "uint16": ("uint16", 2), "uint32": ("uint32", 4), "uint64": ("uint64", 8),
}  # fmt: skip

DATA = re.compile(
    r"enumerate\(dataloader\)|^data$|data[ _]?load|dataloader|data[ _]?fetch|load_batch|get_batch|wait_for_batch"
    r"|next_batch|batch[-_ ]generator"
)
PHASES = (
    ("data", DATA),
    ("gc", re.compile(r"^(?:python )?gc$|^gc[.:]|garbage collection")),
    ("checkpoint", re.compile(r"^(?:save_?|async_?)?checkpoint|^save(?:$|[_ ]|\.)|save_checkpoint|checkpoint_save")),
    ("eval", re.compile(r"^eval|^validat")),
    ("other", re.compile(r"^(?:forward|fwd)[-_ ]?(?:and[-_ ]?)?(?:backward|bwd)|^fwdbwd|^train_step$|^training_step$")),
    ("optimizer", re.compile(r"^optimizer(?:$|[-_ .]step)|^optim(?:$|_step)|^opt_step")),
    ("forward", re.compile(r"^(?:forward|fwd)(?:$|[-_ ])|^[\w.]*parallel\w*\.forward$|^model_forward")),
    ("backward", re.compile(r"^(?:backward|bwd)(?:$|[-_ ])|^loss\.backward|^model_backward")),
)  # fmt: skip
SPANS = ("data", "gc", "checkpoint", "eval")  # host phases that are also work of their own in `ops`
WAITING = re.compile(
    r"^(?:c10d::|_c10d_functional|c10d_functional|gloo:|nccl:|record_param_comms)|\bwait\b|wait_tensor"
)


def is_communication(name: str) -> bool:
    """Return whether a kernel of this name moves data between ranks.

    >>> is_communication("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)")
    True
    >>> is_communication("void at::native::reduce_kernel<512, 1>()")
    False
    """
    return COMMUNICATION.search(name) is not None


def operation(name: str) -> str:
    """Return the collective that a kernel, a c10d operator or a `Collective name` stands for.

    >>> operation("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t"), operation("_allgather_base"), operation("allreduce_")
    ('send_recv', 'all_gather', 'all_reduce')
    >>> operation("void dpsk::ep::internode::combine<false, 8>(int4*)")
    'combine'
    """
    if EXPERT.search(name):
        last = re.split(r"[<(]", name)[0].rsplit("::", 1)[-1]
        return last if last in ("dispatch", "combine") else "other"  # notify and layout kernels
    bare = (
        re.split(r"[<(]", name.removeprefix("void ").replace("(anonymous namespace)::", ""))[0]
        .rsplit("::", 1)[-1]
        .lower()
        .replace("_", "")
    )
    return next((op for part, op in OPERATIONS if part in bare), "other")


def algorithm(name: str) -> tuple[str, str]:
    """Return algorithm and protocol that the name of an NCCL kernel tells, "" where it does not.

    >>> algorithm("ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)")
    ('ring', 'll')
    """
    if "nccl" not in name:
        return "", ""
    way, wire = ALGORITHM.search(name), PROTOCOL.search(name)
    return way[1].lower() if way else "", wire[1].lower() if wire else ""


def element(dtype: str) -> tuple[str, int]:
    """Return name and size in bytes of an element type as profilers write it, ("", 0) for an unknown one.

    >>> element("BFloat16"), element("c10::BFloat16"), element("long int")
    (('bfloat16', 2), ('bfloat16', 2), ('int64', 8))
    """
    plain = dtype.removeprefix("c10::").lower().removesuffix(" int").replace("unsigned char", "byte")
    return ELEMENTS.get(plain, ("", 0))


@lru_cache(8192)
def phase(name: str) -> str:
    """Return the phase of a step that an annotation marks, "" for none.

    >>> phase("## forward ##"), phase("Optimizer.step#AdamW.step"), phase("enumerate(DataLoader)#X.__next__")
    ('forward', 'optimizer', 'data')
    >>> phase("forward_backward"), phase("nccl:all_reduce")
    ('other', '')
    """
    plain = name.strip("# []").lower()
    return next((kind for kind, pattern in PHASES if pattern.search(plain)), "")


def step_number(name: str) -> int:
    """Return N of `ProfilerStep#N`, -1 for other names.

    >>> step_number("ProfilerStep#12"), step_number("step 12")
    (12, -1)
    """
    number = name.removeprefix("ProfilerStep#")
    return int(number) if number != name and number.isdecimal() and len(number) <= DIGITS else -1
