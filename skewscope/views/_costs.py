"""What a call of an operator must do at least, by its name and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ._arguments import Arguments, Cost, arguments, precision
from ._cost_attention import ATTENTION
from ._cost_matrix import MATRIX
from ._cost_moving import MOVING, touched

INDUCTOR = ("triton_poi_", "triton_per_", "triton_red_")  # kernels that torch.compile made
COSTS: dict[str, Callable[[Arguments], Cost | None]] = {**MOVING, **MATRIX, **ATTENTION}


def cost(name: str, of: Arguments) -> Cost | None:
    """Return the cost of one call, None where the operator or its arguments are not known.

    >>> cost("aten::relu", Arguments([[8]], ["float"], [])).moved_bytes
    64.0
    """
    formula = touched if name.startswith(INDUCTOR) else COSTS.get(name)
    if formula is None or not of.shapes:
        return None
    try:
        return formula(of)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None  # arguments of another version of the operator


def costs(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Return the cost per distinct (name, shapes, dtypes, values) of the operators in `frame`, where it is known.

    The index of the first answer is the number of the combination, the second [n] that of each row.
    """
    keys = ["name", "shapes", "dtypes", "values"]
    codes = np.zeros(len(frame), dtype=np.int64)
    for key in keys:
        part = frame[key].array
        codes = pd.factorize(codes * (len(part.categories) + 1) + part.codes)[0]
    first = np.unique(codes, return_index=True)[1]
    names = [frame[key].iloc[first].astype(object).to_numpy() for key in keys]
    rows = []
    for number, (name, shapes, dtypes, values) in enumerate(zip(*names, strict=True)):
        if name not in COSTS and not name.startswith(INDUCTOR):
            continue
        of = arguments(shapes, dtypes, values)
        found = cost(name, of)
        if found is not None:
            kinds = [kind for kind in map(precision, of.dtypes) if kind]
            moved = np.nan if found.moved_bytes is None else found.moved_bytes
            rows.append((number, float(found.flops), moved, found.unit, found.family, kinds[0] if kinds else ""))
    columns = ["combination", "flops", "moved_bytes", "unit", "family", "precision"]
    return pd.DataFrame(rows, columns=columns).set_index("combination"), codes
