"""Free memory goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from skewscope.watch import memory

# In a process of its own: the heap of a test run is full of holes that take such blocks in.
ALONE = """
import ctypes
from pathlib import Path
from skewscope.watch import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
size, count = 1 << 16, 1000
blocks = [libc.malloc(size) for _ in range(count)]
for block in blocks:
    ctypes.memset(block, 1, size)
held = blocks.pop()  # the heap cannot shrink from its end
for block in blocks:
    libc.free(block)
before = resident()
assert memory.give_back()
print((before - resident()) / (size * count))
"""


@pytest.fixture
def fresh():
    memory._trim.cache_clear()
    yield
    memory._trim.cache_clear()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_free_memory_below_what_is_used_goes_back():
    ended = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True)
    assert float(ended.stdout) > 0.8


@pytest.mark.parametrize("missing", [OSError, AttributeError])
def test_another_c_library_does_no_harm(monkeypatch, fresh, missing):
    def none(*_):
        raise missing("no such thing")

    monkeypatch.setattr("ctypes.CDLL", none)
    assert memory.give_back() is False
