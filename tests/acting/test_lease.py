import multiprocessing
import os

import pytest

from skewscope.acting.lease import BothLeases, FileLease, Held, Turns
from skewscope.errors import SkewscopeError


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def lease(path, owner, host="h1", clock=None):
    return FileLease(path, owner=owner, host=host, clock_s=clock or Clock(), lease_s=60.0)


def test_one_holds_it_and_gives_it_back(tmp_path):
    path = tmp_path / "lease"
    first, second = lease(path, "a"), lease(path, "b")
    assert first.take().mine and first.take().mine
    held = second.take()
    assert not held.mine and held.owner == "a"
    first.release()
    assert second.take() == second.take().__class__(True, "b")
    assert not first.take().mine


def _hold_and_die(path):
    lease(path, "dead").take()
    os._exit(1)


def test_who_died_on_this_host_is_followed_at_once(tmp_path):
    path = tmp_path / "lease"
    worker = multiprocessing.get_context("fork").Process(target=_hold_and_die, args=(path,))
    worker.start()
    worker.join()
    held = lease(path, "b").take()
    assert held.mine and held.taken_from == "dead"


def test_who_is_on_another_host_has_to_be_silent_for_a_whole_lease(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    other = lease(path, "a", "h2")
    other.take()
    other._drop()  # its lock is not seen here
    here = lease(path, "b", "h1", clock)
    assert not here.take().mine
    clock.now_s = 59.0
    assert not here.take().mine
    clock.now_s = 61.0
    assert here.take().taken_from == "a"


def test_renewing_keeps_others_on_other_hosts_away(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    other, here = lease(path, "a", "h2"), lease(path, "b", "h1", clock)
    for _ in range(5):
        assert other.take().mine
        other._drop()
        clock.now_s += 50.0
        assert not here.take().mine


def test_who_was_away_too_long_sees_that_another_took_it(tmp_path):
    path = tmp_path / "lease"
    first = lease(path, "a", "h1")
    first.take()
    path.write_text('{"owner": "b", "host": "h2", "count": 9}')  # as another host does that does not see the lock
    held = first.take()
    assert not held.mine and held.owner == "b"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"count": "x"}', "\x00\x00"])
def test_a_damaged_file_is_nobodys(tmp_path, text):
    path = tmp_path / "lease"
    path.write_text(text)
    assert lease(path, "a").take().mine


def test_people_and_the_watcher_take_turns(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    watcher = lease(path, "a")
    person = Turns(path, wait_s=1.0, sleep=clock.sleep, clock_s=clock)
    assert watcher.take().mine and person.take().mine
    with watcher.working(), pytest.raises(SkewscopeError, match="another one acts"), person.working():
        pass
    assert clock.now_s >= 1.0
    with person.working():
        pass


def test_a_place_that_cannot_be_used_is_told(tmp_path):
    with pytest.raises(SkewscopeError, match="lease cannot be used"):
        lease(tmp_path / "no" / "lease", "a").take()


class Object:
    """A lease that another host may hold."""

    def __init__(self):
        self.holder, self.away = "", False

    def take(self):
        if self.away:
            raise SkewscopeError("the server does not answer")
        self.holder = self.holder or "a"
        return Held(self.holder == "a", self.holder)

    def release(self):
        self.holder = ""


def test_of_two_leases_both_must_be_ours(tmp_path):
    there = Object()
    both = BothLeases(lease(tmp_path / "lease", "a"), there)
    assert both.take().mine and not lease(tmp_path / "lease", "b").take().mine
    there.holder = "elsewhere"
    assert both.take() == Held(False, "elsewhere")
    there.holder, there.away = "a", True
    with pytest.raises(SkewscopeError, match="does not answer"):
        both.take()
    with both.working():
        pass
    both.release()
    assert there.holder == "" and lease(tmp_path / "lease", "b").take().mine
