"""Tensors of a file that `torch.save` wrote: a zip of one pickle and raw storages. PyTorch is not needed.

The pickle may name tensors, their storages and ordered dicts, for which stand-ins of our own are put; all else in it
must be plain data. Files from before PyTorch 1.6 are no archives and are refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import Unreadable
from . import _plain_pickle
from ._numpy_file import Archive

Array = np.ndarray[Any, Any]

DTYPES = {
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BoolStorage": "b1", "BFloat16Storage": "V2",
}  # fmt: skip
MOST_UNFOLDED = 1 << 22  # elements of a tensor with more of them than its storage has: strides of 0 repeat them


# Named tuples, for a pickle could change the fields of any other object after they were checked.
class Storage(NamedTuple):
    """Raw numbers in the archive: type (without byte order), name of the part, how many they are."""

    dtype: str
    name: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage, all in numbers of elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(pid: Any) -> Storage:  # noqa: ANN401 - whatever the pickle holds
    """Return the storage that a pickle names as ("storage", type, part, device, count)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise pickle.UnpicklingError("asks for an outside object that is no storage")
    kind, name, count = pid[1], pid[2], pid[4]
    known = isinstance(kind, str) and kind in DTYPES.values()
    if not (known and isinstance(name, str) and name.isalnum() and isinstance(count, int) and 0 <= count < 1 << 48):
        raise pickle.UnpicklingError("a storage without type, name or count")
    return Storage(kind, name, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:  # noqa: ANN401 - as above
    sizes = (offset, *shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else ("",)
    if not isinstance(storage, Storage) or not all(isinstance(size, int) and 0 <= size < 1 << 48 for size in sizes):
        raise pickle.UnpicklingError("a tensor without a storage, or with sizes that cannot be")
    if len(shape) != len(strides) or len(shape) > 8:
        raise pickle.UnpicklingError("a tensor whose sizes and strides do not fit")
    return Tensor(storage, offset, shape, strides)


def _mapping(*_: Any) -> dict[Any, Any]:  # noqa: ANN401 - as above
    return {}


STANDS = {
    "torch._utils._rebuild_tensor_v2": _tensor, "collections.OrderedDict": _mapping, "torch.Size": tuple,
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
}  # fmt: skip


class TorchFile:
    """A saved file: `value` is its plain data with Tensor in place of tensors, `array` their numbers.

    Raises Unreadable for damage and for pickles that ask for anything else.
    """

    def __init__(self, content: bytes) -> None:
        self._archive = Archive(content, "PyTorch file")
        self._most_bytes = len(content)  # its parts are not compressed
        pickles = [name for name in self._archive.names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Unreadable("no PyTorch file: an archive without its data.pkl")
        self._folder = pickles[0].removesuffix("data.pkl")
        order = self._archive.read(f"{self._folder}byteorder", 64) if self._has("byteorder") else b"little"
        self._order = ">" if order.strip() == b"big" else "<"
        self.value: Any = _plain_pickle.load(self._archive.read(pickles[0], self._most_bytes), STANDS, _storage)

    def _has(self, part: str) -> bool:
        return f"{self._folder}{part}" in self._archive.names

    def array(self, tensor: Any) -> Array:  # noqa: ANN401 - what stands in the file where a tensor is wanted
        """Return the numbers of a Tensor, or of nested lists; raises Unreadable where they are not all there."""
        if not isinstance(tensor, Tensor):
            return _of_lists(tensor)
        storage = tensor.storage
        count = int(np.prod(tensor.shape, dtype=float))
        if storage.dtype == "V2":
            raise Unreadable("a tensor of bfloat16, which counts cannot be")
        dtype = np.dtype(self._order + storage.dtype)
        raw = np.frombuffer(self._raw(storage, dtype), dtype)
        if not count:
            return np.zeros(tensor.shape, dtype)
        last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
        if last >= len(raw) or count > max(len(raw), MOST_UNFOLDED):
            raise Unreadable(
                f"a tensor of {count:,} elements reaches number {last:,} of a storage of {len(raw):,}",
                "copy the file again",
            )
        strides = tuple(step * dtype.itemsize for step in tensor.strides)
        return np.lib.stride_tricks.as_strided(raw[tensor.offset :], tensor.shape, strides, writeable=False)

    def _raw(self, storage: Storage, dtype: np.dtype[Any]) -> bytes:
        raw = self._archive.read(f"{self._folder}data/{storage.name}", self._most_bytes)
        wanted = storage.size * dtype.itemsize
        if len(raw) < wanted:
            raise Unreadable(f"storage {storage.name} has {len(raw):,} of {wanted:,} bytes", "copy the file again")
        return raw[:wanted]


def _of_lists(given: Any) -> Array:  # noqa: ANN401 - of a foreign file
    try:
        made = np.array(given)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise Unreadable(f"no even table of numbers: {error}"[:200]) from None
    if made.dtype.kind not in "iufb":
        raise Unreadable(f"{type(given).__name__} where an array of numbers is wanted")
    return made


def is_mapping(value: Any) -> bool:  # noqa: ANN401 - of a foreign file
    """Return whether a value is a dict with text keys.

    >>> is_mapping({"a": 1}), is_mapping({1: 1}), is_mapping([])
    (True, False, False)
    """
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
