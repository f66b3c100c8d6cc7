"""What holds of every plan, whatever it is about, and the inputs that property tests of several planners draw."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skewscope.plans import Plan

NEAR = 1 + 1e-9
# Distinct odd factors: no two workers are equally fast, so no tie is broken by the order of the workers.
UNLIKE = 1 + np.sqrt([2, 3, 5, 7, 11, 13, 17, 19]) / 1000


def numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a nested value with where it stands."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from numbers(one, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for at, one in enumerate(value):
            yield from numbers(one, f"{place}[{at}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, float(value)


def sound(plan: Plan, *, worse: bool = False, unknown: tuple[str, ...] = ()) -> Plan:
    """Check a plan and return it: its metrics are numbers, in words too, none is below its bound or worse than today.

    `worse` allows a proposal worse than today (one that fits where today's does not); `unknown` may be no number.
    """
    assert set(plan.current) <= set(plan.proposed)
    told = {"current": plan.current, "proposed": plan.proposed, "bound": plan.lower_bound, "gap": plan.gap}
    strange = {place: one for place, one in numbers(told) if not math.isfinite(one)}
    assert not {place for place in strange if place.rsplit(".", 1)[-1] not in unknown}, strange
    now, then = plan.current[plan.objective], plan.proposed[plan.objective]
    assert worse or then <= now * NEAR
    if plan.lower_bound is not None:
        assert plan.lower_bound <= then * NEAR
        assert plan.lower_bound == 0 if plan.gap is None else plan.gap >= -1e-9
        assert not plan.optimal or then <= plan.lower_bound * (1 + 1e-5) + 1e-12
    said = [plan.verdict, *plan.steps, *plan.warnings, *(one.text for one in plan.pictures)]
    assert not [text for text in said if re.search(r"\b(nan|inf|None)\b", text)]
    json.dumps(plan.document(), allow_nan=False)
    return plan


@st.composite
def times(draw: Callable, workers: tuple[int, int] = (2, 6), rounds: tuple[int, int] = (1, 16)) -> np.ndarray:
    """Draw own work [rounds, workers] of workers that differ for good, some of them slow now and then."""
    shape = draw(st.integers(*rounds)), draw(st.integers(*workers))
    mean = draw(arrays.arrays(float, shape[1], elements=st.sampled_from([0.5, 1.0, 1.0, 1.0, 2.0, 6.0])))
    slow = draw(arrays.arrays(float, shape, elements=st.sampled_from([1.0, 1.0, 1.0, 1.125, 3.0]), fill=st.just(1.0)))
    return mean * UNLIKE[: shape[1]] * slow
