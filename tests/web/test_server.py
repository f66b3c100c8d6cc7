from __future__ import annotations

import re
import socket
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.web import _connection as connection_module
from skewscope.web import _reply as reply_module
from skewscope.web import _request as request_module

http = SimpleNamespace(**run_path(str(Path(__file__).with_name("_http.py"))))
CHUNK = b"800\r\n" + b"x" * 2048 + b"\r\n"
BODY, PACKED, GET, pages, serving = http.BODY, http.PACKED, http.GET, http.pages, http.serving
connect, read_reply, ask, until_end = http.connect, http.read_reply, http.ask, http.until_end


@pytest.fixture(scope="module")
def shared_server():
    with serving(header_timeout_s=1.0) as server:
        yield server


def test_a_scrape_gets_the_page_and_what_describes_it(shared_server):
    status, headers, body, rest = ask(shared_server, GET)
    assert (status, body, rest) == (200, BODY, b"")
    assert headers["content-type"] == "text/plain; version=0.0.4"
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
    assert "content-encoding" not in headers and "connection" not in headers and "server" not in headers


def test_a_packed_page_says_so(shared_server):
    _, headers, body, _ = ask(shared_server, GET[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
    assert headers["content-encoding"] == "gzip" and body == PACKED


def test_a_connection_serves_many_requests(shared_server):
    with connect(shared_server) as sock:
        for _ in range(3):
            sock.sendall(GET)
            assert read_reply(sock)[2] == BODY


def test_head_gives_the_head_alone(shared_server):
    with connect(shared_server) as sock:
        sock.sendall(GET.replace(b"GET", b"HEAD"))
        status, headers, _, rest = read_reply(sock, head_only=True)
        assert (status, headers["content-length"], rest) == (200, str(len(BODY)), b"")
        sock.sendall(GET)
        assert read_reply(sock)[2] == BODY


@pytest.mark.parametrize(
    ("request_head", "said"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", "close"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "close"),
    ],
)
def test_connections_end_where_the_client_wants_it(shared_server, request_head: bytes, said: str):
    with connect(shared_server) as sock:
        sock.sendall(request_head)
        status, headers, body, _ = read_reply(sock)
        assert (status, headers["connection"], body) == (200, said, BODY)
        assert sock.recv(1) == b""


def test_an_old_client_may_keep_its_connection(shared_server):
    with connect(shared_server) as sock:
        for _ in range(2):
            sock.sendall(b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            status, headers, _, _ = read_reply(sock)
            assert (status, headers["connection"]) == (200, "keep-alive")


def test_pipelined_requests_are_answered_in_order(shared_server):
    with connect(shared_server) as sock:
        sock.sendall(GET + GET.replace(b"/metrics", b"/nothing") + GET.replace(b"GET", b"HEAD") + GET[:-9])
        status, _, _, rest = read_reply(sock)
        assert status == 200
        status, _, _, rest = read_reply(sock, rest=rest)
        assert status == 404
        status, _, _, rest = read_reply(sock, rest=rest, head_only=True)
        assert status == 200 and rest == b""
        sock.sendall(GET[-9:])
        assert read_reply(sock)[0] == 200


def test_a_head_may_come_byte_by_byte(shared_server):
    with connect(shared_server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(GET)):
            sock.sendall(GET[at : at + 1])
        assert read_reply(sock)[0] == 200


@pytest.mark.parametrize("target", [b"/metrics?name=a&b=/", b"http://node:9709/metrics", b"http://node/metrics?x"])
def test_targets_of_every_form_find_their_page(shared_server, target: bytes):
    assert ask(shared_server, GET.replace(b"/metrics", target))[0] == 200


@pytest.mark.parametrize("target", [b"/asked?state=open&job=a%20b", b"/asked?a?b", b"/asked"])
def test_pages_see_the_query_as_it_came(shared_server, target: bytes):
    assert ask(shared_server, GET.replace(b"/metrics", target))[2] == target


def test_pages_see_lower_case_headers(shared_server):
    head = b"GET /seen HTTP/1.1\r\nHOST: a\r\nX-Two: 1\r\nx-two: 2\r\nX-High: \xe9\r\n\r\n"
    assert eval(ask(shared_server, head)[2]) == [("host", "a"), ("x-high", "é"), ("x-two", "1, 2")]


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (404, GET.replace(b"/metrics", b"/etc/passwd")),
        (404, GET.replace(b"/metrics", b"//metrics/../metrics")),
        (405, b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"),
        (405, GET.replace(b"GET", b"DELETE")),
        (405, b"BREW /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, b"CONNECT node:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"),
        (400, b"GET /metrics HTTP/9.9\r\nHost: a\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        (400, b"GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, b"\x00" * 100),
        (413, b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 4097\r\n\r\n"),
        (413, b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 19 + b"\r\n\r\n"),
        (413, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK * 3),
        (414, b"GET /" + b"m" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (414, b"GET /" + b"m" * 30_000),
        (431, GET[:-2] + b"X: " + b"y" * 16_384 + b"\r\n\r\n"),
        (431, GET[:-2] + b"X: " + b"y" * 100_000),
        (431, GET[:-2] + b"".join(b"X-%d: y\r\n" % at for at in range(101)) + b"\r\n"),
        (431, GET.replace(b"metrics", b"m" * 8000)[:-2] + b"X: " + b"y" * 8400 + b"\r\n\r\n"),
        (431, b"\r\n" * 10_000),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(shared_server, status: int, data: bytes):
    got, headers, body, _ = ask(shared_server, data)
    assert got == status
    assert body and (headers["content-type"].startswith("text/plain"))
    assert headers.get("connection") == ("close" if status != 404 else None)
    assert headers.get("allow") == ("GET, HEAD" if status == 405 else None)


def test_a_large_head_within_the_limit_is_read(shared_server):
    assert ask(shared_server, GET[:-2] + b"X: " + b"y" * 16_000 + b"\r\n\r\n")[0] == 200


def test_a_small_body_is_dropped(shared_server):
    with connect(shared_server) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + GET)
        rest = read_reply(sock)[3]
        assert read_reply(sock, rest=rest)[0] == 200


def test_a_trailer_counts_for_nothing(shared_server):
    chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAccept-Encoding: gzip\r\n\r\n"
    assert "content-encoding" not in ask(shared_server, GET[:-2] + chunks)[1]


def test_the_reply_to_a_bad_request_is_read_though_more_is_sent(shared_server):
    with connect(shared_server) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000))
        assert until_end(sock).startswith(b"HTTP/1.1 405 ")


def test_a_page_that_fails_is_500_and_told(shared_server, caplog: pytest.LogCaptureFixture):
    with connect(shared_server) as sock:
        sock.sendall(GET.replace(b"/metrics", b"/fails"))
        assert read_reply(sock)[0] == 500
        assert "cannot be made" in caplog.text
        sock.sendall(GET)
        assert read_reply(sock)[0] == 200


def test_every_reply_is_counted():
    counted = []
    with serving(on_reply=lambda path, status: counted.append((path, status))) as server:
        ask(server, GET)
        ask(server, GET.replace(b"/metrics", b"/else?x=y"))
        ask(server, b"garbage\r\n\r\n")
    assert counted == [("/metrics", 200), ("/else", 404), ("", 400)]


def test_dates_are_in_english_whatever_the_locale():
    assert reply_module.date(951827696.0) == "Tue, 29 Feb 2000 12:34:56 GMT"


def test_parts_are_sent_until_all_is_gone():
    """A send that takes a few bytes at a time, even of the head, loses and doubles nothing."""

    class Narrow:
        sent = b""

        def settimeout(self, left_s: float) -> None:
            assert left_s > 0

        def sendmsg(self, parts: tuple[bytes, bytes]) -> int:
            return self.send(b"".join(parts))

        def send(self, data: bytes) -> int:
            self.sent += bytes(data[:7])
            return len(data[:7])

    rules = connection_module.Rules(pages, lambda *_: None, 1.0, 1.0, 1.0)
    for lines in (b"short", b"seven..", b"a longer head"):
        sock = Narrow()
        connection_module.Connection(sock, rules)._send(lines, b"and the body of it")
        assert sock.sent == lines + b"and the body of it"


PIECES = st.sampled_from(
    [GET, GET[:9], GET[9:], b"\r\n", b"\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HEAD "]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), PIECES), max_size=12))
def test_no_bytes_make_the_parser_raise(pieces: list[bytes]):
    inbox = request_module.Inbox()
    whole = 0
    for piece in pieces:
        whole += len(inbox.feed(piece))
        assert inbox.refused in (0, *reply_module.REASONS)
    assert whole <= b"".join(pieces).count(b"\n")
    inbox.close()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.lists(st.sampled_from([GET, GET.replace(b"GET", b"HEAD")]), max_size=6))
def test_requests_do_not_depend_on_how_they_are_cut(size: int, requests: list[bytes]):
    data = b"".join(requests)
    inbox = request_module.Inbox()
    got = [one.method for at in range(0, len(data), size) for one in inbox.feed(data[at : at + size])]
    assert got == [one.split()[0].decode() for one in requests] and not inbox.begun and not inbox.refused


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_hang_a_connection(shared_server, data: bytes):
    with connect(shared_server) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = until_end(sock)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
