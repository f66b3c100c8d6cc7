"""The policy of a site: one TOML file, checked key by key. What it does not name has the careful default."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import sections as s
from ._consistency import check
from ._reading import known, section, table
from .sections import MODES

SCHEMA = "skewscope.policy/1"
OURS = ("mode", "dry_run", "groups")  # of a scheduler's table; the rest are its actuator's settings
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Policy:
    """All limits; `Policy()` is the default: it looks on and does nothing.

    >>> Policy().mode("slurm", "n1", ("gpu",)), Policy().budget.nodes_at_once
    ('observe', 1)
    """

    default_mode: str = "observe"
    schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dry_run: s.DryRun = s.DryRun()
    budget: s.Budget = s.Budget()
    breaker: s.Breaker = s.Breaker()
    storm: s.Storm = s.Storm()
    evidence: s.Evidence = s.Evidence()
    hysteresis: s.Hysteresis = s.Hysteresis()
    cool_down: s.CoolDown = s.CoolDown()
    ownership: s.Ownership = s.Ownership()
    work: s.Work = s.Work()
    retest: s.Retest = s.Retest()
    ladder: s.Ladder = field(default_factory=s.Ladder)
    approval: s.Approval = s.Approval()
    calendar: s.Calendar = s.Calendar()
    alarms: s.Alarms = s.Alarms()
    quality: s.Quality = s.Quality()
    capacity: s.Capacity = s.Capacity()
    rate: s.Rate = s.Rate()
    reconcile: s.Reconcile = s.Reconcile()
    watcher: s.Watcher = s.Watcher()
    economics: s.Economics = s.Economics()

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Return the policy of a TOML file; raises UsageError naming file, key and mend."""
        try:
            return cls.parse(tomllib.loads(path.read_text("utf-8")), str(path))
        except OSError as error:
            raise UsageError(f"cannot read the policy {path}: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
            raise UsageError(f"the policy {path} is not valid TOML: {error}") from None

    @classmethod
    def parse(cls, given: Mapping[str, Any], where: str = "policy") -> Policy:
        """Return the policy of decoded TOML; raises UsageError naming file, key and mend.

        >>> Policy.parse({"mode": "approve", "budget": {"nodes_at_once": 3}}).budget.nodes_at_once
        3
        """
        made: dict[str, Any] = {}
        for name, value in given.items():
            known(name, TOP, where)
            if name == "schedulers":
                told = table(value, f"{where}: schedulers")
                made[name] = {one: _scheduler(own, f"{where}: schedulers.{one}") for one, own in told.items()}
            elif name == "mode":
                made["default_mode"] = _mode(value, f"{where}: mode")
            elif name != "schema":
                made[name] = section(SECTIONS[name], value, f"{where}: {name}")
            elif value != SCHEMA:
                raise UsageError(f"{where}: schema {value!r} is not read here; it reads {SCHEMA!r}")
        policy = cls(**made)
        check(policy, where)
        return policy

    @cached_property
    def version(self) -> str:
        """The first 12 letters of the SHA-256 of the canonical settings: what the audit says was in force."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def document(self) -> dict[str, Any]:
        """Return all settings, defaults too, as a policy file would name them."""
        told = dataclasses.asdict(self)
        return {"schema": SCHEMA, "mode": told.pop("default_mode"), **told}

    def mode(self, scheduler: str, node: str = "", groups: Collection[str] = ()) -> str:
        """Return "observe", "approve" or "act": of the node's groups the most cautious, else of the scheduler.

        A group of `[schedulers.NAME.groups.GROUP]` holds for a node of the partition or node pool GROUP (`*` and `?`
        stand for anything), and for nodes that its `nodes` name.
        """
        own = self.schedulers.get(scheduler, {})
        told = [
            str(group["mode"]) for name, group in own.get("groups", {}).items()
            if any(fnmatchcase(one, name) for one in groups) or (node and is_named(node, group.get("nodes", ())))
        ]  # fmt: skip
        return min(told, key=MODES.index) if told else str(own.get("mode", self.default_mode))

    def is_looking_on(self, scheduler: str) -> bool:
        """Return whether no node of a scheduler may be acted upon, whatever its group.

        >>> Policy().is_looking_on("slurm"), Policy.parse({"mode": "approve"}).is_looking_on("slurm")
        (True, False)
        """
        groups = self.schedulers.get(scheduler, {}).get("groups", {}).values()
        return {self.mode(scheduler), *(str(one["mode"]) for one in groups)} == {"observe"}

    def settings(self, scheduler: str) -> dict[str, Any]:
        """Return the actuator's own fields of `[schedulers.NAME]`; lists are tuples."""
        own = self.schedulers.get(scheduler, {})
        return {name: _fixed(value) for name, value in own.items() if name not in OURS}

    def is_dry_run(self, scheduler: str, began_ns: int, now_ns: int) -> bool:
        """Return whether acts on a scheduler only go through the motions at `now_ns`.

        `dry_run` of `[schedulers.NAME]` decides, else the first days since `began_ns`, the first line of the audit (-1
        there is none yet).
        """
        told = self.schedulers.get(scheduler, {}).get("dry_run")
        if told is not None:
            return bool(told)
        first_ns = self.dry_run.first_days * DAY_NS
        return first_ns > 0 and (began_ns < 0 or now_ns - began_ns < first_ns)


SECTIONS: Mapping[str, Any] = {
    name: type(getattr(Policy(), name)) for name in (one.name for one in dataclasses.fields(Policy))
    if name not in ("default_mode", "schedulers")
}  # fmt: skip
TOP = ("schema", "mode", "schedulers", *SECTIONS)


def is_named(name: str, patterns: Collection[str]) -> bool:
    """Return whether a name is among patterns with * and ?.

    >>> is_named("n12", ("n1?", "login*"))
    True
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _scheduler(given: object, where: str) -> dict[str, Any]:
    """Return one scheduler's table with mode, dry_run and groups checked; the rest is the actuator's to check."""
    made = dict(table(given, where))
    if "mode" in made:
        _mode(made["mode"], f"{where}.mode")
    if not isinstance(made.get("dry_run", True), bool):
        raise UsageError(f"{where}.dry_run = {made['dry_run']!r}: wants true or false")
    groups = table(made.get("groups", {}), f"{where}.groups")
    if groups:
        made["groups"] = {name: _group(group, f"{where}.groups.{name}") for name, group in groups.items()}
    return made


def _group(given: object, where: str) -> dict[str, Any]:
    group = table(given, where)
    for name in group:
        known(name, ("mode", "nodes"), where)
    if "mode" not in group:
        raise UsageError(f"{where}: mode is missing; there are {', '.join(MODES)}")
    nodes = group.get("nodes", [])
    if not isinstance(nodes, list | tuple) or not all(isinstance(one, str) for one in nodes):
        raise UsageError(f'{where}.nodes = {nodes!r}: wants a list of names, as ["n1*"]')
    return {"mode": _mode(group["mode"], f"{where}.mode"), "nodes": tuple(nodes)}


def _mode(value: object, where: str) -> str:
    if value not in MODES:
        raise UsageError(f"{where} = {value!r}: is none of {', '.join(MODES)}")
    return str(value)


def _fixed(value: Any) -> Any:  # noqa: ANN401 - TOML values of any type
    return tuple(_fixed(one) for one in value) if isinstance(value, list | tuple) else value
