import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.readiness_series import METRIC, ReadinessSeries

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

DATA = Path(__file__).parents[2] / "../shared/data/spdl-dataloader-32rank/across_ranks_data_readiness.json"


def test_lists_become_samples(tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"event_time": [10, 70], "00": [1, null], "01": [0.5, 0.25]}')
    reading = ReadinessSeries().read(path)
    found = frame(*reading.batches[0])
    assert found["rank"].tolist() == [0, 1, 1] and found["value"].tolist() == [1.0, 0.5, 0.25]
    assert found["t_ns"].tolist() == [10**10, 10**10, 7 * 10**10] and set(found["metric"]) == {METRIC}
    assert reading.world_size == 2 and reading.warnings == ["1 values are missing"]


@pytest.mark.parametrize(
    "text", ['{"event_time": [1], "00": [1, 2]}', '{"event_time": []}', '{"event_time": [1], "00": [7]}', "{"]
)
def test_lists_that_do_not_fit_are_unreadable(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(Unreadable):
        ReadinessSeries().read(path)


def test_real_series_names_its_starved_ranks():
    if not DATA.exists():
        pytest.skip("shared data is not here")
    found = frame(*ReadinessSeries().read(DATA).batches[0])
    mean = found.groupby("rank")["value"].mean().sort_values()
    assert mean.index[:2].tolist() == [19, 0] and mean.iloc[0] == pytest.approx(0.21, abs=0.01)


@drawn
@given(
    st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=4).flatmap(
        lambda times: st.tuples(st.just(times), st.dictionaries(
            st.integers(0, 40), st.lists(st.none() | st.integers(0, 1000), min_size=len(times), max_size=len(times)),
            min_size=1, max_size=4,
        ))
    ),
    st.booleans(),
)  # fmt: skip
def test_every_value_comes_back_with_its_rank_and_time(tmp_path, told, times_last):
    times, lists = told
    pairs = [("event_time", times), *((f"{rank:02d}", [None if one is None else one / 1000 for one in values])
                                      for rank, values in lists.items())]  # fmt: skip
    path = tmp_path / "r.json"
    path.write_text(json.dumps(dict(pairs[::-1] if times_last else pairs)))
    want = sorted((rank, at * 10**9, value / 1000) for rank, values in lists.items()
                  for at, value in zip(times, values, strict=True) if value is not None)  # fmt: skip
    if not want:
        with pytest.raises(Unreadable, match="no value"):
            ReadinessSeries().read(path)
        return
    reading = ReadinessSeries().read(path)
    rows = frame(*reading.batches[0])[["rank", "t_ns", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == want and reading.world_size == max(lists) + 1
