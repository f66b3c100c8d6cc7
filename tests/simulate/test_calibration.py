from pathlib import Path

import pytest

from skewscope.simulate.calibration import calibration

DATA = Path(__file__).parents[3] / "shared/data"
# Signal -> how far the simulated quantile may lie from the real one.
WITHIN_RATIO = {"gpu power W": 0.15, "tensor activity": 0.30, "sm activity": 0.25, "worker spread": 0.15}
WITHIN_C = 7.0


@pytest.mark.skipif(not DATA.exists(), reason="no shared data")
def test_quantiles_are_near_real_ones():
    found = calibration(DATA)
    assert len(found) > 20
    for row in found.itertuples():
        if row.signal == "gpu temperature C":
            assert abs(row.simulated - row.real) < WITHIN_C, row
        else:
            assert row.simulated == pytest.approx(row.real, rel=WITHIN_RATIO[row.signal], abs=0.01), row
