"""The fields of a node or a job that an act touches, as they stand now: what a stale command is told by."""

from __future__ import annotations

import json
from typing import Any

from ..acts import OWNER, Fleet, JobState, NodeState
from ._slurm_hostlist import expand

JOB_FIELDS = ("excluded_nodes", "restarts")


def now(fields: tuple[str, ...], target: str, job: str, fleet: Fleet) -> dict[str, Any] | None:
    """Return those fields as they stand, None where the node or the job is not there any more."""
    if any(name in JOB_FIELDS for name in fields):
        found = fleet.jobs.get(job)
        return of_job(found, fields) if found else None
    node = fleet.nodes.get(target)
    return of_node(node, fields) if node else None


def of_node(node: NodeState, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return fields of a node; a reason counts only while it is a fence's."""
    known = {**node.native, "reason": node.reason if node.native["drained"] else ""}
    return {name: known[name] for name in fields}


def of_job(job: JobState, fields: tuple[str, ...] = JOB_FIELDS) -> dict[str, Any]:
    """Return fields of a job; the excluded nodes sorted, however Slurm shortens the list."""
    known = {"excluded_nodes": ",".join(sorted(expand(job.native["excluded"]))), "restarts": job.native["restarts"]}
    return {name: known[name] for name in fields}


def with_word(text: str, word: str) -> str:
    """Return a list joined by commas with one more word.

    >>> with_word("h100,rack1", "slow"), with_word("", "slow"), with_word("slow", "slow")
    ('h100,rack1,slow', 'slow', 'slow')
    """
    words = [one for one in text.split(",") if one]
    return ",".join(words if word in words else [*words, word])


def without_word(text: str, word: str) -> str:
    """Return a list joined by commas without a word.

    >>> without_word("h100,slow,rack1", "slow")
    'h100,rack1'
    """
    return ",".join(one for one in text.split(",") if one and one != word)


def with_note(extra: str, note: dict[str, Any]) -> str | None:
    """Return the JSON of a node's Extra with our part; None where it is somebody's own text.

    >>> with_note("", {"act": "a1"}), with_note("rack 7, mended by Jo", {})
    ('{"skewscope":{"act":"a1"}}', None)
    """
    kept = _object(extra)
    return None if kept is None else json.dumps({**kept, OWNER: note}, separators=(",", ":"))


def without_note(extra: str) -> str:
    """Return the JSON of a node's Extra without our part.

    >>> without_note('{"skewscope":{"act":"a1"}}'), without_note('{"rack":7,"skewscope":{}}')
    ('', '{"rack":7}')
    """
    kept = _object(extra)
    if kept is None or OWNER not in kept:
        return extra
    del kept[OWNER]
    return json.dumps(kept, separators=(",", ":")) if kept else ""


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
