"""NCCL's names of operations."""

from __future__ import annotations

from skewscope.spool import OPS


def operation(name: str) -> str:
    """Return our name of an NCCL function, "other" for one that we have none for.

    >>> operation("AllReduce"), operation("ReduceScatter"), operation("AlltoAll"), operation("PutSignal")
    ('all_reduce', 'reduce_scatter', 'all_to_all', 'other')
    """
    plain = name.removeprefix("nccl").replace("_", "").lower()
    return next((op for op in OPS if op.replace("_", "") == plain), "other")
