import numpy as np
import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.socket_statistics import SocketStatistics

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
