"""Timing on the GPU, with a fake of torch.cuda: what is recorded and asked when, and what a capture forbids."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from skewscope.hook import _collectives, _cuda, _groups, _phases
from skewscope.hook._patches import Patches
from skewscope.hook._recorder import Recorder

ALL_REDUCE = _collectives.OP["all_reduce"]


class Event:
    made = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        Event.made += 1
        self.at_ms = 0.0
        self.cuda = FakeCuda.now

    def record(self) -> None:
        self.cuda.time_ms += 1.5
        self.at_ms = self.cuda.time_ms

    def query(self) -> bool:
        assert not self.cuda.capturing, "an event was asked during a capture"
        return self.at_ms <= self.cuda.done_ms

    def elapsed_time(self, later: Event) -> float:
        return later.at_ms - self.at_ms


class FakeCuda:
    now: FakeCuda

    def __init__(self) -> None:
        FakeCuda.now = self
        self.time_ms = self.done_ms = 0.0
        self.device, self.capturing = 0, False
        self.Event = Event
        fake = self

        class CUDAGraph:
            def capture_begin(self, fail: bool = False) -> None:
                if fail:
                    raise RuntimeError("no capture")
                fake.capturing = True

            def capture_end(self) -> None:
                fake.capturing = False

        self.CUDAGraph = CUDAGraph

    def current_device(self) -> int:
        return self.device


class Work:
    def wait(self) -> bool:
        return True


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A rank with one group on a fake GPU: (recorder, cuda, one timed call, wait)."""
    monkeypatch.setenv("RANK", "0")
    recorder = Recorder("gpu", tmp_path)
    assert recorder.ready()
    recorder._heart.stop()  # the test polls
    cuda = FakeCuda()
    monkeypatch.setitem(
        sys.modules,
        "torch",
        SimpleNamespace(backends=SimpleNamespace(cuda=SimpleNamespace(is_built=lambda: True))),
    )
    patches = Patches()
    _cuda.patch(recorder, patches, cuda)
    pg = SimpleNamespace()
    index = recorder.ring.group(1, range(2), 0)
    begin = recorder.ring.beginner(index)
    recorder.groups[id(pg)] = _groups.Group(index, 0, ranks=(0, 1), size=2, begin=begin)
    timed = _collectives.timed(recorder, lambda self, *args: Work(), ALL_REDUCE, 0, False)
    wait = _collectives.waited(recorder, Work.wait, globals())

    def call(nbytes: int = 1 << 20, is_cuda: bool = True) -> None:
        wait(timed(pg, [SimpleNamespace(nbytes=nbytes, is_cuda=is_cuda, is_sparse=False)]))

    yield SimpleNamespace(recorder=recorder, cuda=cuda, call=call, patches=patches)
    recorder.off()


def lengths(world, read_ring):
    return [(one.seq, one.device_ns) for one in read_ring(world.recorder.ring.path)[1]]


def test_a_record_is_written_when_the_gpu_is_done(world, read_ring):
    world.call()
    world.call()
    world.recorder.timer.poll()
    assert lengths(world, read_ring) == []
    world.cuda.done_ms = 3.0  # both events of the first call
    world.recorder.timer.poll()
    assert lengths(world, read_ring) == [(1, 1_500_000)]
    world.cuda.done_ms = 99.0
    world.recorder.timer.poll()
    assert lengths(world, read_ring) == [(1, 1_500_000), (2, 1_500_000)]


def test_events_are_used_again(world):
    Event.made = 0
    for _ in range(20):
        world.call()
        world.cuda.done_ms = world.cuda.time_ms
        world.recorder.timer.poll()
    assert Event.made == 2


def test_small_calls_are_sampled_and_none_is_lost(world, read_ring):
    for _ in range(2 * _cuda.SAMPLE):
        world.call(nbytes=64)
    world.cuda.done_ms = 1e9
    world.recorder.timer.poll()
    found = dict(lengths(world, read_ring))
    assert sorted(found) == list(range(1, 2 * _cuda.SAMPLE + 1))
    assert sorted(seq for seq, device_ns in found.items() if device_ns > 0) == [_cuda.SAMPLE, 2 * _cuda.SAMPLE]


def test_calls_on_the_cpu_need_no_event(world, read_ring):
    Event.made = 0
    world.call(is_cuda=False)
    assert (Event.made, world.recorder.timer.in_use) == (0, False)
    assert lengths(world, read_ring) == [(1, -1)]


def test_a_capture_is_left_alone(world, read_ring):
    world.call()
    graph = world.cuda.CUDAGraph()
    graph.capture_begin()
    world.call()
    world.recorder.timer.poll()  # asks nothing, or the fake objects
    assert not world.recorder.timer.may_ask()
    assert lengths(world, read_ring) == [(2, -1)]
    graph.capture_end()
    with pytest.raises(RuntimeError, match="no capture"):
        graph.capture_begin(fail=True)
    world.cuda.done_ms = 1e9
    world.recorder.timer.poll()
    assert lengths(world, read_ring) == [(2, -1), (1, 1_500_000)]
    world.patches.undo()
    assert not hasattr(world.cuda.CUDAGraph.capture_begin, "__wrapped__")


def test_a_forked_child_starts_over(world, read_ring):
    path = world.recorder.ring.path
    world.call()
    with _phases.Phase(world.recorder, 1):
        world.recorder.forked()
    assert not world.recorder.timer.in_use and not world.recorder.timer._waiting
    assert not any(world.recorder.opened.depth[:1] + world.recorder.opened.depth[2:])
    assert not read_ring(path)[0].closed


def test_too_many_unfinished_pairs_are_written_without_a_time(world, read_ring, monkeypatch):
    monkeypatch.setattr(_cuda, "WAITING", 2)
    for _ in range(4):
        world.call()
    assert lengths(world, read_ring) == [(3, -1), (4, -1)]


def test_a_call_that_ends_on_another_device_has_no_time(world, read_ring):
    inner = world.cuda.current_device
    devices = iter((0, 1))
    world.cuda.current_device = lambda: next(devices, inner())
    world.call()
    assert lengths(world, read_ring) == [(1, -1)]
