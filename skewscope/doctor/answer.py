"""What an examination gives: one row for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass

STATES = ("ok", "absent", "trouble")  # absent: not there, and nothing needs it unless somebody wants it


@dataclass(frozen=True)
class Answer:
    """One thing that was looked at: `found` says what is so, `mend` what to do where that is not ok."""

    area: str
    name: str
    state: str
    found: str
    mend: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state {self.state!r} is none of {', '.join(STATES)}")
