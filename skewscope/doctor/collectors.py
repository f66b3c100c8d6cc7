"""The counters of this node: which of them can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..catalogue import load
from ..errors import SkewscopeError
from .answer import Answer

LONGEST = 120
DENIED = ("ermission", "not permitted", "privilege")


def collectors(spool: Path) -> Iterator[Answer]:
    """Yield one answer for the agent's collectors that read something, and one for each that fails."""
    try:
        node = load("agents.node").Node(load("agents.settings").Settings(spool=spool, archive=None))
    except (SkewscopeError, OSError) as error:
        yield Answer("this node", "agent", "trouble", f"cannot be started: {error}", "`skewscope agent --list -v`")
        return
    try:
        node.tick(render_within_s=8.0)
        outcomes = [
            (one.id, *((last.state, last.series, last.reason) if last else ("no answer", 0, "")))
            for one, last in node.outcomes()
        ]
    finally:
        node.close()
    reading = [row for row in outcomes if row[1] == "ok"]
    yield Answer("this node", "agent", "ok" if reading else "trouble",
                 f"{len(reading)} of {len(outcomes)} collectors read {sum(row[2] for row in reading)} series",
                 "" if reading else "`skewscope agent --list` says why")  # fmt: skip
    yield _gpus(outcomes)
    for name, state, _, reason in outcomes:
        if state not in ("ok", "no data", "off"):
            said = reason if len(reason) <= LONGEST else reason[:LONGEST] + " ..."
            denied = any(word in reason for word in DENIED)
            mend = "agents/deploy/README.md tells the rights that each collector wants" if denied else ""
            yield Answer(
                "this node", name, "trouble", f"{state}: {said}", mend or "`skewscope agent --list` tells more"
            )


def _gpus(outcomes: list[tuple[str, str, int, str]]) -> Answer:
    found = {name: (state, reason) for name, state, _, reason in outcomes}
    state, reason = found.get("nvml-device", ("no data", "no collector for GPUs"))
    if state == "ok":
        return Answer("this node", "GPUs", "ok", "NVML answers")
    return Answer(
        "this node", "GPUs", "absent", reason, "install the NVIDIA driver (libnvidia-ml.so.1) where there is a GPU"
    )
