"""Reads tensor shapes out of the arguments of c10d, gloo and embedding operators."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from ._kineto_columns import number
from ._kineto_events import Args
from ._kineto_mend import BROKEN

INPUT_AT = {  # which argument of the operator holds this rank's own input; 0 where not listed
    "allgather_": 1, "_allgather_base_": 1, "reduce_scatter_": 1, "_reduce_scatter_base_": 1, "alltoall_": 1,
    "alltoall_base_": 1, "gather_": 1, "scatter_": 1, "allgather_coalesced_": 1, "allgather_into_tensor_coalesced_": 1,
    "reduce_scatter_tensor_coalesced_": 1,
}  # fmt: skip
PEER_AT, TAG_AT = 2, 3
NO_WORDS: list[Any] = []


class Shape(NamedTuple):
    """What a call moves: `dims` as text, elements, element type, and for point to point peer and tag."""

    dims: str
    elements: int
    dtype: str
    peer: int
    tag: int
    waits: bool


def call_shape(name: str, args: Args, *, flat: bool) -> Shape:
    """Return the shape of a `c10d::` call, or with `flat` of a `gloo:` event, whose list holds tensors only."""
    dims, types, inputs = (_words(raw) for raw in (args.dims, args.types, args.inputs))
    call = name.rsplit(":", 1)[-1]
    at = 0 if flat else INPUT_AT.get(call, 0)
    tensors = dims if flat else _tensors(dims[at] if at < len(dims) else [])
    dtype = str(types[at]) if at < len(types) else ""
    point = call.rstrip("_") in ("send", "recv")
    peer = number(inputs[PEER_AT]) if point and len(inputs) > PEER_AT else -1
    tag = number(inputs[TAG_AT]) if point and len(inputs) > TAG_AT else 0
    waits = point or (len(inputs) > 1 and inputs[-2] == "False")  # asyncOp is the last argument but the timeout
    return Shape(_text(tensors), sum(_elements(tensor) for tensor in tensors), dtype, peer, tag, waits)


def first_tokens(args: Args) -> tuple[int, str] | None:
    """Return (number of indices, weight's shape as text) of `aten::embedding`, None where shapes are not recorded."""
    dims, types = _words(args.dims), _words(args.types)
    for place, kind in enumerate(types[: len(dims)]):
        if kind in ("long int", "int", "int64", "long") and isinstance(dims[place], list) and dims[place]:
            return _elements(dims[place]), _text(dims[:1])
    return None


def _words(raw: Raw) -> list[Any]:
    if not bytes(raw):
        return NO_WORDS
    try:
        found = msgspec.json.decode(raw)
    except BROKEN:
        return NO_WORDS
    return found if isinstance(found, list) else NO_WORDS


def _tensors(argument: object) -> list[Any]:
    """Return the shapes in one argument: a list of tensors, or one tensor."""
    if not isinstance(argument, list):
        return NO_WORDS
    return argument if argument and isinstance(argument[0], list) else [argument]


def _elements(shape: object) -> int:
    if not isinstance(shape, list):
        return 0
    return prod(size for size in shape if isinstance(size, int))


def _text(tensors: list[Any]) -> str:
    shapes = [",".join(str(size) for size in shape) if isinstance(shape, list) else "" for shape in tensors]
    return ";".join(shapes)
