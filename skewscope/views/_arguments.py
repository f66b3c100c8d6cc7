"""The arguments of an operator as recorded: sizes, element types and scalars, from text to numbers."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

Shape = tuple[int, ...]
WHOLE = re.compile(r"-?\d{1,18}")

ELEMENT_BYTES = {
    "double": 8, "long int": 8, "long": 8, "c10::complex<float>": 8, "c10::complex<double>": 16,
    "float": 4, "int": 4, "c10::half": 2, "c10::bfloat16": 2, "half": 2, "bfloat16": 2, "short": 2, "short int": 2,
    "unsigned char": 1, "signed char": 1, "bool": 1, "char": 1,
}  # fmt: skip
PRECISIONS = {"double": "fp64", "float": "fp32", "c10::half": "fp16", "half": "fp16",
              "c10::bfloat16": "bf16", "bfloat16": "bf16"}  # fmt: skip


class Cost(NamedTuple):
    """What a call must do at least: `flops` arithmetic operations, `moved_bytes` of memory (None: not known).

    `unit` is matrix (tensor cores) or vector, `family` what kind of operator it is.
    """

    flops: float
    moved_bytes: float | None
    unit: str
    family: str


@dataclass(frozen=True)
class Arguments:
    """`shapes` of the inputs (lists of tensors as tuples of shapes), their `dtypes` and scalar `values`, as texts."""

    shapes: list[Any]
    dtypes: list[Any]
    values: list[Any]

    def shape(self, index: int) -> Shape:
        """Return the sizes of one tensor, () for a scalar or what is not there."""
        found = self.shapes[index] if index < len(self.shapes) else ()
        return tuple(found) if all(isinstance(size, int) for size in found) else ()

    def count(self, index: int) -> int:
        """Return the elements of one tensor, 0 where there is none.

        >>> Arguments([[2, 3], []], [], []).count(0), Arguments([[2, 3], []], [], []).count(1)
        (6, 0)
        """
        sizes = self.shape(index)
        return prod(sizes) if sizes else 0

    def size(self, index: int) -> int | None:
        """Return the bytes of one element, None where the type is not known."""
        return element_bytes(self.dtypes[index]) if index < len(self.dtypes) else None

    def moved(self, *parts: tuple[int, int]) -> float | None:
        """Return the bytes of (index of the type, elements) pairs, None where one type is not known."""
        found = 0.0
        for index, elements in parts:
            size = self.size(index)
            if elements and size is None:
                return None
            found += elements * (size or 0)
        return found

    def value(self, index: int) -> str:
        """Return one scalar as text, "" where it is not recorded."""
        return str(self.values[index]) if index < len(self.values) else ""

    def whole(self, index: int) -> list[int]:
        """Return the whole numbers of a list that is recorded as text, other words left out.

        >>> Arguments([], [], ["[2, -1]", "[--2, x]"]).whole(0), Arguments([], [], ["[2, -1]", "[--2, x]"]).whole(1)
        ([2, -1], [])
        """
        words = (word.strip() for word in self.value(index).strip("[]() ").split(","))
        return [int(word) for word in words if WHOLE.fullmatch(word)]

    def flag(self, index: int) -> bool:
        """Return whether one scalar is recorded as true."""
        return self.value(index).lower() in ("true", "1")


def element_bytes(dtype: object) -> int | None:
    """Return the bytes of an element of a type as PyTorch's profiler names it, None for others.

    >>> element_bytes("c10::BFloat16"), element_bytes("c10::Float8_e4m3fn"), element_bytes("TensorList")
    (2, 1, None)
    """
    name = str(dtype).lower()
    return 1 if "float8" in name or "fp8" in name else ELEMENT_BYTES.get(name)


def precision(dtype: object) -> str:
    """Return fp64, fp32, fp16, bf16 or fp8, "" for other types."""
    name = str(dtype).lower()
    return "fp8" if "float8" in name or "fp8" in name else PRECISIONS.get(name, "")


def arguments(shapes: str, dtypes: str, values: str) -> Arguments:
    """Return the arguments from their texts (JSON or Python literals); what cannot be read is empty.

    >>> arguments("[[64, 128], [128, 32]]", "['float', 'float']", "").count(1)
    4096
    """
    return Arguments(*(_listed(text) for text in (shapes, dtypes, values)))


def _listed(text: str) -> list[Any]:
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return []
    return list(found) if isinstance(found, list | tuple) else []
