"""What lasts, and how strong evidence shortens it."""

import numpy as np
import pytest

from skewscope.signals.persistence import lasting


def column(text):
    return np.array([[sign == "1"] for sign in text], dtype=bool)


def text(mask):
    return "".join("1" if one else "0" for one in mask[:, 0])


@pytest.mark.parametrize(
    ("mask", "strong", "need", "of", "left"),
    [
        ("011000", "011000", 3, 4, "011000"),  # two of three, all strong
        ("010100", "010100", 3, 4, "010100"),
        ("010010", "010010", 3, 4, "000000"),  # two of four are not two of three
        ("011000", "010000", 3, 4, "000000"),  # one is weak
        ("011000", "000000", 3, 4, "000000"),
        ("010000", "111111", 3, 4, "000000"),  # strong where nothing is says nothing
        ("111000", "000000", 3, 4, "111000"),  # weak evidence lasts as before
        ("100110", "000110", 3, 4, "000110"),  # weak evidence before does not ride along
        ("011100", "011100", 4, 5, "011100"),
        ("011000", "011000", 4, 5, "000000"),
        ("010000", "010000", 2, 3, "000000"),  # of two windows none can be spared
    ],
)
def test_strong_evidence_needs_one_window_less(mask, strong, need, of, left):
    assert text(lasting(column(mask), need, of, column(strong))) == left


def test_series_do_not_help_each_other():
    mask = np.hstack([column("0110"), column("0110")])
    strong = np.hstack([column("0110"), column("0000")])
    assert lasting(mask, 3, 4, strong).tolist() == [[False, False], [True, False], [True, False], [False, False]]


def test_without_strength_nothing_changes():
    rng = np.random.default_rng(3)
    mask = rng.random((40, 5)) < 0.5
    assert np.array_equal(lasting(mask, 3, 4), lasting(mask, 3, 4, np.zeros_like(mask)))
