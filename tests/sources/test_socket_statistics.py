import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.socket_statistics import SocketStatistics

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

HEAD = "Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n"
TEXT = (
    f"# step=-1 time_ns=100\n{HEAD}0 0 10.0.0.2:45271 10.0.0.3:50112\n"
    "bbr rtt:14.5/23.0 cwnd:162 bytes_sent:1000 send 1bps retrans:0/4 delivery_rate 800bps\n"
    "0 0 [::ffff:10.0.0.2]:34784 [::ffff:10.0.0.3]:42883\n"
    "bbr rtt:0.05/0.01 cwnd:26 bytes_sent:7 delivery_rate 80000bps app_limited\n"
    f"# step=10 time_ns=300\n{HEAD}ESTAB 0 0 10.0.0.2:45271 10.0.0.3:50112\n"
    "\t bbr rtt:2/1 cwnd:162 bytes_sent:5000 delivery_rate 16Kbps\n"
)


def test_the_busiest_connection_speaks_for_a_pair(tmp_path):
    path = tmp_path / "ss_rank1.txt"
    path.write_text(TEXT)
    reading = SocketStatistics().read(path)
    found = frame(*reading.batches[0])
    assert reading.job["addresses"] == ["10.0.0.2"] and reading.events == 3
    assert found["t_ns"].tolist() == [100, 300] and found["window_ns"].tolist() == [-1, 200]
    assert found["moved_bytes"].tolist() == [1007, 4000]
    assert np.allclose(found["speed_bytes_per_s"], [100, 2000]) and found["latency_ns"].tolist() == [
        14_500_000,
        2_000_000,
    ]
    samples = frame(*reading.batches[1])
    assert samples["value"].tolist() == [4.0, 0.0]


def test_send_queues_are_told_as_the_agent_tells_them(tmp_path):
    path = tmp_path / "ss_rank1.txt"
    path.write_text(TEXT.replace("0 0 10.0.0.2:45271", "7 900 10.0.0.2:45271").replace("0 0 [", "0 100 ["))
    told = {table["metric"][0]: table["value"].tolist() for table in map(lambda one: frame(*one),
            SocketStatistics().read(path).batches[1:])}  # fmt: skip
    assert told["skewscope_tcp_send_queue_bytes"] == [1000.0, 900.0]
    assert told["skewscope_tcp_send_queue_max_bytes"] == [900.0, 900.0]


def test_text_without_connections_is_unreadable(tmp_path):
    path = tmp_path / "ss.txt"
    path.write_text(HEAD)
    assert SocketStatistics().sniff(HEAD.encode(), "ss.txt") > 0
    with pytest.raises(Unreadable):
        SocketStatistics().read(path)


connections = st.dictionaries(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2)),  # dump, peer, port
    st.tuples(st.integers(0, 10**12), st.none() | st.integers(0, 10**6), st.none() | st.integers(1, 10**6),
              st.integers(0, 99)),
    min_size=1, max_size=8,
)  # fmt: skip


@drawn
@given(connections, st.booleans())
def test_what_moved_between_dumps_is_what_was_counted(tmp_path, drawn_connections, mapped):
    """The oracle follows each connection on its own: bytes since its last dump, summed over those of a pair."""
    lines, dumps = [], {}
    for (dump, peer, port), counted in sorted(drawn_connections.items()):
        dumps.setdefault(dump, {})[peer, port] = counted
    last, want = {}, {}
    for dump, seen in dumps.items():
        lines += [f"# step={dump} time_ns={dump * 1000}", HEAD.strip()]
        for (peer, port), (sent, rtt_us, kilobits, again) in seen.items():
            address = f"[::ffff:10.0.0.{peer}]" if mapped else f"10.0.0.{peer}"
            lines += [f"ESTAB 0 0 10.0.0.9%eth0:{port} {address}:7", "\t cubic cwnd:1"
                      + (f" rtt:{rtt_us / 1000}/1" if rtt_us is not None else "") + f" bytes_acked:{sent}"
                      + (f" delivery_rate {kilobits}Kbps" if kilobits else "") + f" retrans:0/{again}"]  # fmt: skip
            moved = max(sent - last.get((peer, port), (0, 0))[0], 0)
            before = last.get((peer, port), (0, -1))[1]
            last[peer, port] = (sent, dump)
            known = want.setdefault((dump, peer), [0, -1, None])
            known[0] += moved
            if sent > known[1]:
                known[1:] = [sent, (-1 if rtt_us is None else rtt_us * 1000, (kilobits or -8) * 125.0,
                                    -1 if before < 0 else (dump - before) * 1000)]  # fmt: skip
    path = tmp_path / "ss_rank1.txt"
    path.write_text("\n".join(lines) + "\n")
    rows = frame(*SocketStatistics().read(path).batches[0])
    rows["speed_bytes_per_s"] = rows["speed_bytes_per_s"].fillna(-1000.0)
    found = rows[["t_ns", "src", "dst", "moved_bytes", "latency_ns", "speed_bytes_per_s", "window_ns"]]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(
        (dump * 1000, "10.0.0.9", f"10.0.0.{peer}", moved, *chief) for (dump, peer), (moved, _, chief) in want.items()
    )
