"""What a re-test measured, as the document `skewscope.retest/1`: one JSON line a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import Unreadable

SCHEMA = "skewscope.retest/1"
VERDICTS = ("pass", "fail", "unsure", "unjudged")
Document = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One speed of one device, round by round: `values` [rounds] in units a second, higher is better.

    `name` is gemm, copy, to_device, from_device, link, loopback, pair or all_reduce; `unit` flops or bytes (a second);
    `device` as "gpu3", "cpu", "gpu0->gpu1"; `work` is what was done, as "bfloat16 8192": only equal work is compared.
    """

    name: str
    unit: str
    device: str
    work: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What one node measured at `time_ns`; `hardware` and `backend` must be equal for two results to be compared.

    `failures` are what could not be measured, in words. `verdict` and `why` are of the judge.
    """

    node: str
    time_ns: int
    hardware: str
    backend: str
    measures: tuple[Measure, ...] = ()
    failures: tuple[str, ...] = ()
    took_s: float = 0.0
    verdict: str = "unjudged"
    why: tuple[str, ...] = ()

    def document(self) -> Document:
        """Return it as plain JSON.

        >>> Result("n3", 5, "H100 x8", "torch 2.13").document()["schema"]
        'skewscope.retest/1'
        """
        return {"schema": SCHEMA, **asdict(self)}


def line(result: Result) -> str:
    """Return a result as the one line that is written and kept."""
    return json.dumps(result.document(), separators=(",", ":"), allow_nan=False)


def parsed(told: Mapping[str, Any]) -> Result:
    """Return the result of a document; raises Unreadable for any other."""
    try:
        if told["schema"] != SCHEMA:
            raise Unreadable(f"schema {told['schema']!r} is not {SCHEMA}")
        return _result(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"no {SCHEMA}: {type(error).__name__}: {error}") from None


def _result(told: Mapping[str, Any]) -> Result:
    verdict = str(told.get("verdict", "unjudged"))
    if verdict not in VERDICTS:
        raise ValueError(f"no verdict is called {verdict!r}")
    return Result(
        str(told["node"]), int(told["time_ns"]), str(told["hardware"]), str(told["backend"]),
        tuple(_measure(one) for one in told["measures"]), tuple(map(str, told.get("failures", ()))),
        float(told.get("took_s", 0.0)), verdict, tuple(map(str, told.get("why", ()))),
    )  # fmt: skip


def _measure(told: Mapping[str, Any]) -> Measure:
    values = tuple(float(value) for value in told["values"])
    if not values or not all(0 < value < float("inf") for value in values):
        raise ValueError(f"{told['name']} holds no speeds")
    return Measure(str(told["name"]), str(told["unit"]), str(told["device"]), str(told["work"]), values)


def found(text: str) -> list[Result]:
    r"""Return the results in what a program wrote; lines of others (a scheduler's, a library's) are passed over.

    Raises Unreadable where there is none: a program that said nothing has not tested anything.

    >>> [one.node for one in found("srun: job 7\n" + line(Result("n3", 5, "", "")))]
    ['n3']
    """
    results = []
    for one in text.splitlines():
        told = _decoded(one)
        if isinstance(told, dict) and told.get("schema") == SCHEMA:
            results.append(parsed(told))
    if not results:
        shown = " ".join(text.split())[:200]
        raise Unreadable(f"there is no {SCHEMA} in what was written: {shown or 'nothing'}")
    return results


def _decoded(text: str) -> object:
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
