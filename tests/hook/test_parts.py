"""The parts of the hook without torch: calls, phases, steps, faults, the thread behind."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import skewscope.hook as hook
from skewscope.hook import _collectives, _groups, _heart, _patches, _phases, _place
from skewscope.hook._recorder import PHASE_OF, Recorder

ALL_REDUCE = _collectives.OP["all_reduce"]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "5")
    made = Recorder("unit", tmp_path)
    assert made.ready()
    yield made
    made.off()


class FakeWork:
    def wait(self) -> bool:
        return True


class AtOneAddress(FakeWork):
    def __hash__(self) -> int:
        return 7


class Equal(FakeWork):
    def __eq__(self, other: object) -> bool:
        return True


class FakeGroup:
    pass


def group_of(recorder: Recorder, pg: object, size: int = 2) -> _groups.Group:
    index = recorder.ring.group(7, range(size), 0)
    begin = recorder.ring.beginner(index)
    recorder.groups[id(pg)] = group = _groups.Group(index, 0, ranks=tuple(range(size)), size=size, begin=begin)
    return group


def rows(recorder: Recorder, read_ring):
    return read_ring(recorder.ring.path)[1]


def test_a_bundle_is_one_record_and_each_message_has_its_own(recorder, read_ring):
    pg = FakeGroup()
    group_of(recorder, pg, size=4)
    works = []
    tensor = SimpleNamespace(nbytes=100)
    reduce = _collectives.timed(recorder, lambda self, *args: works.append(1), ALL_REDUCE, 0, False)
    peer = _collectives.PEERS["send"]
    send = _collectives.timed(recorder, lambda self, *args: None, _collectives.OP["send"], 0, False, peer)
    last = FakeWork()
    start, end = _collectives.coalescing(recorder, lambda self, device: None, lambda self, device: last)
    start(pg, "cuda")
    for _ in range(3):
        reduce(pg, [tensor])
    send(pg, [tensor], 3, 0)
    assert end(pg, "cuda") is last
    assert not rows(recorder, read_ring)
    _collectives.waited(recorder, FakeWork.wait, {})(last)
    assert [(one.name, one.seq, one.size, one.extra) for one in rows(recorder, read_ring)] == [
        ("send", 1, 100, 4), ("all_reduce", 3, 300, 0),
    ]  # fmt: skip


def test_no_work_is_kept_alive_and_too_many_calls_are_forgotten(recorder, monkeypatch):
    monkeypatch.setattr("skewscope.hook._recorder.PENDING", 10)
    pg = FakeGroup()
    group_of(recorder, pg)
    call = _collectives.timed(recorder, lambda self, *args: FakeWork(), ALL_REDUCE, 0, False)
    work = call(pg, [])
    gone = weakref.ref(work)
    del work
    assert gone() is None
    kept = [call(pg, []) for _ in range(30)]
    assert len(recorder.pending) == 31
    recorder._heart.beat()
    assert len(recorder.pending) == 10 and len(kept) == 30


def test_an_address_used_again_is_not_taken_for_the_old_group(recorder):
    pg = FakeGroup()
    recorder._remember(pg, group := _groups.Group(0, 0))
    key = id(pg)
    assert recorder.groups[key] is group
    del pg
    assert key not in recorder.groups


def test_a_full_table_of_groups_leaves_the_rest_untimed(recorder, monkeypatch):
    for number in range(40):
        recorder.ring.group(number, range(2), 0)
    monkeypatch.setattr(_groups, "facts", lambda pg: _groups.Facts(99, (0, 1), 0, "", "late"))
    pg = FakeGroup()
    assert recorder.meet(pg) is False
    call = _collectives.timed(recorder, lambda self, *args: "work", ALL_REDUCE, 0, False)
    assert call(pg, []) == "work" and recorder.on


def test_faults_do_not_reach_the_caller(recorder, caplog):
    caplog.set_level(logging.WARNING, "skewscope")  # a command that ran before may have been told to be quiet
    pg = FakeGroup()
    group_of(recorder, pg)
    recorder.groups[id(pg)].begin = lambda *_: 1 / 0
    call = _collectives.timed(recorder, lambda self, *args: "work", ALL_REDUCE, 0, False)
    assert [call(pg, []) for _ in range(5)] == ["work"] * 5
    assert not recorder.on and len(caplog.records) == 1


def test_strange_arguments_are_no_fault(recorder):
    sparse = SimpleNamespace(
        is_sparse=True, _indices=lambda: SimpleNamespace(nbytes=8), _values=lambda: SimpleNamespace(nbytes=4)
    )
    assert _collectives.size_bytes([sparse, [SimpleNamespace(nbytes=1)]]) == 13
    assert _collectives.size_bytes([type("Odd", (), {"nbytes": property(lambda self: 1 / 0)})()]) == 0
    assert _collectives.size_bytes("text") == _collectives.size_bytes(()) == _collectives.size_bytes(None) == 0
    assert _collectives._late((), {"a": 1}, 4) == ()


def test_a_bundle_that_never_ends_does_not_grow(recorder, monkeypatch):
    monkeypatch.setattr(_collectives, "PENDING", 5)
    pg = FakeGroup()
    group = group_of(recorder, pg)
    start, _ = _collectives.coalescing(recorder, lambda self: None, lambda self: None)
    call = _collectives.timed(recorder, lambda self, *args: FakeWork(), ALL_REDUCE, 0, False)
    start(pg)
    for _ in range(5):
        call(pg, [])
    assert len(group.batch) == 5
    call(pg, [])
    assert group.batch is None


def test_the_address_of_a_work_that_is_gone_ends_nothing(recorder, read_ring):
    pg = FakeGroup()
    group_of(recorder, pg)
    works = [AtOneAddress()]
    call = _collectives.timed(recorder, lambda self, *args: works.pop(), ALL_REDUCE, 0, False)
    call(pg, [])  # dropped at once
    assert _collectives.waited(recorder, FakeWork.wait, {})(AtOneAddress()) is True
    assert not rows(recorder, read_ring) and len(recorder.pending) == 1


def test_a_work_without_a_hash_is_waited_for_as_ever(recorder):
    work = Equal()
    assert _collectives.waited(recorder, FakeWork.wait, {})(work) is True
    assert _collectives.polled(recorder, FakeWork.wait)(work) is True


def test_records_are_as_sound_without_isal(recorder, read_ring, monkeypatch):
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    recorder.off()
    recorder.revive()
    assert recorder.ready()
    with _phases.Phase(recorder, PHASE_OF["eval"]):
        pass
    assert [one.name for one in rows(recorder, read_ring)] == ["eval"]


def test_a_rank_that_cannot_be_asked_is_a_fault_of_ours(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed", SimpleNamespace(is_available=lambda: 1 / 0))
    made = Recorder("unit", tmp_path)
    assert not any(made.ready() for _ in range(4)) and not made.on


def test_phases_count_once_whoever_opened_them(recorder, read_ring):
    inner = _phases.timed(recorder, "forward", lambda: "answer")
    with _phases.Phase(recorder, PHASE_OF["forward"]):
        assert inner() == "answer"
        with _phases.Phase(recorder, PHASE_OF["forward"]):
            pass
    assert inner() == "answer"
    with pytest.raises(KeyError), _phases.Phase(recorder, PHASE_OF["eval"]):
        raise KeyError
    failing = _phases.timed(recorder, "backward", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing()
    ended = _phases.timed(recorder, "data", iter(()).__next__)
    with pytest.raises(StopIteration):
        ended()
    assert [(one.name, one.flags) for one in rows(recorder, read_ring)] == [
        ("forward", 0), ("forward", 0), ("eval", 2), ("backward", 2), ("data", 0),
    ]  # fmt: skip


class Optimizers(ModuleType):
    """Stands for torch.optim.optimizer."""

    def __init__(self) -> None:
        super().__init__("optimizer")
        self.hooks = []

    def register_optimizer_step_pre_hook(self, hook):
        self.hooks.append(hook)
        return SimpleNamespace(remove=lambda: self.hooks.remove(hook))

    register_optimizer_step_post_hook = register_optimizer_step_pre_hook


def test_steps_are_those_of_the_first_optimizer(recorder, read_ring):
    module, patches = Optimizers(), _patches.Patches()
    _phases.patch_optimizer(recorder, patches, module)
    before, after = module.hooks
    first, second = FakeGroup(), FakeGroup()
    before(first, (), {})  # raises in its step: no post hook
    for optimizer in (first, second, first):
        before(optimizer, (), {})
        after(optimizer, (), {})
    before(first, (), {})
    before(second, (), {})  # within the first
    after(second, (), {})
    after(first, (), {})
    found = [(one.kind, one.step) for one in rows(recorder, read_ring)]
    assert found == [
        ("phase", 0), ("step", 0), ("phase", 1), ("phase", 1), ("step", 1), ("phase", 2), ("step", 2),
    ]  # fmt: skip
    patches.undo()
    assert not module.hooks


def test_where_no_thread_can_start_nothing_is_recorded(tmp_path, monkeypatch, read_ring):
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setattr(_heart.Heart, "start", lambda self: 1 / 0)
    made = Recorder("unit", tmp_path)
    assert not made.ready() and not made.on
    assert read_ring(made.ring.path)[0].closed


def test_what_ends_while_the_ring_is_made_makes_no_second_one(tmp_path, read_ring, monkeypatch):
    def device() -> tuple[int, str]:
        with _phases.Phase(made, PHASE_OF["data"]):
            return -1, ""

    monkeypatch.setenv("RANK", "5")
    monkeypatch.setattr(_place, "device", device)
    made = Recorder("unit", tmp_path)
    with _phases.Phase(made, PHASE_OF["eval"]):
        pass
    assert [one.name for one in rows(made, read_ring)] == ["eval"] and not made.ring.internal_errors
    made.off()


def test_long_collections_are_recorded(recorder):
    import gc

    patches = _patches.Patches()
    _phases.watch_collections(recorder, patches)
    try:
        seen = gc.callbacks[-1]
        seen("start", {})
        recorder.opened.collection_ns -= 2_000_000
        before = recorder.ring.last_number
        seen("stop", {})
        assert recorder.ring.last_number == before + 1
        recorder.off()
        recorder.revive()
        seen("stop", {})
        assert recorder.ring is None
    finally:
        patches.undo()
    assert seen not in gc.callbacks


def test_a_dump_is_written_whole_or_not_at_all(recorder, tmp_path, monkeypatch):
    content = [b'{"entries":[{"collective_seq_id":1}]}']
    module = SimpleNamespace(_dump_nccl_trace_json=lambda: b'{"entries":[]}', _dump_fr_trace_json=lambda: content[0])
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", module)
    recorder._heart.beat()
    assert not (tmp_path / "flight").exists()  # nobody has asked
    request = tmp_path / ".dump-request"
    request.touch()
    recorder._heart.beat()
    (path,) = (tmp_path / "flight").iterdir()
    assert (path.name, path.read_bytes()) == ("unit_rank5.json", content[0])
    content[0] = b"x" * 10
    monkeypatch.setattr(_heart, "DUMP_BYTES", 5)
    os.utime(request, ns=(1, request.stat().st_mtime_ns + 1))
    recorder._heart.beat()
    assert path.read_bytes() != content[0]  # nothing to tell, or too large: the last dump stays
    assert [path] == list((tmp_path / "flight").iterdir())


def test_a_closed_flight_folder_is_no_fault(recorder, tmp_path, monkeypatch):
    module = SimpleNamespace(_dump_fr_trace_json=lambda: b'{"entries":[{"collective_seq_id":1}]}')
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", module)
    (tmp_path / "flight").write_text("in the way")
    (tmp_path / ".dump-request").touch()
    recorder._heart.beat()
    assert recorder.on and recorder.ring.internal_errors == 0


def test_a_flight_folder_that_leads_elsewhere_is_not_followed(recorder, tmp_path, monkeypatch):
    module = SimpleNamespace(_dump_fr_trace_json=lambda: b'{"entries":[{"collective_seq_id":1}]}')
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", module)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "flight").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".dump-request").touch()
    recorder._heart.beat()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_heart_beats_and_stops(recorder, read_ring):
    first = read_ring(recorder.ring.path)[0].heartbeat_ns
    recorder._heart.beat()
    assert read_ring(recorder.ring.path)[0].heartbeat_ns > first
    heart, path = recorder._heart, recorder.ring.path
    recorder.off()
    assert not heart.is_alive() and read_ring(path)[0].closed


def test_everything_is_safe_where_nothing_is_installed():
    hook.step({"tokens": 1})
    hook.experts(0, [1])
    hook.mark("x")
    with hook.phase("forward") as nothing:
        assert nothing is hook.phase("data")
    hook.Handle().close()
