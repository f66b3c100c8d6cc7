import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from skewscope.catalogue import load

pytest.importorskip("plotly")
heat = load("dashboards._heat")
FLOATS = some.floats(-1e3, 1e3, width=32) | some.just(float("nan"))


@given(arrays(np.float32, some.tuples(some.integers(1, 30), some.integers(1, 30)), elements=FLOATS),
       some.integers(1, 12), some.integers(1, 12))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_pooling_keeps_the_greatest_and_stays_small(values, rows, columns):
    found, high, wide = heat.pooled(values, rows, columns)
    assert found.shape[0] <= rows and found.shape[1] <= columns
    assert found.shape == (-(-values.shape[0] // high), -(-values.shape[1] // wide))
    assert np.isfinite(values).any() == np.isfinite(found).any()
    if np.isfinite(values).any():
        assert np.nanmax(found) == np.nanmax(values)


@given(arrays(np.float32, (4, 5), elements=FLOATS), some.floats(1e-9, 1e6), some.booleans())
def test_codes_are_read_back_within_half_a_level(values, end, diverging):
    codes, level, top, gaps = heat.coded(values, end, diverging=diverging)
    assert codes.dtype == (np.int8 if diverging else np.uint8) and top <= (127 if diverging else 254)
    known = np.isfinite(values)
    assert gaps == (~known).any()
    assert (codes[~known] == (-top - 1 if diverging else top + 1)).all()
    low = -end if diverging else 0.0
    inside = known & (values <= end) & (values >= low)
    assert (np.abs(codes[inside] * level - values[inside]) <= level * 0.5001).all()
    assert level == pytest.approx(10.0 ** round(np.log10(level)))


@given(*[some.floats(allow_nan=True, allow_infinity=True)] * 4)
def test_any_range_has_cells(x0, x1, y0, y1):
    matrix = heat.Matrix(np.zeros((7, 9), "f4"), [""] * 7, [""] * 9, "x", "y")
    found = heat.seen(matrix, x0, x1, y0, y1)
    assert 0 <= found.top < found.bottom <= 7 and 0 <= found.left < found.right <= 9


def test_a_wild_cell_does_not_end_the_colours_but_a_slow_row_does():
    quiet = np.full((300, 400), 0.01)
    quiet[7, 7] = 50.0
    assert heat.limit(quiet) < 0.1
    quiet[9] = 1.0
    assert heat.limit(quiet) == pytest.approx(1.0)


def test_unknown_cells_are_grey_and_large_maps_are_bytes():
    values = np.zeros((300, 400), "f4")
    values[0, 0], values[1] = np.nan, 0.5
    matrix = heat.Matrix(
        values, [str(at) for at in range(300)], [str(at) for at in range(400)], "step", "rank", "s", True
    )
    trace = heat.figure(matrix).data[0]
    assert trace.z.dtype == np.int8 and trace.z.shape == (300, 400)
    assert trace.zmin == trace.z.min() and trace.colorscale[0][1] == trace.colorscale[1][1]
    assert "500 ms" in heat._read(0.1, "s").replace("%{z}", "5")


def test_marks_outside_the_range_are_left_out():
    matrix = heat.Matrix(np.ones((9, 9), "f4"), [str(at) for at in range(9)], [str(at) for at in range(9)], "x", "y")
    figure = heat.figure(matrix, heat.Range(0, 3, 0, 9), [(1, "in"), (5, "out")])
    assert [mark.text for mark in figure.layout.annotations] == ["in"]


@pytest.mark.parametrize(
    ("unit", "greatest", "zero", "below"),
    [("s", 2.0, "00 ms", "< 10 ms"), ("share", 0.2, "0 per mille", "< 1 per mille"), ("C", 90.0, "0 C", "< 1 C")],
)
def test_level_zero_is_told_as_less_than_one_level(unit, greatest, zero, below):
    values = np.zeros((300, 200), dtype=np.float32)
    values[5] = greatest
    matrix = heat.Matrix(values, [""] * 300, [""] * 200, "step", "rank", unit)
    told = heat.figure(matrix).layout.meta
    assert told == {"zero": zero, "below": below, "whole": [-0.5, 199.5, 299.5, -0.5]}


def test_exact_cells_need_no_such_word():
    matrix = heat.Matrix(np.ones((3, 2), dtype=np.float32), [""] * 3, [""] * 2, "step", "rank")
    assert heat.figure(matrix).layout.meta == {"whole": [-0.5, 1.5, 2.5, -0.5]}
