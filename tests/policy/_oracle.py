"""What must never happen, told from the lines of an audit alone, apart from the code that decides."""

from __future__ import annotations

from typing import Any

FENCES = ("exclude", "drain", "quarantine")
STRONG = ("avoid", *FENCES, "requeue")
RUNGS = ("note", "avoid", "exclude", "drain", "quarantine", "ticket")
NS = 10**9


def acts(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fold the lines into one dictionary an act: when it began, was done and undone, whether it may stand."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["phase"] == "breaker":
            continue
        fresh = {"alive": False, "took": False, "tried_ns": -1, "times": [], "yes": {}, "tests": []}
        one = found.setdefault(line.get("of") or line["act"], {**fresh, **line})
        phase, now = line["phase"], line["time_ns"]
        if phase == "intended":
            one.update(alive=True, took=True)
            one["times"].append(now)
        elif phase == "done" or (phase == "recovered" and line["result"] == "done"):
            one.update(alive=line["result"] != "nothing", tried_ns=now)
            one["took"] = one["took"] and line["result"] != "nothing"
            one["times"].append(now)
        elif phase in ("failed", "recovered"):
            one.update(alive=False, took=False)
        elif phase == "undone":
            one.update(alive=False, tried_ns=-1)
            one["times"].append(now)
        elif phase == "approved":
            one["yes"][line["actor"]] = now
        elif phase == "tested":
            one["tests"].append((now, line["result"] == "pass"))
    return found


def broken(policy, lines, fleet, cases, around, decision) -> list[str]:
    """Return which rules carrying a decision out would break."""
    request, case, now = decision.request, decision.case, around.now_ns
    world = (policy, lines, acts(lines), fleet, cases, around)
    rules = (_place, _mode, _data, _evidence, _storm, _breaker, _rest, _rungs)
    found = [text for rule in rules for text in rule(world, request, case, now)]
    return found + (list(_limits(world, request, case, now)) if request.verb in FENCES else [])


def _place(world, request, case, now):
    _, lines, known, fleet, _, around = world
    node = fleet.nodes.get(request.target)
    if node is None or request.target != case.node or case.role != "culprit" or case.healthy:
        yield "no node at fault"
        return
    if node.owner not in ("", "skewscope") or (not node.schedulable and node.owner != "skewscope"):
        yield "somebody else's node"
    if any(line["phase"] == "intended" and line["act"] == request.act for line in lines):
        yield "twice"
    if around.stopped or any(labels.get("severity") == "critical" for labels in around.alarms):
        yield "stopped, or alarms burn"
    under_way = [one for one in known.values() if one["target"] == request.target and one["phase_now"] == "intended"]
    if under_way:
        yield "something is under way"


def _mode(world, request, case, now):
    policy, _, known, fleet, _, _ = world
    mode = (
        policy.mode("slurm", request.target, fleet.nodes[request.target].groups)
        if request.target in fleet.nodes
        else ""
    )
    if mode == "approve":
        yes = [
            at
            for at in known.get(request.act, {"yes": {}})["yes"].values()
            if at > now - policy.approval.expires_s * NS
        ]
        out = _out(world, request)
        many = request.verb in FENCES and len(out) > policy.approval.two_persons_above
        if len(yes) < (2 if many else 1):
            yield "without the yes of enough persons"
    elif mode != "act":
        yield "the mode is to look on"


def _data(world, request, case, now):
    policy, _, _, fleet, _, around = world
    if case.doubt or around.doubt:
        yield "doubted data"
    if not -5 * NS <= now - case.seen_ns <= policy.quality.stale_s * NS or now - fleet.read_ns > 60 * NS:
        yield "stale data"
    if request.verb in FENCES and not fleet.complete:
        yield "an incomplete fleet"


def _evidence(world, request, case, now):
    policy, _, known, _, _, _ = world
    hard = case.condition == "gpu-off-bus"
    begun = any(one["incident"] == case.incident and one["tried_ns"] >= 0 for one in known.values())
    if case.confidence < 0.8 or case.seen_count < 4 or (not hard and (case.steps < 50 or case.peers < 4)):
        yield "thin evidence"
    if not hard and 1 / (1 - case.share) < (1.1 if begun else 1.2):
        yield "not slow enough"


def _storm(world, request, case, now):
    _, _, _, _, cases, _ = world
    bad = sorted((one.opened_ns, one.node) for one in cases if one.node and not one.healthy and one.role == "culprit")
    for start, _ in bad:
        near = {node for at, node in bad if 0 <= at - start <= 900 * NS}
        if case.node in near and len(near) >= 3 and 0 <= case.opened_ns - start <= 900 * NS:
            yield "a storm"
            return


def _breaker(world, request, case, now):
    policy, lines, _, fleet, _, _ = world
    began: dict[str, int] = {}
    failures: list[int] = []
    is_open = False
    for line in lines:
        if line["phase"] == "breaker":
            is_open = line["result"] == "open"
            if not is_open:
                began, failures = {}, []
        elif line["phase"] == "intended" and line["verb"] in (*FENCES, "requeue"):
            began.setdefault(line["act"], line["time_ns"])
        elif line["phase"] == "failed":
            failures.append(line["time_ns"])
    since = now - policy.breaker.window_s * NS
    late = sum(at > since for at in began.values())
    if is_open or late >= policy.breaker.acts or sum(at > since for at in failures) >= policy.breaker.failures:
        yield "an open breaker"
    out = len(_out(world, None))
    if out > max(policy.breaker.out_nodes, policy.breaker.out_share * len(fleet.nodes)):
        yield "too many nodes out"


def _rest(world, request, case, now):
    policy, _, known, _, _, _ = world
    if request.verb == "ticket":
        return
    week = now - policy.cool_down.days_back * 86_400 * NS
    fenced = [
        one for one in known.values() if one["target"] == request.target and one["verb"] in FENCES and one["took"]
    ]
    incidents = {one["incident"] for one in fenced if one["times"][0] > week}
    if len(incidents - {case.incident}) >= policy.cool_down.offender_fences:
        yield "a repeat offender"
    node_s = policy.cool_down.node_s * policy.cool_down.factor ** max(len(incidents) - 1, 0)
    node_s = min(node_s, policy.cool_down.most_s)
    for one in known.values():
        if one["verb"] not in STRONG or not one["took"] or (one["incident"] == case.incident and one["alive"]):
            continue
        if one["target"] == request.target and now - max(one["times"]) < node_s * NS:
            yield "a node that rests"
        if one["job"] and one["job"] == case.job and now - max(one["times"]) < policy.cool_down.job_s * NS:
            yield "a job that rests"


def _rungs(world, request, case, now):
    policy, _, known, _, _, _ = world
    mine = [one for one in known.values() if one["incident"] == case.incident and one["target"] == request.target]
    tried = [one for one in mine if one["tried_ns"] >= 0 and one["verb"] in RUNGS]
    if any(RUNGS.index(one["verb"]) >= RUNGS.index(request.verb) for one in tried):
        yield "a rung that is behind us"
    if any(now - one["tried_ns"] < policy.ladder.step_s * NS for one in tried):
        yield "a rung without time for the one below"
    below = [verb for verb in policy.ladder.verbs if RUNGS.index(verb) < RUNGS.index(request.verb)]
    if request.verb != "ticket" and below and policy.ladder.start == "note" and not tried:
        yield "a first rung that is not the gentlest"


def _out(world, request):
    _, _, known, fleet, _, _ = world
    out = {name for name, node in fleet.nodes.items() if not node.schedulable}
    out |= {one["target"] for one in known.values() if one["alive"] and one["verb"] in FENCES}
    return out | ({request.target} if request else set())


def _limits(world, request, case, now):
    policy, _, known, fleet, _, _ = world
    limits, total = policy.budget, len(fleet.nodes)
    out = _out(world, request)
    if len(out) > min(limits.nodes_at_once, max(1, int(limits.share_at_once * total))):
        yield "too many at once"
    fenced = [one for one in known.values() if one["verb"] in FENCES and one["took"] and one["times"]]
    day = {one["target"] for one in fenced if now - max(one["times"]) < 86_400 * NS}
    foreign = {name for name, node in fleet.nodes.items() if not node.schedulable and node.owner != "skewscope"}
    if len(day | foreign | {request.target}) > min(limits.nodes_per_day, max(1, int(limits.share_per_day * total))):
        yield "too many in a day"
    here = fleet.nodes[request.target]
    if sum(fleet.nodes[name].rack == here.rack for name in out) > limits.nodes_per_rack:
        yield "too many of a rack"
    for group in here.groups:
        if sum(group in fleet.nodes[name].groups for name in out) > limits.nodes_per_group:
            yield "too many of a group"
    for job in here.jobs:
        if len(out & set(fleet.jobs[job].nodes)) > limits.nodes_per_job:
            yield "too many of a job"
    others = [one for one in fleet.nodes.values() if one.name not in out and not one.owner and one.schedulable]
    free = [one for one in others if one.idle and set(one.groups) & set(here.groups)]
    if here.jobs and len(free) < policy.capacity.spare_nodes:
        yield "no node to stand in"


def broken_return(policy, lines, fleet, cases, around, one) -> list[str]:
    """Return which rules a step of a return would break."""
    known, now, record = acts(lines), around.now_ns, one.record
    act, node = known[record["act"]], fleet.nodes.get(record["target"])
    if one.step == "drop":
        return [] if node is None or node.owner != "skewscope" else ["dropped what is ours"]
    if one.step not in ("undo", "test"):
        return []
    found = [] if act["alive"] else ["undid what does not stand"]
    if node is None or (node.owner not in ("", "skewscope") and record["verb"] in ("drain", "quarantine")):
        found.append("undid what is somebody else's")
    if around.stopped or around.doubt or now - act["tried_ns"] < policy.hysteresis.hold_s * NS:
        found.append("undid too soon, stopped or in doubt")
    for case in cases:
        if case.node == record["target"] and not case.healthy and (case.share > 0.1 or case.condition == "gpu-off-bus"):
            found.append("undid while the trouble stands")
    if one.step == "undo" and record["verb"] in FENCES:
        here = [one for one in known.values() if one["target"] == record["target"]]
        fences = [one for one in here if one["verb"] in FENCES and one["alive"]]
        since = max(one["tried_ns"] for one in fences)
        tests = sorted(test for one in here for test in one["tests"] if test[0] >= since)
        if not tests or not tests[-1][1] or now - tests[-1][0] >= policy.retest.again_s * NS:
            found.append("undid without a passed test")
    return found
