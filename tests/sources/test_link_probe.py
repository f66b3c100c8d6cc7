import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.link_probe import LinkProbe

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

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


@drawn
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["rtt_us", "bw_mbps", "lost"])),
        st.none() | st.integers(-5, 10**9), max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
def test_each_pair_has_what_was_measured_of_it(tmp_path, probes, backwards):
    told = [{"src": src, "dst": dst, "metric": metric, "value": value} for (src, dst, metric), value in probes.items()]
    path = tmp_path / "p.json"
    path.write_text(json.dumps([dict(reversed(one.items())) if backwards else one for one in told]))
    reading = LinkProbe().read(path)
    good = {key: value for key, value in probes.items() if value and value > 0 and key[2] != "lost"}
    want = {
        (f"rank{src}", f"rank{dst}", good.get((src, dst, "rtt_us"), -0.001) * 1000,
         good.get((src, dst, "bw_mbps"), -8e-6) * 125_000)
        for src, dst, _ in good
    }  # fmt: skip
    rows = frame(*reading.batches[0])[["src", "dst", "latency_ns", "speed_bytes_per_s"]] if good else None
    found = set() if rows is None else set(rows.fillna(-1).itertuples(index=False, name=None))
    assert found == want and reading.events == len(probes)
    assert bool(reading.warnings) == (len(good) < len(probes))
    sources = {src for src, _, _ in good}
    assert reading.rank == (sources.pop() if len(sources) == 1 else -1)
