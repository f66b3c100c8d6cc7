"""The 27 safe-guards as a table: number, key, value, what it does; made from the sections of the policy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .settings import SECTIONS, Policy

NUMBERS: Mapping[str, int] = {  # of a section, or of one key where that is of another guard
    "dry_run": 2, "budget": 3, "budget.count_foreign": 4, "breaker": 5, "storm": 6, "evidence": 7, "hysteresis": 8,
    "cool_down": 9, "cool_down.offender_fences": 10, "cool_down.days_back": 10, "ownership": 11,
    "ownership.pause_label": 18, "work": 13, "retest": 15, "ladder": 16, "approval": 17, "calendar": 18, "alarms": 19,
    "quality": 20, "capacity": 21, "rate": 24, "reconcile": 26, "watcher": 27,
}  # fmt: skip
ALWAYS: Mapping[int, str] = {  # what no key can turn off
    11: "what we leave begins with skewscope:INCIDENT; nothing else is ever undone or overwritten",
    12: "state is read right before writing and must be as it was; whole lists are made anew from what was read",
    14: "disruption budgets and do-not-disrupt marks are respected; their no is waited for",
    22: "each act is written down before it happens, in a chain of hashes: skewscope audit verify",
    23: "the analysis only reads; acting has the identity that the scheduler's settings give it",
    24: "each request has a time limit; what is sent twice does no more than once",
    25: "each act names its incident; the end of another incident takes nothing back",
}


class Row(NamedTuple):
    """One line of the table; `number` 0 is the pricing, which is no guard. `default` is "" where the value is that."""

    number: int
    key: str
    value: str
    default: str
    does: str


def rows(policy: Policy) -> list[Row]:
    """Return the whole table with a policy's values, by number.

    >>> [row.value for row in rows(Policy()) if row.key == "budget.nodes_at_once"]
    ['1']
    """
    found = [*_modes(policy), *_always(), *_keys(policy)]
    return sorted(found, key=lambda row: row.number or 99)


def _modes(policy: Policy) -> Iterator[Row]:
    default = "observe"
    yield _row(1, "mode", policy.default_mode, default, "observe, approve or act, where nothing else is said")
    for name, own in policy.schedulers.items():
        yield _row(1, f"schedulers.{name}.mode", policy.mode(name), default, f"the same for {name}")
        if "dry_run" in own:
            yield _row(2, f"schedulers.{name}.dry_run", own["dry_run"], None, "instead of dry_run.first_days")
        for group, told in own.get("groups", {}).items():
            where = f"nodes of {group}" + (f" and {', '.join(told['nodes'])}" if told["nodes"] else "")
            yield _row(1, f"schedulers.{name}.groups.{group}.mode", told["mode"], default, where)


def _always() -> Iterator[Row]:
    return (Row(number, "", "always", "", does) for number, does in ALWAYS.items())


def _keys(policy: Policy) -> Iterator[Row]:
    for name, kind in SECTIONS.items():
        own, usual = getattr(policy, name), kind()
        for one in dataclasses.fields(kind):
            key = f"{name}.{one.name}"
            number = NUMBERS.get(key, NUMBERS.get(name, 0))
            yield _row(number, key, getattr(own, one.name), getattr(usual, one.name), one.metadata["does"])


def _row(number: int, key: str, value: object, default: object, does: str) -> Row:
    return Row(number, key, toml(value), "" if value == default or default is None else toml(default), does)


def toml(value: Any) -> str:  # noqa: ANN401 - any value of a policy
    """Return a value as TOML writes it.

    >>> toml(("a", "b")), toml({"a": "b"}), toml(True), toml(2.0)
    ('["a", "b"]', '{ "a" = "b" }', 'true', '2')
    """
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(name)} = {toml(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(one) for one in value)}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
