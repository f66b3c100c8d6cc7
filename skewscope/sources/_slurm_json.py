"""Jobs in the JSON of Slurm's accounting, whose fields changed their form between versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def jobs(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield id, user, state, exit code, hosts, start and end (seconds, 0 unknown) of each job."""
    for job in content.get("jobs") or ():
        if not isinstance(job, dict):
            continue
        times, state = job.get("time") or {}, job.get("state") or {}
        current = state.get("current") if isinstance(state, dict) else state
        words = [str(word) for word in current] if isinstance(current, list) else [str(current or "")]
        yield {
            "id": str(job.get("job_id", "")), "user": str(job.get("user") or ""), "state": words[0] if words else "",
            "code": _code(job.get("exit_code")), "hosts": str(job.get("nodes") or ""),
            "start": _number(times.get("start")), "end": _number(times.get("end")),
        }  # fmt: skip


def _number(value: Any) -> int:  # noqa: ANN401 - plain, or {"set": true, "infinite": false, "number": 3}
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) else 0
    return int(value) if isinstance(value, int | float) and value == value else 0


def _code(value: Any) -> int:  # noqa: ANN401 - as Slurm writes it
    if not isinstance(value, dict):
        return _number(value)
    signal = value.get("signal") or {}
    number = _number(signal.get("id", signal.get("signal_id"))) if isinstance(signal, dict) else 0
    return 128 + number if number else _number(value.get("return_code"))
