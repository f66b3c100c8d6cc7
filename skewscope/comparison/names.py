"""One name for what vendors and versions call differently: template arguments, parameters and prefixes go."""

from __future__ import annotations

import re
from collections.abc import Iterable

NCCL = re.compile(r"^(?:void )?(?:nccl|rccl|msccl)(?:Dev)?(?:Generic)?Kernel_?(?:Generic_?)?([A-Za-z]*)", re.I)
RETURNS = re.compile(r"^(?:void|int|float|auto) ")
NUMBERED = re.compile(r"(?:_\d+)+$")  # a compiler's counter: triton_poi_fused_add_12
ANONYMOUS = "(anonymous namespace)::"
PAIRS = {"<": ">", "(": ")", "{": "}"}


def short(name: str) -> str:
    """Return a kernel's or operator's name without what differs between builds.

    >>> short("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, 2>(float*, int)")
    'at::native::CatArrayBatchedCopy'
    >>> short("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)")
    'nccl AllReduce'
    >>> short("triton_poi_fused_add_12"), short("aten::mm"), short("nn.Module: Linear_3")
    ('triton_poi_fused_add', 'aten::mm', 'nn.Module: Linear')
    """
    if found := NCCL.match(name):
        return f"nccl {found[1] or 'generic'}"
    bare = _outside(name.replace(ANONYMOUS, ""))
    bare = RETURNS.sub("", bare.split(" [clone")[0]).strip()
    return NUMBERED.sub("", bare) or name


def _outside(name: str) -> str:
    """Return the part of a name that stands outside of brackets; of an operator such as `operator<` all is kept."""
    if "operator" in name:
        return name
    kept: list[str] = []
    waiting: list[str] = []
    for sign in name:
        if waiting and sign == waiting[-1]:
            waiting.pop()
        elif sign in PAIRS:
            waiting.append(PAIRS[sign])
        elif not waiting:
            kept.append(sign)
    return "".join(kept)


def matched(before: Iterable[str], after: Iterable[str], exact: bool = False) -> dict[str, str]:
    """Return a key for every name of both sides: names that both know stand for themselves, others for their short one.

    A short name is taken only where both sides have names that become it and that the other does not know as they are;
    with `exact` never.

    >>> matched(["mm<1>", "copy"], ["mm<2>", "copy"])
    {'copy': 'copy', 'mm<1>': 'mm', 'mm<2>': 'mm'}
    >>> matched(["gone<1>"], ["new<1>"])
    {'gone<1>': 'gone<1>', 'new<1>': 'new<1>'}
    """
    first, second = set(before), set(after)
    keys = {name: name for name in first & second}
    left = {name: short(name) for name in first - second}
    right = {name: short(name) for name in second - first}
    shared = set() if exact else set(left.values()) & set(right.values())
    for name, bare in sorted({**left, **right}.items()):
        keys[name] = bare if bare in shared else name
    return keys
