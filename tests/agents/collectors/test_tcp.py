from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NoData

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import build, memory, told  # noqa: E402

Tcp = catalogue.room("agents.collectors", "tcp").kind()
AGAIN, DROPS, LOST = (f"skewscope_tcp_{what}_total" for what in ("retransmitted_segments", "drops", "lost_connections"))


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def root(tree: Path):
    return build(tree, hcas=0, gpus=0)


def test_everything_is_told(root):
    tcp = Tcp(root.place())
    found = told(tcp)
    assert set(found) == set(tcp.exports)
    assert found["skewscope_tcp_segments_total"] == {("transmit",): 5016, ("receive",): 7982}
    assert found["skewscope_tcp_connections"] == {(): 5} and found[AGAIN] == {(): 3}
    assert found[DROPS]["accept_queue_full",] == 4 and found[DROPS]["listen",] == 6
    assert found[LOST] == {("not_opened",): 1, ("reset",): 2, ("timeout",): 0}


@pytest.mark.parametrize(
    ("name", "metric", "labels"),
    [
        ("RetransSegs", AGAIN, ()),
        ("TCPTimeouts", "skewscope_tcp_timeouts_total", ()),
        ("ListenDrops", DROPS, ("listen",)),
    ],
)
def test_counters_show_at_the_next_look(root, name, metric, labels):
    tcp = Tcp(root.place())
    before = told(tcp)[metric][labels]
    root.bump_tcp(name, 12)
    assert told(tcp)[metric][labels] == before + 12


def test_columns_are_found_by_their_names(root):
    tcp = Tcp(root.place())
    told(tcp)
    root.snmp["Tcp"] = {"RetransSegs": 8, "Unheard": 9, "OutSegs": 10}
    root.bump_tcp("Unheard")
    found = told(tcp)
    assert found[AGAIN] == {(): 8} and found["skewscope_tcp_segments_total"] == {("transmit",): 10}
    assert "skewscope_tcp_connections" not in found and "skewscope_tcp_timeouts_total" in found


@pytest.mark.parametrize("content", ["", "Tcp: OutSegs RetransSegs", "Tcp: OutSegs RetransSegs\nTcp: 1 many", None])
def test_one_broken_file_does_not_hide_the_other(root, content):
    (root.proc / "net/snmp").unlink() if content is None else root.write("proc/net/snmp", content)
    found = told(Tcp(root.place()))
    assert AGAIN not in found and DROPS in found


def test_a_row_that_ends_early_gives_what_it_has(root):
    root.write("proc/net/snmp", "Tcp: RetransSegs OutSegs\nTcp: 4")
    found = told(Tcp(root.place()))
    assert found[AGAIN] == {(): 4} and "skewscope_tcp_segments_total" not in found


def test_two_broken_files_are_a_fault(root):
    for name in ("snmp", "netstat"):
        root.write(f"proc/net/{name}", "what")
    with pytest.raises(ValueError, match="has no pair of lines"):
        list(Tcp(root.place()).collect())
    for name in ("snmp", "netstat"):
        (root.proc / "net" / name).write_bytes(b"")
    with pytest.raises(OSError, match="cannot be read"):
        list(Tcp(root.place()).collect())


def test_a_machine_without_statistics_has_no_data(tree):
    with pytest.raises(NoData, match="no statistics of TCP"):
        list(Tcp(Place(proc=tree)).collect())


def test_this_machine():
    try:
        found = told(Tcp(Place()))
    except NoData:
        pytest.skip("this machine tells nothing of TCP")
    assert "skewscope_tcp_segments_total" in found
