"""Names and texts as jobs and nodes may bear them, and requests made of them."""

from __future__ import annotations

from skewscope.acts import ALLOWED, Request

NAMES = (
    "n1; touch owned", "$(touch owned)", "`touch owned`", "n1\nState=DOWN", 'n"1', "n'1", "-rf", "--help", "../n1",
    "/etc/passwd", "n1\x00", "nœud", "n1 n2", "n[1-3]", "{node}", "", "." * 300,
)  # fmt: skip
WHY = 'rank 7 of "job\'; rm -rf $HOME"\nis\tslow `now` \\ ünï'


def request(verb: str = "drain", target: str = "n1", act: str = "a1", incident: str = "c0ffee", **more) -> Request:
    return Request(act, verb, target, incident, more.pop("why", WHY), **more)


def record(made: Request, undo: dict) -> dict:
    """Return what the audit log holds of an act that was done."""
    return {
        "schema": "skewscope.action/1", "act": made.act, "verb": made.verb, "target": made.target, "job": made.job,
        "incident": made.incident, "reason": made.reason, "phase": "done", "undo": undo,
    }  # fmt: skip


def clean(text: str) -> bool:
    """Return whether a reason holds nothing but what `plain_text` lets through."""
    return set(text) <= ALLOWED
