"""Tests on a fenced node: a pod of our own runs there, is read and removed, and nothing else comes in by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from skewscope.actuators._kubernetes_trial import Trial
from skewscope.errors import SkewscopeError, UsageError

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
world, own, record, with_settings = WORLDS["world"], WORLDS["own"], WORLDS["record"], WORLDS["with_settings"]
PODS = "/api/v1/namespaces/skewscope/pods"
WORDS = ("python3", "-c", "print('$(reboot)'); 1", "--json", "a b;c")


class Clock:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, for_s: float) -> None:
        self.now_s += for_s


@pytest.fixture
def fenced(own: Any) -> Iterator[tuple[Any, Any]]:
    """Give a world with a node in quarantine, and the record of that."""
    seen = with_settings(own, test_image="registry/test:1", test_resources=("nvidia.com/gpu=8",))
    name = seen.node()
    command = seen.command("quarantine", name)
    assert seen.do(command).result == "done"
    yield seen, record(command)


def names(world: Any) -> list[str]:
    return [one["metadata"]["name"] for one in world.client.listed(PODS)]


def test_what_the_program_wrote_comes_back_and_its_pod_goes(fenced: Any) -> None:
    world, act = fenced
    ran: list[Any] = []
    world.inside.kubelet = lambda pod: ran.append(pod) or ('{"gemm": 1.0}\n', "Succeeded")
    assert world.kubernetes.test(act, WORDS, 30.0) == '{"gemm": 1.0}\n'
    (pod,) = ran
    spec = pod["spec"]
    assert spec["containers"][0]["command"] == list(WORDS)
    assert (spec["nodeName"], spec["activeDeadlineSeconds"], spec["restartPolicy"]) == ("n1", 30, "Never")
    assert spec["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert all(
        one["key"].startswith(("skewscope.io/", "node.kubernetes.io/unschedulable")) for one in spec["tolerations"]
    )
    assert not spec["automountServiceAccountToken"] and names(world) == []
    assert world.kubernetes.holds(act, world.kubernetes.look()) is True


def test_a_program_that_fails_is_an_error_with_its_last_words(fenced: Any) -> None:
    world, act = fenced
    world.inside.kubelet = lambda pod: ("Traceback\nno GPU", "Failed")
    with pytest.raises(SkewscopeError, match="n1: the test failed: Traceback\nno GPU"):
        world.kubernetes.test(act, WORDS, 30.0)
    assert names(world) == []


def test_one_that_does_not_end_is_removed(fenced: Any) -> None:
    world, _ = fenced
    clock = Clock()
    trial = Trial(world.client, world.kubernetes, world.state("n1"), "a1", clock.pause, clock)
    with pytest.raises(SkewscopeError, match="n1: the test did not end in 30 s"):
        trial.run(WORDS, 30.0)
    assert names(world) == [] and clock.now_s == 30.0


def test_no_test_without_a_fence_of_ours_or_beside_work(fenced: Any) -> None:
    world, act = fenced
    with pytest.raises(SkewscopeError, match="act a9 does not stand there any more"):
        world.kubernetes.test(act | {"act": "a9"}, WORDS, 1.0)
    with pytest.raises(SkewscopeError, match="does not stand there"):
        world.kubernetes.test(act | {"target": "n7"}, WORDS, 1.0)
    world.pod("work", "n1", owner={})
    with pytest.raises(SkewscopeError, match="pods are still there"):
        world.kubernetes.test(act, WORDS, 1.0)
    assert names(world) == ["work"]


def test_settings_that_lack_are_said_before_anything_is_made(fenced: Any) -> None:
    world, act = fenced
    with pytest.raises(UsageError, match="test_image is not set"):
        with_settings(world, test_image="").kubernetes.test(act, WORDS, 1.0)
    with pytest.raises(UsageError, match="NAME=AMOUNT"):
        with_settings(world, test_resources=("gpus",)).kubernetes.test(act, WORDS, 1.0)
    assert names(world) == []


def test_a_pod_left_over_is_replaced_but_not_one_of_somebody_else(fenced: Any) -> None:
    world, act = fenced
    trial = Trial(world.client, world.kubernetes, world.state("n1"), "a1")
    left = trial.pod(("old",), 1.0)
    world.put(PODS, left | {"spec": {}, "status": {"phase": "Failed"}})
    world.inside.kubelet = lambda pod: ("new", "Succeeded")
    assert world.kubernetes.test(act, WORDS, 1.0) == "new"
    theirs = left | {"metadata": {**left["metadata"], "labels": {}}, "spec": {}, "status": {"phase": "Failed"}}
    world.put(PODS, theirs)
    with pytest.raises(SkewscopeError, match="a pod of somebody else has the name of our test"):
        world.kubernetes.test(act, WORDS, 1.0)
    assert names(world) == [left["metadata"]["name"]]


def test_what_an_image_waits_for_is_told(fenced: Any) -> None:
    world, _ = fenced
    clock = Clock()

    def pause(for_s: float) -> None:
        clock.pause(for_s)
        for pod in world.inside.of("pods"):
            pod["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": "ErrImagePull"}}}]

    trial = Trial(world.client, world.kubernetes, world.state("n1"), "a1", pause, clock)
    with pytest.raises(SkewscopeError, match=r"in 2 s: it waits \(ErrImagePull\)"):
        trial.run(WORDS, 2.0)


def test_a_server_takes_the_pod_of_a_test(world: Any) -> None:
    name = world.node()
    seen = with_settings(world, test_image="registry/test:1", test_resources=("nvidia.com/gpu=8",))
    pod = Trial(seen.client, seen.kubernetes, seen.state(name), "act; 1 …").pod(WORDS, 30.0)
    made = seen.client.send("POST", f"/api/v1/namespaces/{world.space}/pods", pod, dry_run=True)
    assert made["spec"]["containers"][0]["command"] == list(WORDS)
