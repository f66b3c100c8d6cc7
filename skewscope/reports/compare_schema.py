"""Schemas of runs beside each other (`skewscope.compare/1`, `skewscope.scaling/1`) and now (`skewscope.top/1`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
MAYBE: Schema = {"type": ["number", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
P: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1,
             "description": "two sided, of no difference; null where there are too few steps"}  # fmt: skip
SECONDS: Schema = {"type": ["number", "null"], "description": "seconds per step and rank"}
ANSWERS = ("slower", "faster", "no-difference", "too-few-steps", "unknown")
STATES = ("added", "removed", "slower", "faster", "same")


def compare() -> Schema:
    """Return the schema of `skewscope.compare/1`."""
    return _document("compare", {
        "before": _side(), "after": _side(), "step_time": _step_time(), "parts": _list(_part()), "ranks": _ranks(),
        "work": _list(_work()), "work_counts": _object(dict.fromkeys(STATES, COUNT)), "operators": _list(_operator()),
        "collectives": _list(_call()), "findings": _list(_finding()), "verdict": TEXT, "notes": _list(TEXT),
    })  # fmt: skip


def scaling() -> Schema:
    """Return the schema of `skewscope.scaling/1`."""
    value = _object({"value": NUMBER, "low": MAYBE, "high": MAYBE})
    fit = {"law": {"enum": ["amdahl", "gustafson", "usl"]},
           "parameters": {"type": "object", "additionalProperties": value},
           "error": {**NUMBER, "description": "largest share by which the law is off"}, "limit": TEXT}  # fmt: skip
    run = {
        "name": TEXT, "ranks": COUNT, "steps": COUNT, **dict.fromkeys(("step_s", "step_low_s", "step_high_s"), NUMBER),
        "tokens": {**MAYBE, "description": "of one step of the whole job"}, "throughput_per_s": NUMBER,
        "throughput_per_rank_per_s": NUMBER,
        "efficiency": {**NUMBER, "description": "against the smallest run, 1 = all"},
        "parts_s": {"type": "object", "additionalProperties": MAYBE},
    }  # fmt: skip
    grown = {"part": TEXT, "first_s": MAYBE, "last_s": MAYBE,
             "beyond_s": {**MAYBE, "description": "seconds per step and rank beyond perfect scaling"}}  # fmt: skip
    return _document("scaling", {
        "mode": {"enum": ["strong", "weak"]}, "mode_from": TEXT, "unit": TEXT, "runs": _list(_object(run)),
        "fits": _list(_object(fit)), "growth": _list(_object(grown)), "verdict": TEXT, "notes": _list(TEXT),
    })  # fmt: skip


def _side() -> Schema:
    return _object({"name": TEXT, "ranks": COUNT, "ranks_recorded": COUNT, "steps": COUNT, "formats": _list(TEXT)})


def _step_time() -> Schema:
    times = _object({"median": MAYBE, "p99": MAYBE})
    ratio = {**MAYBE, "description": "median after over median before"}
    return _object({
        "answer": {"enum": list(ANSWERS)}, "before_s": times, "after_s": times, "ratio": ratio, "low_ratio": MAYBE,
        "high_ratio": MAYBE, "level": {**NUMBER, "description": "of the interval low_ratio to high_ratio"}, "p": P,
    })  # fmt: skip


def _part() -> Schema:
    of_step = {**FLAG, "description": "whether it is one of the parts that add up to the step"}
    return _object(
        {"part": TEXT, "of_step": of_step, "before_s": SECONDS, "after_s": SECONDS, "change_s": SECONDS, "p": P}
    )


def _ranks() -> Schema:
    spread = _object({"ranks": COUNT, "least_s": NUMBER, "median_s": NUMBER, "most_s": NUMBER, "most_rank": COUNT})
    spread["type"] = ["object", "null"]
    changed = {"rank": COUNT, "node": TEXT, "before_s": SECONDS, "after_s": SECONDS, "wait_before_s": SECONDS,
               "wait_after_s": SECONDS, "change_s": SECONDS, "ratio": NUMBER}  # fmt: skip
    return _object({"same_ranks": FLAG, "before": spread, "after": spread, "changes": _list(_object(changed))})


def _work() -> Schema:
    per = {**NUMBER, "description": "per step and rank"}
    return _object({
        "kind": TEXT, "name": TEXT, "state": {"enum": list(STATES)}, "calls_before": per, "calls_after": per,
        "before_s": SECONDS, "after_s": SECONDS, "change_s": SECONDS, "ratio": MAYBE,
        "p": {**P, "description": "adjusted for the number of names (Benjamini and Hochberg)"},
    })  # fmt: skip


def _operator() -> Schema:
    numbers = [f"{what}_{side}{unit}" for side in ("before", "after")
               for what, unit in (("calls", ""), ("host", "_s"), ("launches", ""), ("device", "_s"))]  # fmt: skip
    return _object({
        "name": TEXT, **dict.fromkeys(numbers, NUMBER), "kernels_before": TEXT, "kernels_after": TEXT,
        "device_change_s": SECONDS, "host_change_s": SECONDS, "state": {"enum": list(STATES)},
    })  # fmt: skip


def _call() -> Schema:
    names = [
        f"{what}_{side}" for side in ("before", "after") for what in ("calls", "bytes", "transfer_s", "bus_bytes_per_s")
    ]
    return _object({"op": TEXT, **dict.fromkeys(names, MAYBE)})


def _finding() -> Schema:
    return _object({
        "state": {"enum": ["came", "went", "stayed"]}, "condition": TEXT, "role": TEXT, "subject": TEXT,
        "severity": TEXT, "before_s": MAYBE, "after_s": MAYBE, "summary": TEXT,
    })  # fmt: skip


def _document(name: str, properties: Schema) -> Schema:
    return _object({"schema": {"const": f"skewscope.{name}/1"}, **properties})


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def top() -> Schema:
    """Return the schema of `skewscope.top/1`, one look at a job that runs."""
    whole: Schema = {"type": ["integer", "null"]}
    job = {"name": TEXT, "ranks": whole, **dict.fromkeys(("step_s", "slowdown", "lost_gpus", "lost_gpu_hours"), MAYBE)}
    found = {
        **dict.fromkeys(("severity", "condition", "subject", "role", "state", "job", "node", "summary"), TEXT),
        "rank": whole, "cost_s": MAYBE, "share": MAYBE, "lost_gpus": MAYBE, "since_ns": whole,
    }  # fmt: skip
    numbers = ("util_ratio", "power_watts", "power_limit_watts", "temperature_celsius", "memory_ratio", "step_s",
               "work_ratio", "wait_ratio")  # fmt: skip
    row = {
        "rank": whole,
        **dict.fromkeys(("node", "gpu", "job", "state", "why"), TEXT),
        **dict.fromkeys(numbers, MAYBE),
    }
    made = _document("top", {
        "time_ns": whole, "source": TEXT, "verdict": TEXT, "jobs": _list(_object(job)),
        "findings": _list(_object(found)), "rows": _list(_object(row)), "wrong": _list(TEXT),
        "trouble": {**TEXT, "description": "why the rest is old or missing, empty where all is well"},
    })  # fmt: skip
    return {**made, "required": ["schema", "trouble"]}


def rank_times() -> Schema:
    """Return the schema of `skewscope.rank-times/1`, what a `watch` says of each rank at `/api/v1/ranks`."""
    row = {
        "job": TEXT, "rank": {"type": "integer", "minimum": 0}, "node": TEXT, "gpu": TEXT,
        "step_s": {**MAYBE, "description": "mean of the last window in which steps ended; null where none did lately"},
        "work_ratio": {**MAYBE, "description": "own work over the median of its job's ranks"},
        "wait_ratio": {**MAYBE, "description": "share of the step in collectives"},
    }  # fmt: skip
    time = {"type": "integer", "description": "end of the window last analysed"}
    return _document("rank-times", {"time_ns": time, "ranks": _list(_object(row))})


RUNS: dict[str, Callable[[], Schema]] = {
    "compare": compare, "scaling": scaling, "top": top, "rank-times": rank_times,
}  # fmt: skip
