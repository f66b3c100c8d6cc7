"""What the Kubernetes actuator leaves on nodes and takes back, over HTTP, on our own server and on a real one."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from skewscope.acts import Request

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
world, own, record, World = WORLDS["world"], WORLDS["own"], WORLDS["record"], WORLDS["World"]
NASTY = 'rank "7"; kubectl delete ns $(x)\n\u202eslow — ünïcode'
MARKING = ("note", "avoid", "exclude", "drain", "quarantine")


def settled(world: Any, name: str) -> list[Any]:
    """Return the taints of a node as soon as its controller has told by one of its own whether it is cordoned.

    Controllers of old servers write the whole list from what they knew, and a change made meanwhile is lost.
    """
    where = f"/api/v1/nodes/{name}"

    def is_marked() -> bool:
        spec = world.client.get(where)["spec"]
        return ("node.kubernetes.io/unschedulable" in str(spec.get("taints"))) == bool(spec.get("unschedulable"))

    world.until(is_marked)
    return list(world.client.get(where)["spec"]["taints"])


def taints(world: Any, name: str) -> list[str]:
    """Return the taints that no controller sets by itself."""
    return list(world.kubernetes.command(Request("x", "note", name, "i", ""), world.kubernetes.look()).before["taints"])


@pytest.mark.parametrize("verb", MARKING)
def test_a_verb_leaves_its_marks_and_what_is_taken_back_leaves_no_trace(world: Any, verb: str) -> None:
    name = world.node()
    before = world.raw(name)
    command = world.command(verb, name)
    assert not command.refused and not command.nothing

    assert world.do(command).result == "done"

    state, now = world.state(name), world.raw(name)
    assert state.ours and state.reason == "skewscope:c0ffee rank 7 is slow"
    assert state.schedulable == (verb in ("note", "avoid"))
    assert now["labels"].items() >= before["labels"].items()
    assert now["annotations"].items() >= before["annotations"].items()
    assert taints(world, name)[0] == "nvidia.com/gpu=present:NoSchedule"
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is True
    assert {key: command.after[key] for key in command.before} == command.after

    assert world.do(world.undo(command)).result == "done"
    world.until(lambda: world.raw(name) == before)
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is False
    assert world.undo(command).nothing
    assert world.state(name).owner == ""


def test_a_note_is_a_condition_beside_ready_and_an_event(world: Any) -> None:
    name = world.node()
    world.do(world.command("note", name, why=NASTY))
    told = {one[0]: one[1:] for one in world.raw(name)["conditions"]}
    reason = Request("a1", "note", name, "c0ffee", NASTY).reason
    assert told["Ready"] == ("True", "fine") and told["SkewscopeSlow"] == ("True", reason)
    events = list(world.client.listed("/api/v1/events"))
    assert [one["message"] for one in events if one["involvedObject"]["name"] == name] == [reason]


@pytest.mark.parametrize("verb", MARKING)
def test_a_dry_run_is_checked_by_the_server_and_changes_nothing(world: Any, verb: str) -> None:
    name = world.node()
    before = world.client.get(f"/api/v1/nodes/{name}")
    outcome = world.do(world.command(verb, name), dry_run=True)
    assert (outcome.result, outcome.detail) == ("done", "the server would take it; nothing was changed")
    assert world.client.get(f"/api/v1/nodes/{name}") == before


def test_sent_twice_it_does_no_more_than_once(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    assert world.do(command).result == "done"
    version = world.client.get(f"/api/v1/nodes/{name}")["metadata"]["annotations"]
    assert world.do(command).result == "nothing"
    assert world.command("drain", name, act="a2").nothing
    assert world.client.get(f"/api/v1/nodes/{name}")["metadata"]["annotations"] == version


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_acts_lie_upon_one_another_and_come_off_in_any_order(world: Any, order: tuple[int, ...]) -> None:
    name = world.node()
    before = world.raw(name)
    commands = []
    for number, verb in enumerate(("note", "avoid", "exclude", "drain")):
        commands.append(world.command(verb, name, act=f"a{number}", incident=f"inc{number}"))
        assert world.do(commands[-1]).result == "done"
        settled(world, name)
    for number in order:
        assert world.do(world.undo(commands[number])).result == "done"
        settled(world, name)
        left = {"exclude", "drain"} & {commands[one].request.verb for one in order[order.index(number) + 1 :]}
        assert bool(world.raw(name)["spec"].get("unschedulable")) == bool(left)
    world.until(lambda: world.raw(name) == before)


def test_a_fence_of_somebody_else_is_not_touched(world: Any) -> None:
    cordoned = world.node("n1")
    world.patch(cordoned, {"spec": {"unschedulable": True}})
    key = "ToBeDeletedByClusterAutoscaler"
    tainted = world.node("n2", ({"key": key, "effect": "NoSchedule"},))
    for name, owner, why in ((cordoned, "somebody", "cordoned"), (tainted, key, f"taint {key}:NoSchedule")):
        state = world.state(name)
        assert (state.owner, state.reason, state.schedulable) == (owner, why, False)
        for verb in MARKING[1:]:
            assert "fenced by somebody else" in world.command(verb, name).refused
        assert world.do(world.command("note", name)).result == "done"


def test_who_cordoned_a_node_is_told_by_name(own: Any) -> None:
    name = own.node(unschedulable=True)
    own.inside.objects["nodes", "", name]["metadata"]["managedFields"] = [
        {"manager": "kubectl\ncordon", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}
    ]
    assert own.state(name).owner == "kubectl cordon"
    assert "n1 is fenced by somebody else: kubectl cordon" in own.command("drain", name).refused


@pytest.mark.parametrize(
    "theirs",
    [
        {"metadata": {"annotations": {"skewscope.io/drain": "mine, says bob"}}},
        {"spec": {"taints": [{"key": "skewscope.io/drain", "value": "bob", "effect": "NoSchedule"}]}},
    ],
)
def test_our_own_keys_in_the_hands_of_others_are_refused(world: Any, theirs: Any) -> None:
    name = world.node()
    world.patch(name, theirs)
    before = world.raw(name)
    command = world.command("drain", name)
    assert "is not ours" in command.refused and world.do(command).result == "refused"
    assert world.raw(name) == before


def test_what_changed_since_the_decision_is_a_conflict(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    world.patch(name, {"spec": {"taints": [WORLDS["OTHERS"], {"key": "bob", "effect": "NoExecute"}]}})
    before = world.raw(name)
    outcome = world.do(command)
    assert outcome.result == "conflict" and "bob:NoExecute" in outcome.detail
    assert world.raw(name) == before
    world.patch(name, {"spec": {"unschedulable": True}})
    assert world.do(command).result == "refused"


def test_the_taint_of_another_that_came_later_stays_when_ours_goes(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    world.do(command)
    held = settled(world, name)
    world.patch(name, {"spec": {"taints": [*held, {"key": "bob", "effect": "PreferNoSchedule"}]}})
    assert world.do(world.undo(command)).result == "done"
    world.until(lambda: taints(world, name) == ["nvidia.com/gpu=present:NoSchedule", "bob:PreferNoSchedule"])
    assert "unschedulable" not in world.raw(name)["spec"]


def test_undoing_is_refused_where_it_is_not_ours_any_more(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    world.do(command)
    taken = [one | {"value": "bob"} if one["key"] == "skewscope.io/drain" else one for one in settled(world, name)]
    world.patch(name, {"spec": {"taints": taken}})
    assert "is not ours any more" in world.undo(command).refused
    world.patch(name, {"metadata": {"annotations": {"skewscope.io/drain": "bob took it"}}})
    assert "is not ours any more" in world.undo(command).refused
    other = record(command) | {"act": "a9"}
    world.patch(name, {"metadata": {"annotations": {"skewscope.io/drain": "skewscope:c0ffee again"}}})
    assert "act a1 stands there now" in world.kubernetes.undo(other, world.kubernetes.look()).refused


def test_our_cordon_stays_while_somebody_else_fences_as_well(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    world.do(command)
    held = settled(world, name)
    world.patch(name, {"spec": {"taints": [*held, {"key": "example.com/nvsentinel", "effect": "NoSchedule"}]}})
    assert "somebody else fences it as well" in world.undo(command).refused


def test_a_person_who_uncordons_is_heard(world: Any) -> None:
    name = world.node()
    before = world.raw(name)
    command = world.command("drain", name)
    world.do(command)
    world.patch(name, {"spec": {"unschedulable": None}})
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is True  # the taint still fences
    world.patch(name, {"spec": {"taints": [WORLDS["OTHERS"]]}})
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is False
    assert world.do(world.undo(command)).result == "done"
    world.until(lambda: world.raw(name) == before)


def test_a_node_made_anew_bears_nothing_of_ours(world: Any) -> None:
    name = world.node()
    command = world.command("drain", name)
    world.do(command)
    world.client.send("DELETE", f"/api/v1/nodes/{name}", {})
    world.until(lambda: name not in world.kubernetes.look().nodes)
    assert world.undo(command).nothing
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is False
    world.node()
    assert world.undo(command).nothing


def test_names_that_are_not_listed_are_refused_before_anything_is_sent(own: Any) -> None:
    own.node()
    own.inside.asked.clear()
    for name in ("n2", "", "-n1", "../n1", "n1/status", 'n"1', "n1;reboot", "n1\nn2", "ñ1", "n1?dryRun=All"):
        command = own.command("drain", name)
        assert "lists no node" in command.refused and own.do(command).result == "refused"
    assert own.inside.asked == []


def test_an_act_without_an_id_is_refused(own: Any) -> None:
    name = own.node()
    assert "could not be taken back" in own.command("drain", name, act=" \n").refused
    assert "Kubernetes has no 'advise'" in own.command("advise", name).refused


def test_nodes_that_are_paused_or_of_the_control_plane_are_left_alone(world: Any) -> None:
    paused = world.node("n1", annotations={"skewscope.io/pause": "true"})
    control = world.node("n2", labels={"node-role.kubernetes.io/control-plane": ""})
    assert "is paused" in world.command("note", paused).refused
    assert "control plane" in world.command("drain", control).refused
    assert not world.command("note", control).refused


def test_nasty_text_is_sanitised_wherever_it_stands(world: Any) -> None:
    name = world.node()
    command = world.command("quarantine", name, act=NASTY, incident=NASTY, why=NASTY)
    assert world.do(command).result == "done"
    raw = world.raw(name)
    ours = [text for key, text in raw["annotations"].items() if key.startswith("skewscope.io/")]
    assert len(ours) == 2 and all(text.isascii() and not set(text) & set("\"'`$\\\n&|") for text in ours)
    assert world.kubernetes.holds(record(command), world.kubernetes.look()) is True
    assert world.do(world.undo(command)).result == "done"


def test_groups_racks_and_readiness_are_read(world: Any) -> None:
    labels = {"karpenter.sh/nodepool": "h100", "topology.kubernetes.io/rack": "r7"}
    name = world.node(labels=labels)
    state = world.state(name)
    assert (state.groups, state.rack, state.idle, state.schedulable) == (("h100",), "r7", True, True)
    sick = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    world.client.send("PATCH", f"/api/v1/nodes/{name}/status", sick)
    assert not world.state(name).schedulable
    world.node("n2", labels={"pool": "b"})
    selected = replace(world.kubernetes, node_selector=world.kubernetes.node_selector + ",pool=b")
    assert [one.removeprefix(world.prefix) for one in selected.look().nodes] == ["n2"]


def test_of_many_that_fence_a_node_at_once_one_does(world: Any) -> None:
    name = world.node()
    commands = [world.command("drain", name, act=f"a{number}") for number in range(6)]
    gate, results = threading.Barrier(len(commands)), {}

    def send(command: Any) -> None:
        gate.wait()
        results[command.request.act] = world.kubernetes.apply(command, dry_run=False).result

    threads = [threading.Thread(target=send, args=(command,)) for command in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stands = world.raw(name)["annotations"]["skewscope.io/drain-act"]
    assert [act for act, result in results.items() if result == "done"] == [stands]
    assert set(results.values()) <= {"done", "nothing", "conflict"}
    assert [text for text in taints(world, name) if text.startswith("skewscope")] == [
        "skewscope.io/drain=c0ffee:NoSchedule"
    ]
