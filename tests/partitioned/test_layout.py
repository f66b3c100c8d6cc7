"""Which recordings are read in parts, and where the cuts are."""

import pytest

from skewscope.frames import frame
from skewscope.partitioned import layout


def test_ranges_cover_all_steps_without_overlap(job):
    found = layout([job[0]], 0)
    assert found.rows == {name: job[1]["rows"][name] for name in found.rows}
    for rows in (1, 2000, 10**9):
        ranges = found.ranges(rows)
        assert [step for first, last in ranges for step in range(first, last + 1)] == list(range(36))
    assert len(found.ranges(1)) == 36 and len(found.ranges(10**9)) == 1
    assert {path.name for path in found.others} == {"groups.parquet", "ranks.parquet", "job.json", "truth.json"}


def test_a_piece_knows_its_row_groups(job):
    found = layout([job[0]], 0)
    piece = next(one for one in found.pieces if one.path.endswith("ops.steps-000006-000011.parquet"))
    assert [(group.first, group.last) for group in piece.groups] == [(step, step) for step in range(6, 12)]
    assert [group.place for group in piece.within(8, 9).groups] == [2, 3]


def test_a_small_recording_is_read_whole(job, monkeypatch):
    monkeypatch.setattr("skewscope.partitioned._layout._piece", lambda *_: pytest.fail("it would be read twice"))
    assert layout([job[0]]) is None


@pytest.mark.parametrize(
    "columns",
    [{"step": -1}, {"step": [0, 1 << 30]}, {"step": 3, "op": "forward_compute"}],
    ids=["steps-unknown", "steps-far-apart", "operation-level"],
)
def test_what_cannot_be_cut_is_read_whole(tmp_path, columns):
    rows = {"job": "job", "rank": [0, 1], "op": "kernel", "stream": 7, "start_ns": 10**18, "end_ns": 10**18 + 5}
    frame("ops", {**rows, **columns}).to_parquet(tmp_path / "ops.parquet", index=False)
    calls = {"job": "job", "step": 3, "rank": [0, 1], "group": "0", "seq": 1, "op": "all_reduce", "blocking": True}
    frame("collectives", calls).to_parquet(tmp_path / "collectives.parquet", index=False)
    assert layout([tmp_path], 0) is None


def test_no_broken_footer_ends_the_process_or_speaks_past_us(tmp_path, capfd):
    path = tmp_path / "steps.parquet"
    rows = {"job": "job", "step": [1, 2], "rank": 0, "phase": "step", "start_ns": 10**18, "end_ns": 10**18 + 5}
    frame("steps", rows).to_parquet(path)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    calls = {"job": "job", "step": 1, "rank": [0, 1], "group": "0", "seq": 1, "op": "all_reduce", "blocking": True}
    frame("collectives", calls).to_parquet(tmp_path / "collectives.parquet", index=False)
    places = range(footer, min(len(whole) - 8, footer + 900), 3)
    for place in places:  # the columns' types, statistics and places
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        layout([tmp_path], 0)
    assert capfd.readouterr().err == ""
