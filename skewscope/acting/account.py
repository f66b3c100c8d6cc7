"""What an engine tells of itself: the document `skewscope.acts/1` of the API and of `act --json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..acts import FENCES
from ..policy.budgets import limit
from .engine import Engine

SCHEMA = "skewscope.acts/1"
LATEST = 200
DAY_NS = 86_400 * 10**9
Document = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """One moment of an engine. `mine`: it holds the lease; `fenced_s`: how long each fence of ours stands, by node."""

    document: Mapping[str, Any] = field(default_factory=dict)
    mine: bool = False
    turned_ns: int = -1
    breaker: str = ""
    waiting: int = 0
    counts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # scheduler, verb, phase
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fenced_s: Mapping[tuple[str, str, str], float] = field(default_factory=dict)  # scheduler, node, verb
    troubles: Mapping[str, str] = field(default_factory=dict)
    trust: Mapping[str, float] = field(default_factory=dict)


def account(engine: Engine, now_ns: int) -> Account:
    """Return the account of an engine at a time."""
    book = engine.book
    budgets = {name: budget(engine, name, now_ns) for name in engine.hands}
    troubles = {name: hand.trouble for name, hand in engine.hands.items()}
    document = {
        "schema": SCHEMA, "time_ns": now_ns, "turned_ns": engine.turned_ns, "holder": engine.held.owner,
        "mine": engine.held.mine, "policy": engine.policy.version, "head": book.audit.head,
        "modes": {name: engine.policy.mode(name) for name in engine.hands},
        "dry_run": {name: engine.is_dry_run(name, now_ns) for name in engine.hands}, "breaker": book.ledger.breaker,
        "budget": budgets, "troubles": {name: text for name, text in troubles.items() if text},
        "waiting": [proposal(engine, record) for record in book.ledger.waiting.values()],
        "standing": list(book.ledger.standing.values()), "trust": engine.trust.all(),
        "records": list(book.audit.records()[-LATEST:]),
    }  # fmt: skip
    return Account(
        document, engine.held.mine, engine.turned_ns, book.ledger.breaker, len(book.ledger.waiting), counts(engine),
        budgets, fenced(engine, now_ns), troubles, engine.trust.all(),
    )  # fmt: skip


def proposal(engine: Engine, record: Mapping[str, Any]) -> Document:
    """Return a proposal with those who said yes to it so far."""
    return {**record, "approved_by": sorted(engine.book.journal.approved.get(record["act"], ()))}


def budget(engine: Engine, scheduler: str, now_ns: int) -> dict[str, float]:
    """Return what of a scheduler's budget is spent: nodes out now and within a day, and their limits."""
    hand, ledger, limits = engine.hands[scheduler], engine.book.ledger, engine.policy.budget
    nodes = hand.fleet.nodes if hand.fleet is not None else {}
    ours = {act.target for act in ledger.fences(scheduler)}
    foreign = {name for name, node in nodes.items() if not node.schedulable and not node.ours}
    recent = {act.target for act in ledger.fenced(scheduler) if now_ns - act.touched_ns < DAY_NS}
    counted = foreign if limits.count_foreign else set()
    return {
        "nodes": len(nodes), "ours": len(ours), "foreign": len(foreign), "out": len(ours | counted),
        "at_once": limit(limits.nodes_at_once, limits.share_at_once, len(nodes)), "day": len(recent | counted),
        "per_day": limit(limits.nodes_per_day, limits.share_per_day, len(nodes)),
    }  # fmt: skip


def fenced(engine: Engine, now_ns: int) -> dict[tuple[str, str, str], float]:
    """Return for how many seconds each of our fences stands."""
    return {
        (record["scheduler"], record["target"], record["verb"]): max(0.0, (now_ns - record["time_ns"]) / 1e9)
        for record in engine.book.ledger.standing.values() if record["verb"] in FENCES
    }  # fmt: skip


def counts(engine: Engine) -> dict[tuple[str, str, str], int]:
    """Return how often each phase was written of each verb, by scheduler."""
    return dict(engine.book.counts)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[tuple[str, Any, Any]]:
    """Return what differs between two states of a scheduler: field, before, after.

    >>> changes({"State": "IDLE", "Reason": ""}, {"State": "DRAIN", "Reason": ""})
    [('State', 'IDLE', 'DRAIN')]
    """
    names = [*before, *(name for name in after if name not in before)]
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]
