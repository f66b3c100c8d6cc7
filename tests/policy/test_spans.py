from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.policy.spans import DAYS, span, zone


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon-Fri 08:00-18:00", "2025-06-16 08:00", "2025-06-16 18:00"),
        ("08:00-18:00", "2025-06-15 17:59", "2025-06-15 07:59"),
        ("Fri 22:00-06:00", "2025-06-21 05:59", "2025-06-20 05:59"),
        ("Sat-Mon 00:00-24:00", "2025-06-16 23:59", "2025-06-17 00:00"),
        ("2025-12-20 00:00/2026-01-02 08:00", "2026-01-02 07:59", "2026-01-02 08:00"),
    ],
)
def test_a_span_holds_from_its_start_to_before_its_end(text, inside, outside):
    assert span(text).holds(datetime.fromisoformat(inside).replace(tzinfo=UTC))
    assert not span(text).holds(datetime.fromisoformat(outside).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        *("", "Mon", "Mon 8-9", "Mon 08:61-09:00", "Mon 10:00-10:00", "Mo 08:00-09:00", "Mon 08:00-24:30"),
        *("a/b", "2025-01-02/2025-01-01", "2025-01-01T00:00+01:00/2025-01-02"),
    ],
)
def test_what_is_no_span_is_shown_how(text):
    with pytest.raises(ValueError, match="write 'Mon-Fri 08:00-18:00'"):
        span(text)


@given(st.sampled_from(DAYS), st.integers(0, 1439), st.integers(1, 1439), st.integers(0, 7 * 1440 - 1))
def test_a_weekly_span_holds_for_as_long_as_it_says(day, start, length, at):
    end = (start + length) % 1440
    told = span(f"{day} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
    monday = datetime(2025, 6, 16, tzinfo=UTC)
    since = (at - DAYS.index(day) * 1440 - start) % (7 * 1440)
    assert told.holds(monday + timedelta(minutes=at)) is (since < length)


def test_a_zone_that_is_unknown_is_named():
    assert zone("UTC") is UTC
    with pytest.raises(ValueError, match="'Nowhere/Land'"):
        zone("Nowhere/Land")
