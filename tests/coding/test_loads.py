"""Loads, delays and limits of the schemes, as published."""

from fractions import Fraction

import pytest

from skewscope.coding.approximate import Approximate
from skewscope.coding.fractional import Fractional
from skewscope.coding.gc import Gc
from skewscope.coding.heterogeneous import Heterogeneous
from skewscope.coding.m_sgc import MSgc, least_load
from skewscope.coding.sr_sgc import SrSgc
from skewscope.coding.uncoded import Uncoded
from skewscope.errors import UsageError


@pytest.mark.parametrize(("scheme", "load", "delay"), [
    (Uncoded(256), 1 / 256, 0), (Gc(256, 15), 0.0625, 0), (Gc(256, 0), 1 / 256, 0),
    (SrSgc(256, 2, 3, 23), 0.05078125, 2),
    (SrSgc(256, 1, 2, 6), 4 / 256, 1), (MSgc(16, 2, 3, 4), 5 / 48, 3), (MSgc(20, 1, 2, 20), 2 / 20, 1),
    (MSgc(256, 1, 2, 9), 10 * 2 / (256 * 11), 1), (MSgc(8, 1, 3, 0), 1 / 8, 2), (Fractional(256, 27), 1 / 9, 0),
    (Fractional(256, 15), 0.0625, 0), (Approximate(256, 2, 16), 2 / 256, 0), (Heterogeneous(1, 4, (3, 3, 2)), 0.75, 0),
], ids=str)  # fmt: skip
def test_loads_are_exact(scheme, load, delay):
    assert scheme.load == pytest.approx(load, rel=1e-15) and scheme.delay_rounds == delay and scheme.promise


def test_the_published_parameters():
    assert (Gc(256, 15).load, SrSgc(256, 2, 3, 23).load) == (0.0625, 0.05078125)
    assert MSgc(256, 1, 2, 27).load == pytest.approx(0.007543103448, abs=1e-12)
    assert MSgc(16, 2, 3, 4).load == 5 / 48
    assert SrSgc(256, 2, 3, 23).losses == 12


def test_the_load_of_m_sgc_is_what_its_chunks_add_up_to():
    """By the construction, in fractions: M tasks of (lambda + 1) u, all chunks together the whole batch."""
    for n, burst, window, most in [(16, 2, 3, 4), (7, 1, 4, 3), (9, 3, 5, 0), (5, 1, 2, 5)]:
        slots = window - 1 + burst
        if most == n:
            task = Fraction(1, n * (window - 1))
            whole = n * (window - 1) * task
        else:
            unit = Fraction(1, n * (burst + (window - 1) * (most + 1)))
            task = (most + 1) * unit
            whole = n * (window - 1) * task + burst * n * unit
        assert whole == 1 and MSgc(n, burst, window, most).load == pytest.approx(float(slots * task), rel=1e-15)


def test_m_sgc_stands_between_the_bound_and_gradient_coding():
    for n in (4, 9, 20):
        for burst, window in ((1, 2), (1, 5), (2, 3), (3, 4)):
            for most in range(n + 1):
                load = MSgc(n, burst, window, most).load
                assert load >= least_load(n, burst, window, most) - 1e-12
                assert most == n or load <= Gc(n, most).load + 1e-12
            for most in (n - 1, n):
                assert MSgc(n, burst, window, most).load == pytest.approx(least_load(n, burst, window, most))
    assert least_load(256, 1, 2, 27) == pytest.approx(0.004124, abs=1e-6)


@pytest.mark.parametrize(("scheme", "parameters", "words"), [
    (Gc, (8, 8), "0 to 7"), (Gc, (8, -1), "0 to 7"), (Fractional, (8, 8), "0 to 7"), (Uncoded, (0,), "at least 1"),
    (SrSgc, (8, 2, 4, 2), "W = x B"), (SrSgc, (8, 0, 1, 2), "at least 1"), (SrSgc, (8, 2, 2, 2), "W = x B"),
    (SrSgc, (8, 1, 2, 9), "0 to 8"), (SrSgc, (1, 1, 2, 1), "nobody"), (MSgc, (8, 2, 2, 3), "1 <= B < W"),
    (MSgc, (8, 0, 2, 3), "1 <= B < W"), (MSgc, (8, 1, 2, 9), "0 to 8"), (MSgc, (8, 1, 2, -1), "0 to 8"),
    (Approximate, (8, 9, 1), "1 to 8 copies"), (Approximate, (8, 2, 8), "fewer"),
    (Heterogeneous, (1, 4, (5, 3)), "0 and 4"),
    (Heterogeneous, (1, 4, (4, 3)), "sum to 7"),
], ids=str)  # fmt: skip
def test_parameters_that_cannot_be_are_refused(scheme, parameters, words):
    with pytest.raises(UsageError, match=words):
        scheme(*parameters)
