from hypothesis import given
from hypothesis import strategies as st

from skewscope.retest.pairs import turns


@given(st.integers(1, 24))
def test_everybody_meets_everybody_once(count):
    met = [set() for _ in range(count)]
    for turn in turns(count):
        for one, other in enumerate(turn):
            if other >= 0:
                assert turn[other] == one != other and other not in met[one]
                met[one].add(other)
    assert all(len(one) == count - 1 for one in met)
