"""Puts together the files that are parts of one recording, before anybody asks which of them contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..contracts import Reading
from ._gather_read import Draft, fingerprint, holds

Join = Callable[[Sequence[Reading]], dict[str, str]]


def join(drafts: Sequence[Draft]) -> None:
    """Let readings that name a `join` in what they tell of the job be put together by it, in place.

    It sees all readings that name it, moves their rows to where they belong, and returns the path and reason of each
    that is none of the recording.
    """
    groups: dict[Join, list[Draft]] = {}
    for draft in drafts:
        if draft.readable and "join" in draft.reading.job:
            groups.setdefault(draft.reading.job.pop("join"), []).append(draft)
    for put_together, parts in groups.items():
        try:
            refused = put_together([draft.reading for draft in parts])
        except Exception as error:  # noqa: BLE001 - one format's bad files must never stop the others
            why = f"cannot be put together with the other parts: {type(error).__name__}: {error}"
            refused = dict.fromkeys((draft.path for draft in parts), why)
        for draft in parts:
            if draft.path in refused:
                draft.elsewhere = True
                draft.refuse(refused[draft.path])
            else:
                draft.holds = holds(draft.reading)
                draft.reading.fingerprint = f"{fingerprint(draft.reading)} {draft.path} {sorted(draft.holds.items())}"
