"""NCCL's names of operations and element types, as its profiler plugins print them."""

from __future__ import annotations

import re
from functools import lru_cache

# Bytes per element (nccl.h, ncclDataType_t).
ELEMENT_BYTES = {
    "int8": 1, "char": 1, "uint8": 1, "int32": 4, "int": 4, "uint32": 4, "int64": 8, "uint64": 8, "float16": 2,
    "half": 2, "float32": 4, "float": 4, "float64": 8, "double": 8, "bfloat16": 2, "float8e4m3": 1, "float8e5m2": 1,
}  # fmt: skip


@lru_cache(maxsize=256)
def operation(name: str) -> str:
    """Return the canonical name of an NCCL function.

    >>> operation("AllReduce"), operation("ReduceScatter"), operation("AlltoAll"), operation("Send")
    ('all_reduce', 'reduce_scatter', 'all_to_all', 'send')
    """
    plain = name.removeprefix("nccl").lower().replace("_", "")
    if plain == "alltoall":
        return "all_to_all"
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.removeprefix("nccl")).lower()


@lru_cache(maxsize=256)
def element_bytes(kind: str) -> int:
    """Return the bytes of one element, 0 where the type is not known.

    >>> element_bytes("ncclBfloat16"), element_bytes("ncclFloat32"), element_bytes("?")
    (2, 4, 0)
    """
    return ELEMENT_BYTES.get(kind.removeprefix("nccl").lower(), 0)
