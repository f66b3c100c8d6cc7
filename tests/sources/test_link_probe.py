import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.link_probe import LinkProbe

TEXT = (
    '[{"src": 0, "dst": 2, "metric": "rtt_us", "value": 281.8},'
    ' {"src": 0, "dst": 2, "metric": "bw_mbps", "value": 100},'
    ' {"src": 0, "dst": 1, "metric": "rtt_us", "value": null}]'
)


def test_pairs_get_speed_and_latency(tmp_path):
    path = tmp_path / "link_probe_rank0.json"
    path.write_text(TEXT)
    reading = LinkProbe().read(path)
    found = frame(*reading.batches[0])
    assert reading.rank == 0 and found[["src", "dst", "medium"]].values.tolist() == [["rank0", "rank2", "probe"]]
    assert found["speed_bytes_per_s"].tolist() == [12.5e6] and found["latency_ns"].tolist() == [281_800]
    assert len(reading.warnings) == 1


def test_an_empty_list_is_valid(tmp_path):
    path = tmp_path / "link_probe_rank3.json"
    path.write_text("[]")
    assert LinkProbe().sniff(b"[]", path.name) > 0 and LinkProbe().sniff(b"[]", "x.json") == 0
    assert LinkProbe().read(path).batches == []


@pytest.mark.parametrize("text", ["[", "{}", '[{"src": "a"}]', TEXT[:-5]])
def test_damage_is_unreadable(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(Unreadable):
        LinkProbe().read(path)
