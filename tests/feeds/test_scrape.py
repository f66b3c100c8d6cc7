"""The scraper against real sockets; time is given to it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from skewscope import frames
from skewscope.errors import UsageError
from skewscope.feeds.scrape import Scrape
from skewscope.feeds.targets import Targets, parse
from skewscope.feeds.wanted import wanted
from skewscope.signals.windows import is_counter, windows
from skewscope.sources.exposition_page import ExpositionPage
from skewscope.web.access import Access

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_fleet.py"))))
END = F.START_NS + F.WINDOW_NS
HALF = F.WINDOW_NS // 2
NAME = "rdma-retransmit"
KEY = ["metric", "labels", "node", "device", "job", "rank", "t_ns"]
GAUGE, COUNTER = "skewscope_gpu_power_watts", "skewscope_steps_total"


def page(watts=300.0, steps=5):
    return (f'{GAUGE}{{gpu="0",uuid="GPU-1",kind="instant"}} {watts}\n'
            f'{COUNTER}{{job_id="j",rank="3",gpu="0"}} {steps}\n').encode()  # fmt: skip


@pytest.fixture
def server():
    with F.fleet() as running:
        yield running


@pytest.fixture
def scraping(request):
    made = []

    def start(targets, **options):
        options = {"interval_s": 0.0, "clock_ns": lambda: END + 10**15, **options}
        feed = Scrape(targets, **options)
        feed.start()
        made.append(feed)
        return feed

    yield start
    for feed in made:
        feed.stop()


def row(table, metric):
    (found,) = table[(table["metric"] == metric).to_numpy()].to_dict("records")
    return found


def by_reader(found, tmp_path):
    """Return the table `windows` that pages saved to files give: {node: [(t_ns, page)]}."""
    samples = []
    for node, told in found.items():
        file = tmp_path / f"{node}.prom"
        file.write_bytes(b"".join(b"%d\n%s" % (t_ns // 10**6, text) for t_ns, text in told))
        columns = dict(ExpositionPage().read(file).batches)["samples"]
        samples.append(frames.frame("samples", columns))
    return windows(frames.concat("samples", samples))


def test_windows_are_those_that_the_same_pages_give_as_a_recording(server, scraping, tmp_path):
    nodes = sorted(F.told_pages(NAME, 2))
    feed = scraping([F.target(server, node) for node in nodes])
    found, told = {node: [] for node in nodes}, []
    # Two pages a window; a simulation has one, so three windows of it make one and a half here.
    for at in range(10):
        pages = F.told_pages(NAME, 18 + at)
        F.serve(server, pages)
        t_ns = END - F.WINDOW_NS + (at + 1) * HALF
        feed.ask(t_ns)
        for node, text in pages.items():
            found[node].append((t_ns, text))
        if at % 2:
            told.append(feed.window(t_ns))
    want = by_reader(found, tmp_path)
    want = want[want["metric"].isin(wanted()).to_numpy()].astype({name: str for name in KEY[:5]})
    have = pd.concat([one.tables["windows"].astype({name: str for name in KEY[:5]}) for one in told])
    counter = want["metric"].map(is_counter).to_numpy()
    grown = want[counter].groupby(KEY[:-1])["increase_value"].cumsum().reindex(want.index).fillna(0) > 0
    must = want[~counter | grown.to_numpy()]
    assert len(must) > 20_000 and (must["increase_value"] > 0).sum() > 1000
    both = must.merge(have, on=KEY, how="left", suffixes=("", "_have"), indicator=True)
    assert (both["_merge"] == "both").all(), both[both["_merge"] != "both"][KEY].head()
    for name in ("mean_value", "low_value", "high_value", "last_value", "increase_value", "samples_count"):
        np.testing.assert_allclose(both[f"{name}_have"], both[name], rtol=1e-12, err_msg=name)
    extra = have.merge(must[KEY], on=KEY, how="left", indicator=True)
    extra = extra[extra["_merge"] != "both"]
    assert (extra["increase_value"] == 0).all() and (extra["rank"] >= 0).all()
    for one in told:
        assert one.targets == one.answered == len(nodes) and one.stale == ()
        assert set(one.errors) <= {"n000: HTTP status 404"}  # the simulation misses a page now and then
        table = one.tables["windows"]
        assert frames.check("windows", table).equals(table) and set(table["t_ns"]) == {one.end_ns}
        ranks = one.tables["ranks"]
        assert len(ranks) == 64 and set(ranks["gpu"]) == set(range(8)) and set(ranks["job"]) == {"job"}
    # Sorted as `windows` sorts: metrics stand together.
    assert told[0].tables["windows"]["metric"].astype(str).is_monotonic_increasing


def test_growth_goes_on_from_the_window_before_and_restarts_are_no_growth(server, scraping):
    feed = scraping([F.target(server, "n1")])
    told = []
    for at, steps in enumerate((100, 110, 130, 3)):
        F.serve(server, {"n1": page(steps=steps)})
        feed.ask(END + at * F.WINDOW_NS)
        told.append(row(feed.window(END + at * F.WINDOW_NS).tables["windows"], COUNTER)["increase_value"])
    assert told == [0, 10, 20, 3]


def test_a_page_counts_in_the_window_in_which_it_was_asked_for(server, scraping):
    feed = scraping([F.target(server, "n1")])
    for at, watts in enumerate((100, 200, 300)):
        F.serve(server, {"n1": page(watts)})
        feed.ask(END - HALF + at * HALF)
    first, second, third = (feed.window(END + at * F.WINDOW_NS) for at in range(3))
    assert (row(first.tables["windows"], GAUGE)["mean_value"], first.samples) == (150, 4)
    assert (row(second.tables["windows"], GAUGE)["mean_value"], second.samples) == (300, 2)
    assert not len(third.tables["windows"]) and third.stale == ("n1",) and third.answered == 0


def test_quiet_counters_are_left_out_until_they_grow_and_unread_metrics_always(server, scraping):
    feed = scraping([F.target(server, "n1")])
    text = 'skewscope_rdma_errors_total{{device="mlx5_0",port="1",error="symbol"}} {}\nskewscope_host_cpus{{}} 8\n'
    told = []
    for at, errors in enumerate((7, 7, 9, 9)):
        F.serve(server, {"n1": text.format(errors).encode()})
        feed.ask(END + at * F.WINDOW_NS)
        told.append(feed.window(END + at * F.WINDOW_NS))
    assert [one.tables["windows"]["increase_value"].tolist() for one in told] == [[], [], [2], [0]]
    assert all(one.answered == 1 for one in told)


def broken_gzip(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")


def gzip_bomb(handler):
    import gzip

    body = gzip.compress(b"x" * (1 << 24))
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def cut_off(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nskewscope_steps_to")


def no_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def hang(handler):
    handler.server.hung.wait(20)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (500, "HTTP status 500"),
        (401, "HTTP status 401"),
        (302, "HTTP status 302"),
        (b"<html>hello</html>\n", "no series with a meaning here in 2 lines"),
        (b"", "no series with a meaning here in 1 lines"),
        (bytes(range(256)) * 20, "no series with a meaning"),
        (b"# " + b"x" * (1 << 21), "a page of more than 1048576 bytes"),
        (gzip_bomb, "a page of more than 1048576 bytes"),
        (broken_gzip, "a damaged gzip body"),
        (cut_off, "the connection was closed in an answer"),
        (no_http, "no HTTP"),
        (hang, "no answer within 0.3 s"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_bad_agent_is_told_and_harms_no_other(server, scraping, made, said):
    server.hung = threading.Event()
    server.pages = {"/bad/metrics": made, "/good/metrics": page()}
    feed = scraping([F.target(server, "bad"), F.target(server, "good")], timeout_s=0.3, most_bytes=1 << 20)
    feed.ask(END)
    told = feed.window(END)
    server.hung.set()
    assert (told.targets, told.answered, told.stale) == (2, 1, ("bad",))
    (error,) = told.errors
    assert error.startswith("bad: ") and said in error
    assert row(told.tables["windows"], GAUGE)["node"] == "good"
    # And it is well again when its page is.
    server.pages["/bad/metrics"] = page()
    feed.ask(END + F.WINDOW_NS)
    told = feed.window(END + F.WINDOW_NS)
    assert told.answered == 2 and told.errors == ()


def test_what_is_readable_of_a_damaged_page_counts(server, scraping):
    F.serve(server, {"n1": page() + b"{{{ nonsense\n" + b'skewscope_gpu_power_watts{gpu="1"\n'})
    feed = scraping([F.target(server, "n1")])
    feed.ask(END)
    told = feed.window(END)
    assert told.answered == 1 and told.errors == ("n1: 2 malformed lines (line 3, 4)",)
    assert len(told.tables["windows"]) == 2


def test_an_agent_that_is_gone_is_stale_with_a_reason(server, scraping):
    F.serve(server, {"n1": page()})
    with F.fleet() as other:
        gone = F.address(other)
    feed = scraping([F.target(server, "n1"), f"n2={gone}", "n3=does-not-exist.invalid:9400"])
    feed.ask(END)
    told = feed.window(END)
    assert told.stale == ("n2", "n3") and any(error.startswith("n2: ") and "refused" in error for error in told.errors)


def test_many_with_one_reason_are_one_line(server, scraping):
    feed = scraping([F.target(server, f"n{at:03d}") for at in range(40)])
    feed.ask(END)
    told = feed.window(END)
    assert len(told.errors) == 1 and "and 37 more: HTTP status 404" in told.errors[0]
    assert told.targets == 40 and len(told.stale) == 40


def test_a_bomb_of_labels_is_cut_and_memory_stays(server, scraping):
    feed = scraping([F.target(server, "bomb"), F.target(server, "n1")], most_series=100)
    sizes = []
    for at in range(90):
        bomb = b"".join(b'skewscope_gpu_power_watts{gpu="0",kind="k%d-%d"} 1\n' % (at, n) for n in range(3000))
        F.serve(server, {"bomb": bomb, "n1": page()})
        feed.ask(END + at * F.WINDOW_NS)
        told = feed.window(END + at * F.WINDOW_NS)
        assert told.errors == ("bomb: 3000 series, more than 100: the rest is left out",)
        assert len(told.tables["windows"]) == 102
        (agent, _), *_ = feed._agents.values()
        sizes.append((len(feed._cutter.roll), len(agent._known)))
    assert max(series for series, _ in sizes) < 5600  # not 9,000
    assert max(known for _, known in sizes) < 1400


def test_churn_keeps_growth_of_those_that_stay(server, scraping):
    feed = scraping([F.target(server, "n1")])
    for at in range(50):
        jobs = b"".join(
            b'skewscope_collectives_total{job_id="j%d-%d",rank="1",gpu="0",op="all_reduce",group="g"} 9\n' % (at, n)
            for n in range(300)
        )
        F.serve(server, {"n1": jobs + page(steps=10 * at)})
        feed.ask(END + at * F.WINDOW_NS)
        table = feed.window(END + at * F.WINDOW_NS).tables["windows"]
        if at:
            assert row(table, COUNTER)["increase_value"] == 10
        assert len(table) == 302 - (at == 0)
        assert len(feed._cutter.roll) < 11_500  # not 15,000


def test_connections_are_kept_and_opened_again_when_closed(server, scraping):
    F.serve(server, {"n1": page()})
    feed = scraping([F.target(server, "n1")])
    ports = []
    server.pages["/n1/metrics"] = lambda handler: ports.append(handler.client_address[1]) or page()
    feed.ask(END - 2)
    feed.ask(END - 1)
    server.pages["/n1/metrics"] = lambda handler: setattr(handler, "close_connection", True) or page()
    feed.ask(END)
    told = feed.window(END)
    assert ports[0] == ports[1] and told.errors == () and told.samples == 6


def test_the_file_of_targets_is_followed(server, scraping, tmp_path):
    F.serve(server, {"n1": page(), "n2": page()})
    file = tmp_path / "targets"
    file.write_text(f"# the fleet\n{F.target(server, 'n1')}\n")
    feed = scraping([str(file)])
    feed.ask(END)
    assert feed.window(END).targets == 1
    file.write_text(f"{F.target(server, 'n1')}\n{F.target(server, 'n2')}\n")
    feed.ask(END + F.WINDOW_NS)
    told = feed.window(END + F.WINDOW_NS)
    assert (told.targets, told.answered) == (2, 2)
    file.write_text("no address at all\n")
    feed.ask(END + 2 * F.WINDOW_NS)
    told = feed.window(END + 2 * F.WINDOW_NS)
    assert told.answered == 2 and any("is no address" in error for error in told.errors)


def test_login_and_tls(scraping, tmp_path):
    trustme = pytest.importorskip("trustme")
    import ssl

    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "password").write_text("s3cret\n")
    access = Access(user="watch", password_file=str(tmp_path / "password"), ca_file=str(tmp_path / "ca.pem"))
    with F.fleet(tls) as server:
        F.serve(server, {"n1": page()})
        feed, blind = (
            scraping([F.target(server, "n1", "https")], access=access),
            scraping([F.target(server, "n1", "https")]),
        )
        for one in (feed, blind):
            one.ask(END)
        assert feed.window(END).answered == 1
        assert server.seen[0][1]["Authorization"] == "Basic d2F0Y2g6czNjcmV0"
        told = blind.window(END)
        assert told.stale == ("n1",) and "TLS" in told.errors[0]
    with pytest.raises(UsageError, match="no certificate"):
        scraping([], access=Access(ca_file=str(tmp_path / "password")))


def test_it_asks_by_itself_spread_over_the_interval(server):
    nodes = [f"n{at}" for at in range(20)]
    F.serve(server, dict.fromkeys(nodes, page()))
    feed = Scrape([F.target(server, node) for node in nodes], interval_s=0.5)
    feed.start()
    try:
        deadline = time.monotonic() + 20
        while len(server.seen) < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        feed.stop()
    paths = [path for path, _ in server.seen[:100]]
    assert len(paths) == 100 and all(3 <= paths.count(f"/{node}/metrics") <= 7 for node in nodes)


def test_a_window_waits_for_the_clock_and_for_nothing_once_stopped(server):
    now = [END - 10**9]
    feed = Scrape([F.target(server, "n1")], interval_s=0, clock_ns=lambda: now[0])
    feed.start()
    ends = []
    waiting = threading.Thread(target=lambda: ends.append(feed.window(END).end_ns))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    feed.stop()
    waiting.join(5)
    assert ends == [END]


def test_foreign_exporters_become_ours(server, scraping):
    feed = scraping([F.target(server, "n1")])
    told = []
    for at in range(3):
        text = (
            'DCGM_FI_DEV_SM_CLOCK{gpu="0",Hostname="other"} 1410\n'
            f'DCGM_FI_DEV_XID_ERRORS{{gpu="0"}} {79 * (at == 2)}\n'
            f'node_infiniband_port_data_transmitted_bytes_total{{device="mlx5_0",port="1"}} {1000 * at}\n'
        )
        F.serve(server, {"n1": text.encode()})
        feed.ask(END + at * F.WINDOW_NS)
        told.append(feed.window(END + at * F.WINDOW_NS))
    last = told[2].tables
    assert row(last["windows"], "skewscope_gpu_clock_hertz")["mean_value"] == 1410e6
    assert row(last["windows"], "skewscope_rdma_transmit_bytes_total")["increase_value"] == 1000
    assert set(last["windows"]["node"]) == {"n1"}  # a name that was given counts more than the exporter's
    assert last["events"][["node", "device", "event", "code"]].values.tolist() == [["n1", "gpu0", "xid", 79]]
    assert not len(told[1].tables["events"])


@pytest.mark.parametrize("text", ["nonsense", "http://", "ftp://a:1", "a:99999", "n1=", "a:1\x01", "http://u:p@a:1"])
def test_no_address_is_refused(text):
    with pytest.raises(UsageError, match="target"):
        parse([text])


def test_a_missing_file_of_targets_is_told(tmp_path):
    targets, wrong = Targets([f"@{tmp_path}/none"]).now()
    assert targets == () and "No such file" in wrong
