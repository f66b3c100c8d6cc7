"""Cycles are found soon in a program that runs on, and free memory goes back to the system where that can be."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref

import pytest

from skewscope import memory

# In a process of its own: the heap of a test run is full of holes that take such blocks in.
ALONE = """
import ctypes
from pathlib import Path
from skewscope import memory

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

# In a process of its own, which is left settled.
SETTLED = """
import collections, gc, sys
from skewscope import memory

class Ring:
    count = 0
    def __init__(self):
        Ring.count += 1
        self.self = self
    def __del__(self):
        Ring.count -= 1

large = [[] for _ in range(1_000_000)]  # what a program has loaded
gc.collect()
if sys.argv[1] == "settled":
    memory.settle()
most, last = 0, collections.deque(maxlen=8_000)  # they grow old before they are left
for _ in range(300_000):
    last.append(Ring())
    most = max(most, Ring.count)
print(most)
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


def most_rings(how):
    ended = subprocess.run([sys.executable, "-c", SETTLED, how], capture_output=True, text=True, timeout=60, check=True)
    return int(ended.stdout)


def test_cycles_of_a_settled_program_do_not_wait_for_a_quarter_of_all_it_has_loaded():
    assert most_rings("settled") < 150_000 < most_rings("as it is")


def test_what_only_holds_itself_is_freed_with_what_is_given_back():
    class Ring:
        def __init__(self):
            self.itself = self

    gc.disable()
    try:
        ring = weakref.ref(Ring())
        assert ring() is not None
        memory.give_back()
        assert ring() is None
    finally:
        gc.enable()


def test_names_that_attributes_were_looked_up_by_are_let_go():
    memory.give_back()
    before = sys.getallocatedblocks()
    names = ["".join(["name of a request: ", str(number)]) for number in range(5000)]
    for name in names:
        hasattr(memory, name)
    del names, name
    held = sys.getallocatedblocks() - before
    memory.give_back()
    assert held > 200 and sys.getallocatedblocks() - before < held / 10
