"""What was found in both runs, what is gone and what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .run import Document

Record = dict[str, Any]
ORDER = {"came": 0, "went": 1, "stayed": 2}


def compared(before: Document, after: Document) -> list[Record]:
    """Return a record for each finding of either report, of two `skewscope.report/1` documents; what came first.

    A finding is the same one where condition, role and subject are: names of jobs do not count, they differ by run.
    """
    first, second = _by_key(before), _by_key(after)
    records = [_record(key, first.get(key), second.get(key)) for key in first.keys() | second.keys()]
    return sorted(
        records,
        key=lambda one: (ORDER[one["state"]], one["severity"], -max(one["before_s"] or 0, one["after_s"] or 0),
                         one["condition"], one["subject"]),
    )  # fmt: skip


def _by_key(report: Document) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for one in report["findings"]:
        found.setdefault((one["condition"], one["role"], _plain(one["subject"])), one)
    return found


def _plain(subject: Mapping[str, Any]) -> str:
    """Return whom a finding concerns without the job's name.

    >>> _plain({"kind": "rank", "id": "llama/rank7"}), _plain({"kind": "job", "id": "llama"})
    ('rank7', 'job')
    """
    if subject["kind"] == "job":
        return "job"
    if subject["kind"] in ("rank", "group", "stage", "expert", "layer", "link"):
        return str(subject["id"]).partition("/")[2] or str(subject["id"])
    return str(subject["id"])


def _record(key: tuple[str, str, str], first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> Record:
    told = second or first
    assert told is not None  # noqa: S101 - a key stands in one of both
    return {
        "state": "stayed" if first and second else "came" if second else "went", "condition": key[0], "role": key[1],
        "subject": key[2], "severity": told["severity"],
        "before_s": first["cost"]["seconds_per_step"] if first else None,
        "after_s": second["cost"]["seconds_per_step"] if second else None,
        "summary": told.get("summary") or "",
    }  # fmt: skip
