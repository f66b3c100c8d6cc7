"""What the store keeps of a number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skewscope.store import numbers
from skewscope.store.numbers import VALUES, decode, encode, exactness, packed, rounded, unpacked

ODD = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.1, 1e-310, 1e300, -1e300, np.inf, -np.inf, np.nan, 2.0**24 - 1, 2.0**53 - 1]
number = st.one_of(st.sampled_from(ODD), st.floats(width=64), st.integers(-(10**6), 10**6).map(float))
rows = st.integers(1, 40).flatmap(lambda n: st.tuples(*[arrays(np.float64, n, elements=number)] * 5))


def there_and_back(values, kept):
    return decode(encode(values, kept))


def same(one, other):
    return np.array_equal(one, other, equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(rows, st.sampled_from([0, 1, 2]))
def test_any_numbers_come_back_as_rounded(values, exact):
    kept = np.full(len(values[0]), exact)
    found = there_and_back(values, kept)
    for name, given_values, got in zip(VALUES[1:], values[1:], found[1:], strict=True):
        assert same(got, rounded(given_values, kept)), name
    mean, low, high = values[:3]
    with np.errstate(all="ignore"):
        largest = np.maximum(np.abs(low), np.abs(high))
        near = np.abs(found[0] - mean) <= 2.0**-16 * largest
    assert (near | (found[0] == rounded(mean, kept)) | (np.isnan(found[0]) & np.isnan(mean))).all()


@settings(max_examples=100, deadline=None)
@given(rows)
def test_what_is_written_again_does_not_change(values):
    kept = np.zeros(len(values[0]), dtype=int)
    once = there_and_back(values, kept)
    for one, other in zip(once, there_and_back(once, kept), strict=True):
        assert same(one, other)


@settings(max_examples=150, deadline=None)
@given(arrays(np.int64, 20, elements=st.integers(-(2**63), 2**63 - 1)))
def test_steps_are_packed_without_loss(steps):
    assert unpacked(packed(steps)).tolist() == steps.tolist()


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_the_error_is_what_is_said(value):
    assert abs(rounded(np.array([value]), np.zeros(1))[0] / value - 1) <= 7.63e-6


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("skewscope_gpu_power_watts", 16777215.0),
        ("skewscope_collective_last_sequence", 2.0**40 + 1),
        ("skewscope_step_last_timestamp_seconds", 1750000050.123456),
    ],
)
def test_what_must_be_exact_is(metric, value):
    assert rounded(np.array([value]), np.array([exactness(metric)]))[0] == value


def test_other_large_numbers_are_rounded():
    value = np.array([2.0**40 + 1])
    assert rounded(value, np.array([exactness("skewscope_gpu_memory_used_bytes")]))[0] == 2.0**40


def test_two_samples_need_two_numbers():
    """The lowest, highest, last value and mean of two samples are two numbers; of equal ones, one."""
    low, high = np.array([1.0, 5.0, 3.0]), np.array([2.0, 6.0, 3.0])
    unknown = np.full(3, np.nan)
    absent = encode([(low + high) / 2, low, high, np.array([2.0, 5.0, 3.0]), unknown], np.zeros(3)).absent
    assert absent["mean"].all() and absent["inner"].all() and absent["increase"].all()
    assert absent["other"].tolist() == [False, False, True]


def test_a_counter_between_gauges_does_not_disturb():
    unknown = np.full(4, np.nan)
    increase = np.array([5.0, np.nan, np.nan, 7.0])
    assert same(there_and_back([unknown, unknown, unknown, np.arange(4.0), increase], np.zeros(4))[4], increase)
    assert numbers.DIGITS == 17
