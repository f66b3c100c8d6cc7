"""Takes an act back: exactly what was changed, only where it still is as it was left; says whether an act stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..acts import Command, Fleet, JobState, Request, Step, Values, plain_text
from . import _slurm_fields as fields
from ._slurm_commands import SCHEDULER, TEST_KIND, Road, reservation_name
from ._slurm_hostlist import expand

NO_WAY = "the REST service has no way to take this back; leave rest_url out to use scontrol"
Fields = dict[str, Any]


class _Not(Exception):
    """It must not be taken back: the text says why."""


def undo(record: Values, fleet: Fleet, road: Road) -> Command:
    """Return what takes the act of an audit record back."""
    left = record.get("undo") or {}
    verb, target, job = _who(record)
    request = Request(str(record.get("act", "")), verb if verb in BACK else "note", target,
                      str(record.get("incident") or ""), f"taken back: {record.get('reason') or ''}", job)  # fmt: skip
    was, wrote = dict(left.get("was") or {}), dict(left.get("now") or {})
    if verb not in BACK or not wrote:
        return Command(request, SCHEDULER, refused="the record does not say what was changed")
    stands = fields.now(tuple(wrote), target, job, fleet)
    if stands is None:
        return Command(request, SCHEDULER, nothing=True)
    try:
        after = BACK[verb](was, wrote, stands, fleet.jobs.get(job))
    except _Not as error:
        return Command(request, SCHEDULER, before=stands, after=stands, refused=str(error))
    tests = _tests(record, fleet)
    if after == stands and not tests:
        return Command(request, SCHEDULER, before=stands, after=stands, nothing=True)
    steps = [*(_steps(left, stands, after, road) if after != stands else ()), *map(road.unreserve, tests)]
    if tests:
        reserved = fleet.nodes[target].native["reservations"]
        stands, after = (
            stands | {"reservations": reserved},
            after | {"reservations": sorted(set(reserved) - set(tests))},
        )
    again = {"verb": verb, "target": target, "job": job, "was": stands, "now": after}
    missing = NO_WAY if None in steps else ""
    return Command(request, SCHEDULER, tuple(step for step in steps if step), stands, after, again, refused=missing)


def holds(record: Values, fleet: Fleet) -> bool | None:
    """Return whether an act stands now, None where that cannot be seen; an excluded node stands until its job is over.

    A drained node that is being tested is fenced by the reservation of the test.
    """
    wrote = (record.get("undo") or {}).get("now") or {}
    verb, target, job = _who(record)
    stands = fields.now(tuple(wrote), target, job, fleet)
    if verb == "exclude" and (stands is None or fleet.jobs[job].state == "over"):
        return False if fleet.complete else None
    if not wrote or stands is None:
        return None
    return bool(_tests(record, fleet)) or all(_holds(name, value, stands[name]) for name, value in wrote.items())


def _who(record: Values) -> tuple[str, str, str]:
    """Return verb, node and number of the job; the record's own job may be a name."""
    left = record.get("undo") or {}
    return str(left.get("verb", "")), str(left.get("target", "")), str(left.get("job", ""))


def _tests(record: Values, fleet: Fleet) -> list[str]:
    """Return the reservation of a re-test that runs, or was cut short."""
    verb, target, _ = _who(record)
    node = fleet.nodes.get(target)
    name = reservation_name(str(record.get("incident") or ""), str(record.get("act") or ""), TEST_KIND)
    return [name] if node is not None and verb == "drain" and name in node.native["reservations"] else []


def _holds(name: str, wrote: Any, stands: Any) -> bool:  # noqa: ANN401 - a field's value is text, number or list
    if name == "restarts":
        return bool(stands >= wrote)
    if name == "excluded_nodes":
        return set(expand(wrote)) <= set(expand(stands))
    if name == "reservations":
        return set(wrote) <= set(stands)
    if name in ("features", "active_features"):
        return set(wrote.split(",")) <= set(stands.split(","))
    return bool(stands == wrote)


def _resume(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    if not stands["drained"]:
        return stands
    if stands["reason"] != wrote["reason"]:
        raise _Not(f"the drain is not ours any more, its reason is now: {plain_text(stands['reason'])}")
    return was


def _unnote(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    after = dict(stands)
    if stands["comment"] == wrote["comment"]:
        after["comment"] = was["comment"]
    same = stands["extra"] == wrote["extra"]
    after["extra"] = was["extra"] if same else fields.without_note(stands["extra"])
    return after


def _unavoid(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    """Return the weight where it is still ours, and the features without ours, whatever was changed beside them."""
    after = dict(stands)
    if stands["weight"] == wrote["weight"]:
        after["weight"] = was["weight"]
    for key in ("features", "active_features"):
        if key in wrote:
            ours = set(wrote[key].split(",")) - set(was[key].split(","))
            kept = [one for one in stands[key].split(",") if one and one not in ours]
            after[key] = was[key] if stands[key] == wrote[key] else ",".join(kept)
    return after


def _unexclude(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    ours = set(expand(wrote["excluded_nodes"])) - set(expand(was["excluded_nodes"]))
    kept = sorted(set(expand(stands["excluded_nodes"])) - ours)
    after = stands | {"excluded_nodes": ",".join(kept)}
    if job is None or job.state == "over" or after == stands:
        return stands
    if job.state != "pending":
        raise _Not(f"job {job.id} is {job.state}: its list can be changed only while it waits; it ends with the job")
    return after


def _unquarantine(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    ours = set(wrote["reservations"]) - set(was["reservations"])
    return {"reservations": [one for one in stands["reservations"] if one not in ours]}


def _unrequeue(was: Fields, wrote: Fields, stands: Fields, job: JobState | None) -> Fields:
    raise _Not("a restart cannot be taken back")


def _steps(left: Values, stands: Fields, after: Fields, road: Road) -> list[Step | None]:
    verb, target, job = left["verb"], left["target"], left["job"]
    if verb == "drain":
        return [road.node(target, {"state": "UNDRAIN"})]
    if verb == "quarantine":
        gone = set(stands["reservations"]) - set(after["reservations"])
        return [road.unreserve(name) for name in sorted(gone)]
    if verb == "exclude":
        same = after["excluded_nodes"] == left["was"].get("excluded_nodes")
        return [road.exclude(job, left.get("raw", "") if same else after["excluded_nodes"])]
    return [road.node(target, _back(stands, after))]


def _back(stands: Mapping[str, Any], after: Mapping[str, Any]) -> Fields:
    return {key: value for key, value in after.items() if stands[key] != value}


BACK: dict[str, Callable[[Fields, Fields, Fields, JobState | None], Fields]] = {
    "drain": _resume, "note": _unnote, "avoid": _unavoid, "exclude": _unexclude, "quarantine": _unquarantine,
    "requeue": _unrequeue,
}  # fmt: skip
