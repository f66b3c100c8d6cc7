"""What we leave on a node for each verb, put on and taken off without touching what is somebody else's. Pure.

Each verb has keys of its own, `skewscope.io/VERB`, so that acts lie upon one another and come off in any order:

| verb | annotation | taint | label | besides |
|---|---|---|---|---|
| note | yes | | | node condition SkewscopeSlow |
| avoid | yes | PreferNoSchedule | yes | |
| exclude, drain | yes | NoSchedule | | cordon |
| quarantine | yes | NoSchedule | yes | |

The annotation holds the reason, `skewscope.io/VERB-act` the act. A cordon of ours is told by `skewscope.io/cordon`.

With the cordon goes the taint by which its controller tells of it. Left to the controller, it would write the list of
taints a moment later, and on servers of 1.20 from what it knew before: a taint that we took off came back (seen).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..acts import FENCES, OWNER, Request, Values, plain_text

DOMAIN = "skewscope.io"
CORDON = f"{DOMAIN}/cordon"
CONDITION = "SkewscopeSlow"
EFFECTS = {"avoid": "PreferNoSchedule", "exclude": "NoSchedule", "drain": "NoSchedule", "quarantine": "NoSchedule"}
CORDONS, LABELS = ("exclude", "drain"), ("avoid", "quarantine")
SERVERS_OWN = "node.kubernetes.io/"  # taints that the server itself puts and takes
CORDONED = {"key": f"{SERVERS_OWN}unschedulable", "effect": "NoSchedule"}
LONGEST_LABEL = 63


def mark(verb: str) -> str:
    """Return the key of a verb's annotation, taint and label.

    >>> mark("drain")
    'skewscope.io/drain'
    """
    return f"{DOMAIN}/{verb}"


def label_value(text: str) -> str:
    """Return text as the value of a label or taint: letters, digits, `-_.`, at most 63, a letter or digit at both ends.

    >>> label_value("inc 7/rank-3;")
    'inc_7_rank-3'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:LONGEST_LABEL].strip("_.-")


def act_name(act: str) -> str:
    """Return an act's id as it stands in an annotation."""
    return plain_text(act, LONGEST_LABEL)


def is_ours(text: str) -> bool:
    """Return whether a reason is of our making."""
    return text.startswith(f"{OWNER}:")


def taint_text(taint: Values) -> str:
    """Return a taint as kubectl writes it.

    >>> taint_text({"key": "a/b", "value": "1", "effect": "NoSchedule"})
    'a/b=1:NoSchedule'
    """
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


@dataclass(frozen=True)
class Marks:
    """The fields of a node that we touch: all its taints, our own labels and annotations, our condition's message."""

    unschedulable: bool = False
    taints: tuple[Values, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    condition: str = ""

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Marks:
        """Return them of a node as the API server gives it."""
        meta, spec = node.get("metadata") or {}, node.get("spec") or {}
        told = [one for one in (node.get("status") or {}).get("conditions") or () if one.get("type") == CONDITION]
        return cls(bool(spec.get("unschedulable")), tuple(spec.get("taints") or ()), _own(meta.get("labels")),
                   _own(meta.get("annotations")), str(told[0].get("message") or "?") if told else "")  # fmt: skip

    def view(self) -> dict[str, Any]:
        """Return them for people and comparison, without the taints that the server sets by itself."""
        shown = [taint_text(one) for one in self.taints if not str(one.get("key")).startswith(SERVERS_OWN)]
        return {"unschedulable": self.unschedulable, "taints": shown, "labels": dict(self.labels),
                "annotations": dict(self.annotations), "condition": self.condition}  # fmt: skip

    def act(self, verb: str) -> str:
        """Return the act whose mark of this verb stands, "" none."""
        return self.annotations.get(f"{mark(verb)}-act", "") if is_ours(self.annotations.get(mark(verb), "")) else ""

    def has(self, verb: str) -> bool:
        """Return whether a mark of this verb stands whole, of whatever act of ours."""
        cordoned = verb not in CORDONS or self.unschedulable
        labelled = verb not in LABELS or mark(verb) in self.labels
        noted = verb != "note" or is_ours(self.condition)
        return bool(self.act(verb)) and cordoned and labelled and noted and (verb not in EFFECTS or self._taint(verb))

    def works(self, verb: str) -> bool:
        """Return whether a mark does what it is for: a fence also where one of its two bars is gone."""
        if verb not in FENCES:
            return self.has(verb)
        cordoned = verb in CORDONS and self.unschedulable and is_ours(self.annotations.get(CORDON, ""))
        return bool(self.act(verb)) and (cordoned or self._taint(verb))

    def _taint(self, verb: str) -> bool:
        wanted = (mark(verb), EFFECTS[verb], label_value(_incident(self.annotations[mark(verb)])))
        return any((one.get("key"), one.get("effect"), one.get("value") or "") == wanted for one in self.taints)

    def foreign(self, verb: str) -> str:
        """Return which of a verb's own keys holds something that is not ours, "" none: it must not be written over."""
        if self.act(verb):
            return ""
        taken = [f"taint {taint_text(one)}" for one in self.taints if one.get("key") == mark(verb)]
        taken += [f"label {mark(verb)}"] * (mark(verb) in self.labels)
        taken += [f"annotation {mark(verb)}"] * (mark(verb) in self.annotations)
        if verb == "note" and self.condition and not is_ours(self.condition):
            taken.append(f"condition {CONDITION}")
        return taken[0] if taken else ""

    def put(self, request: Request) -> Marks:
        """Return them with the mark of a request."""
        key, verb = mark(request.verb), request.verb
        notes = {**self.annotations, key: request.reason, f"{key}-act": act_name(request.act)}
        cordon = verb in CORDONS and not self.unschedulable
        if cordon:
            notes[CORDON] = plain_text(f"{OWNER}:{plain_text(request.incident, 40)}")
        taints = tuple(one for one in self.taints if one.get("key") != key)
        if cordon and not any(one.get("key") == CORDONED["key"] for one in taints):
            taints += (CORDONED,)
        if verb in EFFECTS:
            value = label_value(_incident(request.reason))
            taints += ({"key": key, "value": value, "effect": EFFECTS[verb]},)
        labels = {**self.labels, key: "true"} if verb in LABELS else self.labels
        noted = request.reason if verb == "note" else self.condition
        return Marks(self.unschedulable or cordon, taints, labels, notes, noted)

    def take(self, verb: str) -> Marks:
        """Return them without the mark of a verb; the cordon goes with the last mark of ours that wants it."""
        key = mark(verb)
        notes = {name: text for name, text in self.annotations.items() if name not in (key, f"{key}-act")}
        left = Marks(self.unschedulable, tuple(one for one in self.taints if one.get("key") != key),
                     {name: text for name, text in self.labels.items() if name != key}, notes,
                     "" if verb == "note" else self.condition)  # fmt: skip
        if CORDON not in notes or any(left.act(other) for other in CORDONS):
            return left
        taints = tuple(one for one in left.taints if one.get("key") != CORDONED["key"])
        return replace(
            left, unschedulable=False, taints=taints, annotations={k: v for k, v in notes.items() if k != CORDON}
        )

    def changed(self, verb: str) -> str:
        """Return what of our mark somebody changed meanwhile, "" nothing: then it is not ours any more."""
        for taint in self.taints:
            if taint.get("key") == mark(verb) and not self._taint(verb):
                return f"taint {taint_text(taint)}"
        if verb == "note" and self.condition and not is_ours(self.condition):
            return f"condition {CONDITION}"
        return ""

    def reason(self) -> str:
        """Return the reason of our hardest mark, "" where we left none."""
        hardest = [self.annotations[mark(verb)] for verb in (*FENCES[::-1], "avoid", "note") if self.act(verb)]
        return hardest[0] if hardest else ""


def _own(texts: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (texts or {}).items() if key.startswith(f"{DOMAIN}/")}


def _incident(reason: str) -> str:
    """Return the incident of a reason of ours.

    >>> _incident("skewscope:c0ffee rank 7 is slow")
    'c0ffee'
    """
    return reason.removeprefix(f"{OWNER}:").split(" ")[0]
