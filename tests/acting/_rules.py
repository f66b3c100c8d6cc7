"""The rules that no history may break, judged from the audit's lines and the writes to the cluster alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from skewscope.acting.audit import FIRST, checked

SECOND_NS, DAY_NS = 10**9, 86_400 * 10**9
FENCES = ("exclude", "drain", "quarantine")
STRONG = ("avoid", *FENCES)
STARTS = ("intended", "undoing")
RESULTS = ("done", "failed", "refused", "waiting", "recovered", "undone", "undo-failed")


def broken(story: Any) -> list[str]:
    """Return what was broken in a story, in words."""
    records = _chain(story.lines.data)
    found = [text for at, write in enumerate(story.writes) for text in _of_write(story, records, at, write)]
    return [*found, *_of_audit(story, records), *_of_end(story, records)]


def _chain(data: bytes) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    head = FIRST
    for line in bytes(data).splitlines():
        records.append(checked(line, len(records), head))
        head = json.loads(line)["hash"]
    return records


def _of_write(story: Any, records: list[dict[str, Any]], at: int, write: Any) -> Iterator[str]:
    before = records[: write.lines]
    what = f"{write.field} of {write.node} by act {write.act}"
    if write.by != write.holder:
        yield f"{what}: {write.by} wrote while {write.holder} held the lease"
    if write.stopped:
        yield f"{what}: though everything was stopped"
    if write.before and not write.before.startswith("skewscope:"):
        yield f"{what}: it overwrote {write.before!r}"
    own = [one for one in before if one.get("of", one.get("act")) == write.act]
    last = [one for one in own if one["phase"] in (*STARTS, *RESULTS, "reapplied")][-1:]
    begun = [
        one for one in last if one["phase"] in STARTS or (one["phase"], one.get("result")) == ("reapplied", "intended")
    ]
    if not begun:
        yield f"{what}: no line said so before"
        return
    if begun[0]["phase"] == "undoing":
        yield from _of_undo(story, at, write, what)
    elif begun[0]["phase"] == "intended":
        yield from _of_act(story, before[:-1], at, write, what, begun[0])


def _of_undo(story: Any, at: int, write: Any, what: str) -> Iterator[str]:
    sets = [one for one in story.writes[:at] if one.act == write.act and one.after]
    if not sets or write.after != sets[-1].before or write.before != sets[-1].after:  # set again: what was lost is gone
        yield f"{what}: the former state was not restored"


def _of_act(
    story: Any, before: list[dict[str, Any]], at: int, write: Any, what: str, intent: dict[str, Any]
) -> Iterator[str]:
    if write.owner not in ("", "skewscope"):
        yield f"{what}: the node is {write.owner!r}'s"
    if any(one.act == write.act and one.after == write.after for one in story.writes[:at]):
        yield f"{what}: done twice"
    breaker = [one["result"] for one in before if one["phase"] == "breaker"][-1:]
    if breaker == ["open"]:
        yield f"{what}: the breaker was open"
    if story.policy.default_mode == "approve" and write.field != "ticket":  # which is what calls a person
        asked = [one["phase"] for one in before if one.get("act") == write.act]
        if "approved" not in asked or "rejected" in asked or "expired" in asked:
            yield f"{what}: nobody said yes: {asked}"
    if write.field in FENCES:
        yield from _of_budget(story, before, write, what)
    if write.field in STRONG:
        yield from _of_rest(story, before, write, what, intent)


def _of_budget(story: Any, before: list[dict[str, Any]], write: Any, what: str) -> Iterator[str]:
    limits = story.policy.budget
    out = write.out | {write.node}
    if len(out) > limits.nodes_at_once:
        yield f"{what}: {len(out)} nodes out, {limits.nodes_at_once} allowed"
    day = {one["target"] for one in before if _is_fence(one) and write.now_ns - one["time_ns"] < DAY_NS}
    if len(day | write.foreign | {write.node}) > limits.nodes_per_day:
        yield f"{what}: {len(day | write.foreign | {write.node})} nodes in a day, {limits.nodes_per_day} allowed"
    racks = story.cluster.racks
    if sum(racks[one] == racks[write.node] for one in out) > limits.nodes_per_rack:
        yield f"{what}: too many of its rack are out"
    for job, nodes in write.jobs.items():
        if write.node in nodes and len(out & set(nodes)) > limits.nodes_per_job:
            yield f"{what}: too many nodes of job {job} are out"
    since = max((at for at, one in enumerate(before) if one["phase"] == "breaker"), default=-1)
    window_ns = story.policy.breaker.window_s * SECOND_NS
    first: dict[str, int] = {}  # act -> line of its first intent: what waits and is tried again is one act
    for at, one in enumerate(before):
        if one["phase"] == "intended" and one["verb"] in FENCES:
            first.setdefault(one["act"], at)
    late = {act for act, at in first.items() if write.now_ns - before[at]["time_ns"] < window_ns}
    recent = {act for act in late if first[act] > since}
    if len(recent - {write.act}) >= story.policy.breaker.acts:
        yield f"{what}: {len(recent)} acts within {window_ns / 60e9:.0f} min should have opened the breaker"


def _is_fence(record: dict[str, Any]) -> bool:
    stands = record["phase"] in ("done", "recovered") and record.get("result") == "done" and "of" not in record
    return stands and record.get("verb") in FENCES


def _of_rest(story: Any, before: list[dict[str, Any]], write: Any, what: str, intent: dict[str, Any]) -> Iterator[str]:
    """Say which cool-down was not kept: of the node, or of its job, after an act for another incident."""
    limits = story.policy.cool_down
    for one in before:
        moved = one["phase"] in ("done", "undone") and one.get("result") == "done" and one.get("verb") in STRONG
        if not moved or one["incident"] == intent["incident"]:
            continue
        age_s = (write.now_ns - one["time_ns"]) / SECOND_NS
        if one["target"] == write.node and age_s < limits.node_s:
            yield f"{what}: the node rests only {age_s:.0f} s"
        if one.get("job") and one.get("job") == intent.get("job") and age_s < limits.job_s:
            yield f"{what}: job {one['job']} rests only {age_s:.0f} s"


def _of_audit(story: Any, records: list[dict[str, Any]]) -> Iterator[str]:
    """Say which intents were left open, and which changes nobody wrote down."""
    open_acts: dict[str, str] = {}
    for one in records:
        name = one.get("of", one.get("act", ""))
        if one["phase"] in STARTS:
            if name in open_acts:
                yield f"act {name} began again ({one['phase']}) before its result was known"
            open_acts[name] = one["phase"]
        elif one["phase"] in RESULTS:
            open_acts.pop(name, None)
    yield from (f"act {name}: {phase}, and nobody knows what came of it" for name, phase in open_acts.items())


def _of_end(story: Any, records: list[dict[str, Any]]) -> Iterator[str]:
    """Say what of ours is left when all is well again."""
    for node, fields in story.cluster.nodes.items():
        for name, text in fields.items():
            if text.startswith("skewscope:"):
                yield f"{name} of {node} is left: {text}"
