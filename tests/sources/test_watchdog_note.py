import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.watchdog_note import WatchdogNote

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_note_is_one_event(tmp_path):
    path = tmp_path / "watchdog_rank3.json"
    path.write_text('{"rank": 3, "dumped_at_ns": 1795232410275177468, "no_progress_s": 8}')
    reading = WatchdogNote().read(path)
    found = frame(*reading.batches[0])
    assert WatchdogNote().sniff(path.read_bytes(), "") > 0.5 and reading.rank == 3
    assert found[["t_ns", "device", "event", "code"]].values.tolist() == [
        [1795232410275177468, "rank3", "no-progress", 8]
    ]


def test_a_torn_note_is_unreadable(tmp_path):
    path = tmp_path / "w.json"
    path.write_text('{"rank": 3, "no_progress_s"')
    with pytest.raises(Unreadable):
        WatchdogNote().read(path)


@drawn
@given(st.integers(-1, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(0, 10**12), st.booleans())
def test_a_note_holds_what_was_written(tmp_path, rank, t_ns, idle_s, as_text):
    note = {"no_progress_s": idle_s, "other": "ü", "dumped_at_ns": str(t_ns) if as_text else t_ns, "rank": rank}
    path = tmp_path / "w.json"
    path.write_text(json.dumps(note))
    reading = WatchdogNote().read(path)
    (row,) = frame(*reading.batches[0])[["t_ns", "device", "code"]].itertuples(index=False, name=None)
    assert row == (t_ns, f"rank{rank}" if rank >= 0 else "", min(idle_s, 2**31 - 1)) and reading.rank == rank
