"""Every part with every fault, judged row by row. `make matrix` runs all; the usual command those that need no waiting.

SKEWSCOPE_MATRIX_MARKDOWN=FILE writes the table of outcomes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _matrix_files import ROWS as FILES
from _matrix_live import ROWS as LIVE
from _matrix_watch import ROWS as WATCH
from _rows import Impossible, markdown

ROWS = [*LIVE, *WATCH, *FILES]
TOLD = {}


@pytest.fixture(scope="module", autouse=True)
def _page():
    yield
    where = os.environ.get("SKEWSCOPE_MATRIX_MARKDOWN")
    if where and TOLD:
        Path(where).write_text(markdown({one: TOLD[one] for one in ROWS if one in TOLD}))


@pytest.mark.parametrize(
    "told", [pytest.param(one, id=one.name, marks=[] if one.quick else [pytest.mark.matrix]) for one in ROWS]
)
def test_what_must_hold_does(told, tmp_path):
    TOLD[told] = ("it ended with an error of its own", "FAILS")
    try:
        TOLD[told] = (told.live(tmp_path), "holds")
    except Impossible as reason:
        TOLD[told] = (str(reason), "not tried")
        pytest.skip(str(reason))
    except AssertionError as error:
        TOLD[told] = (str(error)[:300], "FAILS")
        raise
