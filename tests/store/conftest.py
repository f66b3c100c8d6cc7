"""Windows of a simulated fleet, and small ones made by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skewscope.frames import frame
from skewscope.simulate import simulate

sys.path.insert(0, str(Path(__file__).parent))  # _told.py, also for the processes that tests start


@pytest.fixture(scope="session")
def fleet() -> dict[str, pd.DataFrame]:
    """Return the tables of a simulated job with a fault."""
    return simulate("gpu-power-cap", 0).tables


@pytest.fixture(scope="session")
def each(fleet: dict[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the first 70 windows of the simulated job, one table each."""
    table = fleet["windows"]
    ends = np.unique(table["t_ns"])[:70]
    return [table[(table["t_ns"] == end).to_numpy()].reset_index(drop=True) for end in ends]


@pytest.fixture
def events() -> pd.DataFrame:
    return frame("events", {
        "t_ns": [29 * 10**9, -1], "node": ["n0", "n1"], "device": ["gpu3", ""], "event": ["xid", "restart"],
        "code": [79, -1], "message": ["GPU has fallen off the bus", ""],
    })  # fmt: skip
