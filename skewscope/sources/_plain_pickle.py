"""Pickles of plain data only: lists, dicts, strings and numbers come in; nothing in the file can reach code."""

from __future__ import annotations

import copyreg
import gc
import pickle
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NoReturn

from ..errors import Unreadable

ROOM_BYTES = 1 << 29  # what a load may take beyond what the process has; to fill it takes a second
ROOM_TIMES_SIZE = 64
READ_BYTES = 1 << 18
HOSTILE = "hostile or damaged pickle"


Stands = Mapping[str, Any]  # "module.name" of a file -> what stands for it here


def _nothing_outside(pid: object) -> NoReturn:
    raise pickle.UnpicklingError("asks for an outside object")


class _Plain(pickle.Unpickler):
    """Refuses every opcode that would reach for something outside the file, save for what `stands` for it."""

    def __init__(self, file: BufferedReader, stands: Stands, outside: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self._stands, self._outside = stands, outside

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401 - of our own, of any kind
        name = f"{module_name}.{global_name}"
        if name not in self._stands:
            raise pickle.UnpicklingError(f"asks for {name}")
        return self._stands[name]

    def persistent_load(self, pid: object, /) -> Any:  # noqa: ANN401 - of our own, of any kind
        return self._outside(pid)


def load(content: bytes, stands: Stands | None = None, outside: Callable[[Any], Any] = _nothing_outside) -> Any:  # noqa: ANN401 - plain data of any shape
    """Return the plain data in `content`; raises Unreadable for anything else, for damage and for bombs.

    What the file calls "module.name" is never looked up: `stands` must hold a stand-in of our own for it, and `outside`
    answers for objects that lie beside the pickle.

    >>> load(pickle.dumps({"entries": [1, (2.5, None)]}))
    {'entries': [1, (2.5, None)]}
    """
    # A cached extension would be handed out without a question; registered ones go through find_class.
    copyreg.clear_extension_cache()
    try:
        with limited_memory(len(content)), without_collector():
            # Without a file that can peek, the unpickler asks for every opcode anew.
            return _Plain(BufferedReader(BytesIO(content), READ_BYTES), stands or {}, outside).load()
    except MemoryError:
        raise Unreadable(f"{HOSTILE}: it asks for far more memory than it is long") from None
    except RecursionError:
        raise Unreadable(f"{HOSTILE}: nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything, and its text is the reason
        raise Unreadable(f"{HOSTILE}: {error or type(error).__name__}"[:300]) from None


@contextmanager
def limited_memory(size_bytes: int) -> Iterator[None]:
    """Let the process grow by at most max(512 MiB, 64 x size) inside the block; beyond it MemoryError is raised.

    The C unpickler believes the sizes that a file states, so eight bytes can ask for terabytes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _address_space_bytes() + max(ROOM_BYTES, ROOM_TIMES_SIZE * size_bytes)
    for limit in (soft, hard):
        ceiling = ceiling if limit == resource.RLIM_INFINITY else min(ceiling, limit)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the cycle collector from walking the growing result again and again: a third of the load's time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
