"""Arrays of `.npy` and `.npz` files; no size that a file states is believed before its bytes are there."""

from __future__ import annotations

import zipfile
from io import BytesIO
from tokenize import TokenError
from typing import Any, cast

import numpy as np

from ..errors import Unreadable

Array = np.ndarray[Any, Any]

MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
MOST_BYTES = 1 << 30  # of one array; a few bytes can be packed zeros without end
LONGEST_HEADER = 10_000
MOST_MEMBERS = 4096
AGAIN = "copy the file again"


def array(content: bytes) -> Array:
    """Return the array of a `.npy` file; raises Unreadable for objects, for damage and for sizes beyond the file.

    >>> place = BytesIO(); np.save(place, np.arange(3))
    >>> array(place.getvalue()).tolist()
    [0, 1, 2]
    """
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream, max_header_size=LONGEST_HEADER)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, TokenError) as error:
        raise Unreadable(f"damaged .npy header: {error}"[:300], AGAIN) from None
    if dtype.hasobject:
        raise Unreadable("a .npy of Python objects, which can hold code", "save it as an array of numbers")
    if dtype.subdtype:  # numpy writes their axes into the shape
        raise Unreadable(f"a .npy whose entries are arrays themselves ({dtype})", AGAIN)
    shape = tuple(map(int, shape))  # True is a number to numpy, too
    count = 1
    for size in shape:
        count *= size
    size = count * dtype.itemsize
    body = content[stream.tell() : stream.tell() + size]
    whole = len(body) >= size and len(shape) <= 8 and dtype.itemsize
    # An axis of none makes the size nothing, however long the others are.
    if not whole or not all(0 <= one <= len(content) for one in shape):
        raise Unreadable(f"the .npy states {shape} of {dtype} and has {len(body):,} bytes of it", AGAIN)
    found = np.frombuffer(body, dtype=dtype, count=count)
    return found.reshape(shape, order="F" if by_columns else "C")


class Archive:
    """A zip file whose members are looked at one by one: `names` and their bytes.

    Raises Unreadable where it is cut or damaged.
    """

    def __init__(self, content: bytes, what: str = "archive") -> None:
        self._what = what
        try:
            self._zip = zipfile.ZipFile(BytesIO(content))
            self._members = {info.filename: info for info in self._zip.infolist()}
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError, EOFError) as error:
            raise Unreadable(f"cut or damaged {what}: {error}"[:300], AGAIN) from None
        if len(self._members) > MOST_MEMBERS << 8:
            raise Unreadable(f"{len(self._members):,} members in one {what} cannot be meant")

    @property
    def names(self) -> list[str]:
        """Names of the members."""
        return list(self._members)

    def read(self, name: str, most_bytes: int = MOST_BYTES) -> bytes:
        """Return the bytes of a member of at most `most_bytes`; raises Unreadable where it is missing or damaged."""
        info = self._members.get(name)
        if info is None:
            raise Unreadable(f"the {self._what} lacks its part {name!r}", AGAIN)
        if info.file_size > most_bytes or info.flag_bits & 1:
            raise Unreadable(f"part {name!r} of the {self._what} is encrypted or of {info.file_size:,} bytes")
        try:
            with self._zip.open(info) as member:
                return member.read(info.file_size)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError) as error:
            raise Unreadable(f"damaged part {name!r} of the {self._what}: {error}"[:300], AGAIN) from None
        except Exception as error:  # noqa: BLE001 - each method of compression has errors of its own
            raise Unreadable(f"damaged part {name!r} of the {self._what}: {error}"[:300], AGAIN) from None


def arrays(content: bytes, names: tuple[str, ...]) -> dict[str, Array]:
    """Return those of the named arrays that a `.npz` holds; raises Unreadable.

    >>> place = BytesIO(); np.savez_compressed(place, a=np.ones(2), b=np.zeros(1))
    >>> arrays(place.getvalue(), ("a", "c"))["a"].tolist()
    [1.0, 1.0]
    """
    archive = Archive(content, ".npz")
    there = set(archive.names)
    return {name: array(archive.read(f"{name}.npy")) for name in names if f"{name}.npy" in there}


def texts(value: Array) -> str:
    """Return a text that was saved as an array of one text, "" for anything else.

    >>> texts(np.array("abc")), texts(np.array([1]))
    ('abc', '')
    """
    return str(cast(Any, value.item())) if value.size == 1 and value.dtype.kind == "U" else ""
