"""Reads what a detector's file says of itself without running it, so that listing conditions stays instant."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .catalogue import Room, rooms

BY_COST = "by cost"
SEVERITY = re.compile(r"S[1-4]")


@dataclass(frozen=True)
class Outline:
    """One line of the catalogue: `severity` is one, a range, or "by cost" where the loss decides."""

    id: str
    title: str
    category: str
    severity: str


@cache
def outlines() -> tuple[Outline, ...]:
    """Return the outline of every condition, by category and id."""
    made = (outline(room) for room in rooms("detectors"))
    return tuple(sorted(made, key=lambda one: (one.category, one.id)))


def outline(room: Room) -> Outline:
    """Return the outline of one condition, from the syntax tree of its file."""
    spec = find_spec(room.module)
    if spec is None or spec.origin is None:
        return Outline(room.id, "", "", BY_COST)
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    lines = (ast.get_docstring(tree) or "").splitlines()
    classes = [part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == room.class_name]
    body = classes[0].body if classes else []
    said = {name: text for part in body for name, text in _constant(part)}
    severity = said.get("severity") or _severities(body)
    return Outline(room.id, lines[0].rstrip(".") if lines else "", said.get("category", ""), severity)


def _constant(part: ast.stmt) -> list[tuple[str, str]]:
    value = getattr(part, "value", None)
    target = getattr(part, "target", None) or next(iter(getattr(part, "targets", [])), None)
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and isinstance(target, ast.Name):
        return [(target.id, value.value)]
    return []


def _severities(body: list[ast.stmt]) -> str:
    nodes = [node for part in body for node in ast.walk(part)]
    if any(isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "severity" for node in nodes):
        return BY_COST
    found = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SEVERITY.fullmatch(node.value)
    }
    if not found:
        return BY_COST
    return min(found) if len(found) == 1 else f"{min(found)}-{max(found)}"
