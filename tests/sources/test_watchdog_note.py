import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.watchdog_note import WatchdogNote


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
